"""Real processes for end-to-end tests: a node, its workers, and a client that repeats what it could not be sure of."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any

import httpx
import orjson

from holon.security import certificates
from tests.forks import Program, forks
from tests.plaintext import PLAINTEXT
from tests.ports import free_ports

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SERVE = "from holon.cli import main; main()"
# How often something is looked at that nothing here can be told of.
LOOK_S = 0.03
# Many clients that ask all the time would take the processor from the node that starts.
PAUSE_S = 0.2
# How long a node is asked to wait for a job's end; less than its client has patience.
WAIT_S = 5


async def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Wait for something that another process does, and that nothing here can be told of.

    Arguments:
        condition: whether it is so; may be a coroutine function.
        what: what is waited for, for the failure.
    """
    ends = time.monotonic() + seconds
    while True:
        so = condition()
        if await so if isawaitable(so) else so:
            return
        if time.monotonic() > ends:
            raise AssertionError(f"not so within {seconds:g} s: {what}")
        await asyncio.sleep(LOOK_S)


class Process:
    """A child process with its output in a file; it never outlives its test."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self._command = command
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env}
        self._folder = folder
        self.output = folder / f"{name}.log"
        self.starts = 0
        self._process: asyncio.subprocess.Process | Program | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        program, *arguments = self._command
        if program == sys.executable:
            self._process = await asyncio.to_thread(self._forked, arguments)
        else:
            with self.output.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, cwd=self._folder, env=self._env, stdout=output, stderr=output, stdin=-3
                )
        self.starts += 1

    def _forked(self, arguments: list[str]) -> Program:
        with Path(os.devnull).open() as nothing, self.output.open("ab") as output:
            streams = nothing.fileno(), output.fileno(), output.fileno()
            return forks().start(arguments, self._env, self._folder, streams)

    async def restarted(self) -> None:
        """Start the process again whenever it ends, until cancelled."""
        while True:
            await self.wait()
            await self.start()

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def tail(self, size: int = 4_000) -> str:
        return self.output.read_text(errors="replace")[-size:]


class Node:
    """A node process over SQLite with mTLS, which can be killed and started again on the same ports and file."""

    program = SERVE

    def __init__(self, folder: Path, blueprints: Path, **settings: object) -> None:
        self.folder = folder
        self.http, self.grpc, self.client = free_ports(3)
        self.token = secrets.token_urlsafe(32)
        self.certs = folder / "certs"
        self.certs.mkdir()
        self.authority = certificates.open_authority(self.certs)
        server = certificates.issue_server(self.authority, self.certs, days=2)
        self.ca = str(self.certs / "ca.pem")
        env = {
            "API_PORT": self.http,
            "GRPC_PORT": self.grpc,
            "CLIENT_GRPC_PORT": self.client,
            "CLIENT_TOKEN": self.token,
            "TLS_CERT_PATH": server.certificate,
            "TLS_KEY_PATH": server.key,
            "TLS_CA_PATH": self.ca,
            "STORAGE_URI": f"sqlite:///{folder / 'holon.db'}",
            "BLUEPRINTS_DIR": blueprints,
            "LOG_FORMAT": "text",
            **settings,
        }
        command = [sys.executable, "-c", self.program, "serve"]
        self.process = Process("node", command, {name: str(value) for name, value in env.items()}, folder)
        self.api = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.http}",
            headers={"X-Client-Token": self.token},
            timeout=10,
            verify=PLAINTEXT,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=64),
        )

    @property
    def client_url(self) -> str:
        """Its client gRPC door."""
        return f"grpcs://localhost:{self.client}"

    async def start(self) -> None:
        """Start the process and wait until its doors are open."""
        await self.process.start()
        await self.until_open()

    async def until_open(self) -> None:
        """Wait until the doors of a started process are open."""
        await until(self._is_open, "the node's doors are open")

    async def _is_open(self) -> bool:
        if not self.process.alive:
            raise AssertionError(f"the node ended:\n{self.process.tail()}")
        with contextlib.suppress(httpx.TransportError):
            return (await self.api.get("/_public/status")).status_code == 200
        return False

    def worker(self, name: str, module: str, **settings: object) -> Process:
        """A worker process of a module beside this one, not started yet."""
        pair = certificates.issue_worker(self.authority, self.certs, name, days=2)
        env = {
            "NODE_URL": f"grpcs://localhost:{self.grpc}",
            "TLS_CA_PATH": self.ca,
            "TLS_CERT_PATH": pair.certificate,
            "TLS_KEY_PATH": pair.key,
            "WORK_LOG": self.folder / f"{name}.work",
            **settings,
        }
        command = [sys.executable, str(HERE / module)]
        return Process(name, command, {key: str(value) for key, value in env.items()}, self.folder)

    async def create(self, path: str, data: dict[str, Any], **body: object) -> str:
        """Create a job, again and again under one key until the answer is sure: its id."""
        made: list[str] = []
        headers = {"Idempotency-Key": secrets.token_hex(8)}

        async def accepted() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answer = await self.api.post(f"/api/v1{path}", json={"initial_data": data, **body}, headers=headers)
                if answer.status_code != 503:
                    assert answer.status_code == 202, answer.text
                    made.append(answer.json()["job_id"])
                    return True
            await asyncio.sleep(PAUSE_S)
            return False

        await until(accepted, "a job is accepted")
        return made[0]

    async def job(self, job_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def ended(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """The job when it is over."""

        seen: list[dict[str, Any]] = []

        async def over() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answer = await self.api.get(f"/api/v1/jobs/{job_id}?wait={WAIT_S:g}")
                if answer.status_code == 503:
                    # Its part of the store is handed over just now.
                    await asyncio.sleep(PAUSE_S)
                    return False
                assert answer.status_code == 200, answer.text
                seen[:] = [answer.json()]
            return bool(seen) and seen[0]["finished_at"] is not None

        await until(over, f"job {job_id} is over", seconds)
        return seen[0]

    async def history(self, job_id: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        token = ""
        while True:
            answer = await self.api.get(
                f"/api/v1/jobs/{job_id}/history", params={"page_size": 1000, "page_token": token}
            )
            assert answer.status_code == 200, answer.text
            events += answer.json()["events"]
            token = answer.json()["next_page_token"]
            if not token:
                return events

    async def close(self) -> None:
        await self.api.aclose()
        if self.process.alive:
            await self.process.end()


@contextlib.asynccontextmanager
async def ended_with_test(node: Node, *workers: Process) -> AsyncIterator[None]:
    """See to it that nothing outlives the test."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.alive:
                await worker.end()
        await node.close()


def work_log(folder: Path, name: str) -> list[dict[str, Any]]:
    """What a worker wrote down: one line when a task begins, one when it ends."""
    path = folder / f"{name}.work"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [orjson.loads(line) for line in lines if line.endswith(b"}")]


class WorkLogs:
    """Follows what workers write down: how many tasks they began, ended and had to stop so far, however often each."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._paths = {folder / f"{name}.work": 0 for name in names}
        self._counts: Counter[str] = Counter()

    @property
    def begun(self) -> int:
        return self._counted()["begin"]

    @property
    def ended(self) -> int:
        return self._counted()["end"]

    @property
    def stopped(self) -> int:
        return self._counted()["stopped"]

    def _counted(self) -> Counter[str]:
        for path, at in self._paths.items():
            if path.exists():
                with path.open("rb") as log:
                    log.seek(at)
                    new = log.read()
                whole = new[: new.rfind(b"\n") + 1]
                self._paths[path] = at + len(whole)
                self._counts.update(orjson.loads(line)["what"] for line in whole.splitlines())
        return self._counts
