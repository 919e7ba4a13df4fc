"""The classic quick start, its code word for word, as a script of a user who has set nothing but free ports."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.cli_node import GUARD, environment, until
from tests.ports import free_ports

pytestmark = pytest.mark.own_store("its code names the store in memory")
TOKEN = "my-secret-client-token"

QUICK_START = '''\
# my_app.py
import asyncio
from holon import OrchestratorEngine, Blueprint
from holon.context import ActionFactory
from holon.storage import MemoryStorage
from holon.config import Config

# 1. General Configuration
storage = MemoryStorage()
config = Config() # Loads configuration from environment variables

# Explicitly set tokens for this example
# Client token must be sent in the 'X-Client-Token' header.
config.CLIENT_TOKEN = "my-secret-client-token"
# Worker token must be sent in the 'X-Worker-Token' header.
config.GLOBAL_WORKER_TOKEN = "my-secret-worker-token"

# 2. Define the Workflow Blueprint
bp = Blueprint(
    name="bp",
    api_version="v1",
    api_endpoint="/jobs/my_flow"
)

# Use dependency injection to get only the data you need.
@bp.handler(is_start=True)
async def start(job_id: str, initial_data: dict, actions: ActionFactory):
    """The initial state for each new job."""
    print(f"Job {job_id} | Start: {initial_data}")
    actions.go_to("end")

# You can still request the full context object if you prefer.
@bp.handler(is_end=True)
async def end(context):
    """The final state. The pipeline ends here."""
    print(f"Job {context.job_id} | Complete.")

# 3. Initialize the Orchestrator Engine
engine = OrchestratorEngine(storage, config)
engine.register_blueprint(bp)

# 5. Define the main entrypoint to run the server
async def main():
    await engine.start()
    
    try:
        await asyncio.Event().wait()
    finally:
        await engine.stop()

if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("\\nStopping server.")
'''  # noqa: W293  # as it is written
BLOCKING = QUICK_START.partition("# 5.")[0] + "engine.run()\n"


@contextmanager
def running(folder: Path, program: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The program, once its door answers, and a client of that door without a token."""
    (folder / "my_app.py").write_text(program, encoding="utf-8")
    http, worker, client = free_ports(3)
    ports = {"API_PORT": str(http), "GRPC_PORT": str(worker), "CLIENT_GRPC_PORT": str(client)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "my_app.py"],
            cwd=folder,
            env=environment(ports),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process, httpx.Client(base_url=f"http://127.0.0.1:{http}", trust_env=False, timeout=GUARD) as door:
        try:
            until(lambda: answers(process, door), "the node answers")
            yield process, door
        finally:
            process.kill()


def answers(process: subprocess.Popen[str], door: httpx.Client) -> bool:
    assert process.poll() is None, "the program has ended"
    try:
        return door.get("/_public/status").is_success
    except httpx.TransportError:
        return False


def finish_a_job(door: httpx.Client) -> str:
    """Create a job as the quick start says, and see it finish; its id."""
    headers = {"X-Client-Token": TOKEN}
    accepted = door.post("/api/v1/jobs/my_flow", json={"initial_data": {"x": 1}}, headers=headers)
    assert accepted.status_code == 202, accepted.text
    job_id = str(accepted.json()["job_id"])
    path = f"/api/v1/jobs/{job_id}"
    until(lambda: door.get(path, headers=headers).json()["finished_at"], "the job is over")
    assert door.get(path, headers=headers).json()["status"] == "finished"
    return job_id


def test_a_job_of_the_quick_start_ends_finished(tmp_path: Path) -> None:
    with running(tmp_path, QUICK_START) as (process, door):
        job_id = finish_a_job(door)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=GUARD)
    assert out == f"Job {job_id} | Start: {{'x': 1}}\nJob {job_id} | Complete.\n\nStopping server.\n"
    assert process.returncode == 0
    # The storage that was given wins: nothing is kept in files.
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "my_app.py"]


def test_the_quick_start_lets_in_nobody_without_its_token(tmp_path: Path) -> None:
    with running(tmp_path, QUICK_START) as (_, door):
        for headers in ({}, {"X-Client-Token": "secure-client-token"}):
            refused = door.post("/api/v1/jobs/my_flow", json={"initial_data": {}}, headers=headers)
            assert refused.status_code == 401
        finish_a_job(door)
    assert TOKEN not in (tmp_path / "log").read_text()


def test_g20_the_log_of_a_program_is_as_the_settings_say_where_it_has_none_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(tmp_path, QUICK_START) as (_, door):
        assert door.get("/api/v1/jobs").status_code == 401
        until(lambda: "call_refused" in log.read_text(), "the refusal is told")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"asctime", "levelname", "name", "message"} <= lines[0].keys()
    assert [line["audit"]["act"] for line in lines if "audit" in line] == ["call_refused"]


def test_the_log_that_a_program_has_set_up_stays_its_own(tmp_path: Path) -> None:
    own = "import logging\nlogging.basicConfig(format='mine: %(message)s', level='INFO')\n"
    with running(tmp_path, own + QUICK_START) as (_, door):
        assert door.get("/api/v1/jobs").status_code == 401
    assert {line.partition(":")[0] for line in (tmp_path / "log").read_text().splitlines()} == {"mine"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_blocking_run_serves_and_ends_by_a_signal(tmp_path: Path, number: int) -> None:
    with running(tmp_path, BLOCKING) as (process, door):
        finish_a_job(door)
        process.send_signal(number)
        out, _ = process.communicate(timeout=GUARD)
    assert out.endswith("Complete.\n")
    assert process.returncode == 0
