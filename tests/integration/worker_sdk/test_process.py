"""A worker as a process of its own: what it imports, and how signals end it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.scripted_node import GUARD, Certificates, ScriptedNode

ROOT = Path(__file__).parents[3]
SCRIPT = """
import asyncio, logging, time
from holon.worker import Worker
logging.basicConfig(level="INFO")
worker = Worker()

@worker.skill
def hold(seconds: float) -> dict[str, bool]:
    time.sleep(seconds)
    return {"held": True}

@worker.skill
async def block(seconds: float) -> None:
    # A signal that comes just before a sleep begins is told after it.
    for _ in range(int(seconds * 10)):
        time.sleep(0.1)

@worker.skill
async def thread(seconds: float) -> None:
    await asyncio.to_thread(time.sleep, seconds)

worker.run()
print("left", flush=True)
"""


@pytest.fixture
async def process(
    tmp_path: Path, certificates: Certificates, node: ScriptedNode
) -> AsyncIterator[asyncio.subprocess.Process]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NODE_URL": node.url,
        "TLS_CA_PATH": str(certificates.ca),
        "TLS_CERT_PATH": str(certificates.worker.certificate),
        "TLS_KEY_PATH": str(certificates.worker.key),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


def test_the_sdk_is_light() -> None:
    program = """
import json, sys
before = set(sys.modules)
import holon.worker
print(json.dumps(sorted(sys.modules.keys() - before)))
"""
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    modules = set(json.loads(output))
    outside = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    # grpc itself looks for its own optional parts; a name with an underscore is of a compiled part.
    needless = {one for one in outside if not one.startswith(("_", "cython_runtime", "grpc"))}
    assert needless <= {"google", "orjson", "holon", "typing_extensions"}
    rooms = {name.split(".")[1] for name in modules if name.startswith("holon.")}
    assert rooms <= {"domain", "errors", "files", "rxon", "wire", "worker"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_first_signal_drains_and_the_process_ends_well(
    node: ScriptedNode, process: asyncio.subprocess.Process, number: signal.Signals
) -> None:
    stream = await node.welcomed()
    await stream.offer("t1", "hold", {"seconds": 0.2})
    assert (await stream.update()).HasField("accepted")
    process.send_signal(number)
    assert (await stream.message("drain")).drain.reason == number.name
    assert (await stream.result()).result.status == "success"
    await stream.ack("t1")
    await stream.wait(stream.half_closed)
    stream.end()
    output, errors = await asyncio.wait_for(process.communicate(), GUARD)
    assert (process.returncode, output) == (0, b"left\n"), errors


@pytest.mark.parametrize("skill", ["hold", "block", "thread"])
async def test_a_second_signal_ends_it_at_once(
    node: ScriptedNode, process: asyncio.subprocess.Process, skill: str
) -> None:
    stream = await node.welcomed()
    await stream.offer("t1", skill, {"seconds": 3600})
    assert (await stream.update()).HasField("accepted")
    process.send_signal(signal.SIGINT)
    await stream.message("drain")
    process.send_signal(signal.SIGINT)
    await stream.wait(stream.gone)
    _, errors = await asyncio.wait_for(process.communicate(), GUARD)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors


async def test_a_signal_that_comes_while_the_worker_starts_ends_it() -> None:
    program = """
import os, signal
from holon.worker import Worker, worker as starting

def tracing_here():
    os.kill(os.getpid(), signal.SIGTERM)
    return tracing()

tracing, starting.tracing_here = starting.tracing_here, tracing_here
worker = Worker("grpc://127.0.0.1:1", worker_id="w1")
worker.skill(tracing_here)
worker.run()
print("left", flush=True)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), GUARD)
        assert (process.returncode, output) == (0, b"left\n"), errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
