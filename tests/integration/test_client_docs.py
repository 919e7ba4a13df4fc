"""The examples of docs/client.md run, against a node."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holon import Blueprint
from holon.context import ActionFactory
from holon.testing import RunningNode, running_node

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
ALL = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
OWN_NODE = "OrchestratorEngine"
EXAMPLES = [one for one in ALL if OWN_NODE not in one]
CLIENT = 'Client("grpcs://node.example:7701", token="…", ca="ca.pem")'
PROGRAM = f"""
import asyncio
from holon.client import Client

async def main():
    async with {CLIENT} as client:
{{}}

asyncio.run(main())
"""


double = Blueprint("double", api_endpoint="/double")


@double.handler("start", is_start=True)
async def ask(initial_data: dict[str, int], actions: ActionFactory) -> None:
    actions.dispatch_task("double", initial_data, transitions={"success": "end"})


@double.handler("end", is_end=True)
async def doubled() -> None: ...


waiting = Blueprint("waiting", api_endpoint="/waiting")


@waiting.handler(is_start=True)
async def start(actions: ActionFactory) -> None:
    actions.dispatch_task("nobody-has-this", {}, transitions={"success": "end"})


@waiting.handler(is_end=True)
async def end() -> None: ...


asking = Blueprint("asking", api_endpoint="/asking")


@asking.handler("start", is_start=True)
async def put(actions: ActionFactory) -> None:
    actions.await_human_approval("chat", "Go on?", {"yes": "end", "no": "end"})


asking.handler("end", is_end=True)(doubled)

order = Blueprint("order", api_endpoint="/order")


@order.handler("start", is_start=True)
async def wait_for_payment(actions: ActionFactory) -> None:
    actions.await_signal({"paid": "end"})


order.handler("end", is_end=True)(doubled)


@pytest.fixture
async def node() -> AsyncIterator[RunningNode]:
    async with running_node(double, waiting, asking, order) as node:
        worker = node.new_worker("worker-1")
        worker.skill("double")(twice)
        async with worker:
            await worker.ready()
            yield node


def twice(n: int) -> dict[str, int]:
    return {"twice": 2 * n}


def test_there_are_examples_of_every_part() -> None:
    assert len(EXAMPLES) >= 6
    assert CLIENT in EXAMPLES[0]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
async def test_each_example_runs(node: RunningNode, number: int) -> None:
    example = EXAMPLES[number]
    program = example if "asyncio.run(" in example else PROGRAM.format(textwrap.indent(example, " " * 8))
    here = f"Client({f'grpcs://localhost:{node.ports.client}'!r}, {node.token!r}, {str(node.folder / 'ca.pem')!r})"
    assert CLIENT in program
    command = [sys.executable, "-W", "error", "-c", program.replace(CLIENT, here)]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


async def test_a_program_that_runs_a_node_itself_is_a_client_of_it(tmp_path: Path) -> None:
    (program,) = (one for one in ALL if OWN_NODE in one)
    ports = dict.fromkeys(("API_PORT", "GRPC_PORT", "CLIENT_GRPC_PORT"), "0")
    environment = {**os.environ, **ports, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", program]
    ran = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "finished {'twice': 42}\n"), ran.stderr
    # Its socket is gone with it.
    assert not os.listdir(tmp_path)  # noqa: PTH208  a path's own would be said to block
