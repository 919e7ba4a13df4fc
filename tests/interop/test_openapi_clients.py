"""Clients that are generated from the OpenAPI document: each is checked for types, and creates a job at a real node."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holon.engine.job_files import FilesPlace
from tests.blobs import MemoryBlobs
from tests.integration.http_node import AUTH, GUARD, TOKEN, Node, running
from tests.integration.test_openapi_schemathesis import metrics, ordering
from tests.interop.toolchains import OPENAPI

# What the generator of Python writes for every document, and mypy refuses.
MYPY = "[mypy]\nstrict = true\n[mypy-holon_api.client]\nignore_errors = true\n"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node with every route, whose document is in the folder of the test."""
    files = FilesPlace(MemoryBlobs(), tmp_path, "h")
    async with running(metrics=metrics, more=[ordering()], files=files) as node:
        reply = await node.client.get("/_public/openapi.json")
        (tmp_path / "openapi.json").write_bytes(reply.content)
        yield node


async def run(folder: Path, *command: str | Path, path: Path | None = None) -> str:
    """What a program prints that is run to its end."""
    env = os.environ | ({"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path is not None else {})
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 2 * GUARD)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def creates(node: Node, said: str) -> None:
    """The job that a client tells of is the node's."""
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    (made,) = (await node.client.get("/api/v1/jobs?blueprint=ordering&fields=id,initial_data", headers=AUTH)).json()[
        "jobs"
    ]
    assert (told["id"], told["terminal"], told["code"]) == (made["id"], False, "JOB_NOT_FOUND")
    assert told["status"] in ("pending", "running", "waiting_for_worker")
    assert made["initial_data"]["lines"][0]["text"] == "one"
    assert made["initial_data"]["extra"] == {"any": [1, None]}


@pytest.mark.slow
async def test_a_client_in_python_is_generated_and_creates_a_job(
    node: Node, tmp_path: Path, openapi_python: Path
) -> None:
    bin_ = openapi_python / "bin"
    package = ("--output-path", "holon_api", "--meta", "none", "--fail-on-warning")
    await run(tmp_path, bin_ / "openapi-python-client", "generate", "--path", "openapi.json", *package, path=bin_)
    (tmp_path / "client.py").write_text((OPENAPI / "python_client.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(MYPY)
    python = bin_ / "python"
    await run(tmp_path, sys.executable, "-m", "mypy", "--python-executable", python, "holon_api", "client.py")
    await creates(node, await run(tmp_path, python, "client.py", f"http://127.0.0.1:{node.door.port}", TOKEN))


GENERATORS = {
    "fetch_client": ("openapi-typescript", "openapi.json", "-o", "schema.ts"),
    "hey_client": ("openapi-ts", "-i", "openapi.json", "-o", "hey", "--no-log-file"),
}


@pytest.mark.slow
@pytest.mark.parametrize("program", GENERATORS)
async def test_a_client_in_typescript_is_generated_and_creates_a_job(
    node: Node, tmp_path: Path, openapi_node: Path, program: str
) -> None:
    tools = tmp_path / "node_modules"
    tools.symlink_to(openapi_node / "node_modules")
    for name in ("package.json", "tsconfig.json", f"{program}.ts"):
        (tmp_path / name).write_bytes((OPENAPI / name).read_bytes())
    generator, *arguments = GENERATORS[program]
    await run(tmp_path, tools / ".bin" / generator, *arguments)
    await run(tmp_path, tools / ".bin/tsc", "--project", ".")
    url = f"http://127.0.0.1:{node.door.port}"
    await creates(node, await run(tmp_path, "node", f"build/{program}.js", url, TOKEN))
