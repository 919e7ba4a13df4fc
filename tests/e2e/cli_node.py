"""A development node and its worker as a user starts them, and the other commands run beside them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from unittest.mock import patch

import httpx

from holon.cli import main
from tests.forks import Program, forks
from tests.plaintext import PLAINTEXT

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from holon.cli import main; main()")
GUARD = 60.0
ANY_PORTS = ("--api-port", "0", "--grpc-port", "0", "--client-grpc-port", "0")

BLUEPRINTS = """
import asyncio
import time
from contextlib import suppress
from pathlib import Path

from holon import Blueprint
from holon.context import ActionFactory


def one_task(name, skill):
    blueprint = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict, actions: ActionFactory):
        actions.dispatch_task(skill, initial_data, transitions={"success": "end"})

    @blueprint.handler(is_end=True)
    async def end(): ...

    return blueprint


double = one_task("double", "double")
poison = one_task("poison", "poison")
waiting = one_task("waiting", "nobody-has-this")

both = Blueprint("both", api_endpoint="/both")


@both.handler(is_start=True)
async def fan_out(actions: ActionFactory):
    actions.dispatch_parallel(
        [{"task_type": "double", "params": {"n": 1}}, {"task_type": "poison"}], aggregate_into="met"
    )


@both.aggregator
async def met(actions: ActionFactory):
    actions.go_to("over")


@both.handler(is_end=True)
async def over(): ...


failing = Blueprint("failing", api_endpoint="/failing")


@failing.handler(is_start=True, is_end=True, outcome="failed")
async def only(): ...


slow = Blueprint("slow", api_endpoint="/slow")


@slow.handler(is_start=True, is_end=True)
async def sleep():
    Path("slow-began").touch()
    while not Path("slow-may-end").exists():
        await asyncio.sleep(0.02)


asking = Blueprint("asking", api_endpoint="/asking")


@asking.handler(is_start=True)
async def ask(actions: ActionFactory):
    actions.await_human_approval("chat", "Publish?", {"yes": "rest", "no": "done"}, timeout_seconds=3600)


@asking.handler
async def rest(actions: ActionFactory):
    actions.sleep(0.1, "done")


@asking.handler(is_end=True)
async def done(): ...


order = Blueprint("order", api_endpoint="/order")


@order.handler(is_start=True)
async def pay(actions: ActionFactory):
    actions.await_signal({"paid": "send", "refused": "closed"}, timeout_seconds=3600)


@order.handler
async def send(actions: ActionFactory):
    actions.await_signal({"sent": "closed"})


@order.handler(is_end=True)
async def closed(): ...


deaf = Blueprint("deaf", api_endpoint="/deaf")
threaded = Blueprint("threaded", api_endpoint="/threaded")
swallows = Blueprint("swallows", api_endpoint="/swallows")


@deaf.handler(is_start=True, is_end=True)
async def goes_on():
    Path("deaf-began").touch()
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


@threaded.handler(is_start=True, is_end=True)
async def in_a_thread():
    Path("threaded-began").touch()
    await asyncio.to_thread(time.sleep, 3600)


@swallows.handler(is_start=True, is_end=True)
async def once():
    Path("swallows-began").touch()
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
"""

WORKER = """
from holon.worker import TaskError, Worker

worker = Worker()


@worker.skill(description="two lines,\\n" + "and long" * 100)
def double(n: int) -> dict:
    return {"twice": 2 * n}


@worker.skill(statuses=["needs_review"])
def poison(why: str = "not \\x1b[31mred") -> dict:
    raise TaskError("PERMANENT_ERROR", why)
"""


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(more: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of a user who has set nothing but `more`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


def holon(folder: Path, *arguments: str, env: Mapping[str, str] = {}, stdin: str = "") -> Ran:
    """Run a command to its end, in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def holon_forked(folder: Path, *arguments: str, env: Mapping[str, str] = {}) -> Ran:
    """Run a command to its end, in a process of its own, but not in a fresh interpreter: a few times as fast."""
    with Path(os.devnull).open() as nothing, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        code = _forked(folder, arguments, env, nothing, out, err).wait_here(GUARD)
        out.seek(0)
        err.seek(0)
        return Ran(code, out.read(), err.read())


def _forked(
    folder: Path, arguments: Sequence[str], env: Mapping[str, str], stdin: IO[str], stdout: IO[str], stderr: IO[str]
) -> Program:
    streams = stdin.fileno(), stdout.fileno(), stderr.fileno()
    return forks().start((*COMMAND[1:], *arguments), environment(env), folder, streams)


def _fresh(
    folder: Path, arguments: Sequence[str], env: Mapping[str, str], stdin: IO[str], stdout: IO[str], stderr: IO[str]
) -> Program:
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, env=environment(env), stdin=stdin, stdout=stdout, stderr=stderr
    )
    return Program(process.pid, ThreadPoolExecutor(1).submit(process.wait))


def holon_here(folder: Path, *arguments: str, env: Mapping[str, str] = {}, stdin: str = "") -> Ran:
    """Run a command to its end, in this process: ten times as fast."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        contextlib.chdir(folder),
        patch.dict(os.environ, environment(env), clear=True),
        patch.object(sys, "argv", ["holon", *arguments]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Ran(code, out.getvalue(), err.getvalue())


class Started:
    """A command that goes on until it is told to end; it never outlives its test.

    Arguments:
        fresh: started by a fresh interpreter, not by a fork.
    """

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] = {}, fresh: bool = False) -> None:
        self._log = folder / f"{arguments[0]}-{os.urandom(3).hex()}.log"
        ours, its = os.pipe()
        self.stdout = os.fdopen(ours)
        with Path(os.devnull).open() as nothing, os.fdopen(its, "w") as out, self._log.open("w") as errors:
            self.process = (_fresh if fresh else _forked)(folder, arguments, env, nothing, out, errors)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def line(self) -> str:
        """The next line that it prints."""
        line = self.stdout.readline()
        assert line, f"it ended:\n{self.log}"
        return line

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        return self.process.wait_here(GUARD)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end; its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        self.wait()
        self.stdout.close()


def project(folder: Path) -> Path:
    """A folder with blueprints and a worker, as a user has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blueprints").mkdir()
    (folder / "blueprints" / "flows.py").write_text(BLUEPRINTS)
    (folder / "my_worker.py").write_text(WORKER)
    return folder


def serve(
    folder: Path, *options: str, env: Mapping[str, str] = {}, fresh: bool = False
) -> tuple[Started, dict[str, str]]:
    """A node with its doors open, and where they are."""
    node = Started(folder, "serve", *ANY_PORTS, "--json", *options, env=env, fresh=fresh)
    doors: dict[str, str] = json.loads(node.line())
    return node, doors


def until(so: Callable[[], Any], what: str) -> None:
    """Wait for something that another process does, and that nothing here can be told of."""
    ends = time.monotonic() + GUARD
    while not so():
        assert time.monotonic() < ends, what
        time.sleep(0.02)


@dataclass(frozen=True)
class Dev:
    """A node of `serve --dev` and a worker of `worker run` in one folder; called, it runs a command there."""

    folder: Path
    doors: dict[str, str]
    node: Started

    @property
    def file(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / ".holon/dev.toml").read_text())

    def __call__(self, *arguments: str, stdin: str = "", **env: str) -> Ran:
        return holon_here(self.folder, *arguments, stdin=stdin, env=env)

    def jobs(self, query: str) -> list[dict[str, Any]]:
        headers = {"X-Client-Token": self.file["HOLON_TOKEN"]}
        reply = httpx.get(
            f"{self.doors['http']}/api/v1/jobs?{query}", headers=headers, trust_env=False, verify=PLAINTEXT
        )
        found: list[dict[str, Any]] = reply.json()["jobs"]
        return found


@contextlib.contextmanager
def development_node(folder: Path, store: str) -> Iterator[Dev]:
    """Both, in a folder with blueprints and a worker, for as long as this is entered; the node on this store."""
    project(folder)
    node, doors = serve(folder, "--dev", env={"STORAGE_URI": store})
    worker = Started(folder, "worker", "run", "my_worker:worker", "--id", "w-cli")
    try:
        yield Dev(folder, doors, node)
    finally:
        worker.kill()
        node.kill()
