"""The OpenAPI document and the door, compared by a program that knows neither: good calls, bad ones, and chains."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.client import Client
from holon.engine.job_files import FilesPlace
from tests.blobs import MemoryBlobs
from tests.integration.http_node import AUTH, TOKEN, running

# Calls of each kind and route; what they are is chosen anew each time, and a failure says how to repeat it.
EXAMPLES = 20
GUARD = 120.0
# It makes so many objects that the collector would take a quarter of its time. Whole numbers have at most 64 bits, as
# the description says: the schema of any JSON cannot.
PROGRAM = """
import gc
import schemathesis
from schemathesis.cli import schemathesis as program

def fits(value):
    if isinstance(value, dict):
        return all(map(fits, value.values()))
    if isinstance(value, list):
        return all(map(fits, value))
    return not isinstance(value, int) or -(2**63) <= value < 2**64

@schemathesis.hook
def filter_body(context, body):
    return fits(body)

gc.set_threshold(50_000)
program()
"""
# What it warns of where the document and the door differ. Left out is what only says how lucky the choice of examples
# was: whether a call that needs a job that still runs has met one, how many of the good calls came through.
WARNINGS = (
    "missing_auth,base_url_mismatch,validation_mismatch,missing_deserializer,unused_openapi_auth,"
    "unsupported_regex,method_not_allowed,unresolvable_reference"
)
# It follows the paths that answers name, as if each could be looked at. Those of blueprints are where jobs are created.
# What is wrong in a body that is too large as well is refused for its size; it does not expect that.
# Which page tokens are good, no schema can say.
CONFIG = """
[parameters]
"query.page_token" = ""

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]

[phases.stateful.inference]
algorithms = ["dependency-analysis"]
"""


@dataclass
class Line:
    text: str
    amount: int = 1
    more: list[Line] = field(default_factory=list)


@dataclass
class Order:
    kind: Literal["new", "again"]
    lines: list[Line]
    tags: set[str] = field(default_factory=set)
    price: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def ordering() -> Blueprint:
    """A blueprint with an input of many shapes."""
    blueprint = Blueprint("ordering", api_endpoint="/orders", api_version="v2")

    @blueprint.handler(is_start=True)
    async def take(initial_data: Order, actions: ActionFactory) -> None:
        actions.dispatch_task("nobody-has-this", {}, transitions={"success": "end"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def metrics() -> tuple[bytes, str]:
    return b"jobs 1\n", "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.slow
async def test_nothing_is_found_where_the_door_is_not_as_it_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    files = FilesPlace(MemoryBlobs(), tmp_path, "h")
    async with running(metrics=metrics, more=[ordering()], files=files) as node:
        until_over = node.engine.watching.until_over

        async def for_a_moment(client: Client, job_id: str, *, expected: bool = False) -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(until_over(client, job_id, expected=expected), 0.001)

        # Nobody does these tasks, so whoever waits waits as long as it asked to.
        monkeypatch.setattr(node.engine.watching, "until_over", for_a_moment)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, "run",
            f"http://127.0.0.1:{node.door.port}/_public/openapi.json",
            f"--header=X-Client-Token: {TOKEN}", "--checks=all", f"--max-examples={EXAMPLES}", "--continue-on-failure",
            f"--warnings={WARNINGS}",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), GUARD)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        report = said.decode(errors="replace")
        assert process.returncode == 0, report
        assert "No issues found" in report, report
        made = (await node.client.get("/api/v1/jobs?blueprint=ordering", headers=AUTH)).json()["jobs"]
        assert len(made) > EXAMPLES / 2
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
