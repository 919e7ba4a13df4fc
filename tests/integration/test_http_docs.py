"""The calls of docs/http.md succeed as they stand there, and the one of docs/errors.md is answered as it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.testing import RunningNode, running_node

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "http.md").read_text(encoding="utf-8")
CALLS = [
    (section.split("\n")[0], calls)
    for section in PAGE.split("\n## ")
    for calls in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
]
# Files need an S3, and generated clients their tools; both have tests of their own.
RUN = [(title, calls) for title, calls in CALLS if title not in ("Files", "Routes")]
# The blueprint whose job the calls of a section are about.
OF_SECTION = {"Deciding": "asking", "Signals": "order"}

my_flow = Blueprint("my_flow", api_endpoint="/jobs/my_flow", api_version="v1")


@my_flow.handler(is_start=True)
async def start(actions: ActionFactory) -> None:
    actions.go_to("end")


@my_flow.handler(is_end=True)
async def end() -> None: ...


asking = Blueprint("asking", api_endpoint="/jobs/asking", api_version="v1")


@asking.handler("start", is_start=True)
async def request_decision(actions: ActionFactory) -> None:
    actions.await_human_approval("chat", "Go on?", {"yes": "end", "no": "end"})


asking.handler("end", is_end=True)(end)

order = Blueprint("order", api_endpoint="/jobs/order", api_version="v1")


@order.handler("start", is_start=True)
async def wait_for_payment(actions: ActionFactory) -> None:
    actions.await_signal({"paid": "end"})


order.handler("end", is_end=True)(end)


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node(my_flow, asking, order) as node:
        yield node


def test_every_section_with_calls_is_known() -> None:
    titles = {title for title, _ in CALLS}
    assert {"# The HTTP API", "Creating", "A job", "Deciding", "Signals", "Lists and history", "The node"} <= titles
    assert titles >= OF_SECTION.keys()


@pytest.mark.parametrize("number", range(len(RUN)), ids=[title for title, _ in RUN])
async def test_the_calls_succeed(node: RunningNode, number: int, tmp_path: Path) -> None:
    title, calls = RUN[number]
    created = await node.client.create_job(OF_SECTION.get(title, "my_flow"))
    if title == "Deciding":
        while (await node.client.get_job(created.job_id)).approval is None:
            pass
    (tmp_path / ".holon").mkdir()
    (tmp_path / ".holon/dev.toml").write_text(f'HOLON_TOKEN = "{node.token}"\n')
    script = calls.replace("curl ", "curl -sSf ").replace("| dot -Tsvg > my_flow.svg", "| grep digraph")
    assert await run(script, node, tmp_path, job_id=created.job_id)


async def test_the_error_on_the_page_is_the_answer_to_its_call(node: RunningNode, tmp_path: Path) -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    call, answer = (re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0] for kind in ("sh", "json"))
    assert json.loads(await run(call, node, tmp_path)) == json.loads(answer)


async def run(script: str, node: RunningNode, folder: Path, **values: str) -> str:
    """What a script of a page prints at a node. It must succeed, and complain of nothing."""
    script = script.replace("http://127.0.0.1:8080", node.url).replace("curl ", "curl --noproxy '*' ")
    ran = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "token": node.token, **values},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout
