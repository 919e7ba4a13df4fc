"""The examples of `docs/examples`, written from the protos alone, against a real node: a worker over mTLS, clients
over TLS with a token."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.security import certificates
from tests.e2e.processes import Node, Process, ended_with_test, until
from tests.integration.scripted_node import ScriptedNode, is_at_once, make_certificates
from tests.interop.conftest import Programs
from tests.interop.toolchains import EXAMPLES

LEASE = 4
QUICK = {"HEARTBEAT_INTERVAL_SECONDS": 1, "WORKER_SILENCE_SECONDS": 3, "TASK_LEASE_SECONDS": LEASE}
LANGUAGES = ["go", "node"]
# Each is once the client, once the worker.
PAIRS = pytest.mark.parametrize(("client", "worker"), [LANGUAGES, LANGUAGES[::-1]])
WORKERS = pytest.mark.parametrize("language", LANGUAGES)
FURTHER = re.compile(r"^\w+ [1-9][\d.]*%$", re.MULTILINE)


class Site:
    """A node, and programs in other languages beside it."""

    def __init__(self, folder: Path, blueprints: Path, programs: Programs) -> None:
        self.node = Node(folder, blueprints, **QUICK)
        self.started: list[Process] = []
        self._folder = folder
        self._programs = programs

    async def start(self, name: str, command: list[str], env: dict[str, str]) -> Process:
        process = Process(name, command, env, self._folder)
        self.started.append(process)
        await process.start()
        return process

    async def worker(self, language: str, name: str = "w-1") -> Process:
        """The worker of a language, with a certificate of its own."""
        pair = certificates.issue_worker(self.node.authority, self.node.certs, name, days=2)
        env = {
            "NODE_URL": f"grpcs://localhost:{self.node.grpc}",
            "TLS_CA_PATH": self.node.ca,
            "TLS_CERT_PATH": str(pair.certificate),
            "TLS_KEY_PATH": str(pair.key),
        }
        return await self.start(name, self._programs.command(language, "worker"), env)

    async def client(self, language: str, data: str) -> Process:
        """A client that creates a job of `counting` and follows it."""
        env = {
            "HOLON_URL": f"grpcs://localhost:{self.node.client}",
            "HOLON_CA": self.node.ca,
            "HOLON_TOKEN": self.node.token,
        }
        return await self.start("client", [*self._programs.command(language, "client"), "counting", data], env)

    async def says(self, process: Process, words: str) -> None:
        await until(lambda: words in process.tail(), f"{process.name} says {words!r}")

    async def finishes(self, to: int) -> None:
        """A job that is created now finishes."""
        job = await self.node.ended(await self.node.create("/jobs/counting", {"to": to, "seconds": 0.01}))
        assert (job["status"], job["result"]) == ("finished", {"counted": to})


@pytest.fixture
async def site(tmp_path: Path, blueprints: Path, programs: Programs) -> AsyncIterator[Site]:
    site = Site(tmp_path, blueprints, programs)
    async with contextlib.AsyncExitStack() as ending:
        await ending.enter_async_context(ended_with_test(site.node))
        await site.node.start()
        yield site
        for process in site.started:
            await process.end()


@PAIRS
async def test_a_client_creates_a_job_and_watches_it_to_its_end(site: Site, client: str, worker: str) -> None:
    watching = await site.client(client, '{"to": 15, "seconds": 0.1}')
    await site.says(watching, "task_dispatched")
    serving = await site.worker(worker)
    assert await watching.wait() == 0, watching.tail() + serving.tail()
    said = watching.tail()
    assert "job_created" in said
    assert "task_finished" in said
    assert FURTHER.search(said)
    assert said.splitlines()[-1].replace(" ", "") == 'finished{"counted":15}'


@PAIRS
async def test_a_cancel_by_a_client_reaches_a_worker_which_goes_on_with_the_next(
    site: Site, client: str, worker: str
) -> None:
    serving = await site.worker(worker)
    watching = await site.client(client, '{"to": 1000, "seconds": 0.01}')
    await until(lambda: FURTHER.search(watching.tail()), "the client shows progress")
    os.kill(watching.pid, signal.SIGINT)
    assert await watching.wait() == 1, watching.tail()
    assert watching.tail().splitlines()[-1].startswith("cancelled"), watching.tail() + serving.tail()
    await site.finishes(2)
    assert serving.alive


@pytest.mark.slow
@WORKERS
async def test_a_worker_keeps_its_session_and_a_task_for_longer_than_a_lease(site: Site, language: str) -> None:
    worker = await site.worker(language)
    job_id = await site.node.create("/jobs/counting", {"to": 2, "seconds": LEASE * 0.75})
    assert (await site.node.ended(job_id))["result"] == {"counted": 2}
    assert await attempts(site.node, job_id) == [1]
    assert worker.tail() == ""


@WORKERS
async def test_a_worker_that_drains_ends_what_it_holds_and_takes_nothing_new(site: Site, language: str) -> None:
    node = site.node
    leaving = await site.worker(language)
    held = await node.create("/jobs/counting", {"to": 20, "seconds": 0.1})
    await until(lambda: has_progress(node, held), "the worker has begun")
    os.kill(leaving.pid, signal.SIGTERM)
    # What comes before it has heard of that, it may take.
    await until(lambda: takes_no_more(node), "the node knows that the worker leaves")
    later = await node.create("/jobs/counting", {"to": 1, "seconds": 0})
    assert await leaving.wait() == 0, leaving.tail()
    assert (await node.ended(held))["result"] == {"counted": 20}
    assert (await node.job(later))["status"] == "waiting_for_worker"
    await site.worker(language, "w-2")
    assert (await node.ended(later))["result"] == {"counted": 1}


@WORKERS
async def test_an_offer_that_crosses_the_drain_of_a_worker_may_come_again_at_once(
    programs: Programs, tmp_path: Path, language: str
) -> None:
    files = make_certificates(tmp_path)
    terms: dict[str, Any] = {
        "heartbeat_interval": Duration(seconds=1),
        "silence_timeout": Duration(seconds=30),
        "max_payload_bytes": 1024 * 1024,
    }
    async with ScriptedNode(files) as node:
        env = {
            "NODE_URL": node.url,
            "TLS_CA_PATH": str(files.ca),
            "TLS_CERT_PATH": str(files.worker.certificate),
            "TLS_KEY_PATH": str(files.worker.key),
        }
        worker = Process("w-1", programs.command(language, "worker"), env, tmp_path)
        await worker.start()
        try:
            stream = await node.welcomed(**terms)
            await stream.offer("t0", "flight")
            update = await stream.update()
            assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t0", "UNKNOWN_SKILL", False)
            await stream.offer("t1", "count", {"to": 1_000, "seconds": 1})
            assert (await stream.update()).HasField("accepted")
            os.kill(worker.pid, signal.SIGTERM)
            await stream.message("drain")
            await stream.offer("t2", "double", {"n": 1})
            while (update := await stream.update()).HasField("progress"):
                pass
            assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t2", "DRAINING", True)
            await stream.stop("t1")
            assert (await stream.result()).task_id == "t1"
            await stream.ack("t1")
            await stream.wait(stream.half_closed)
            stream.end()
            assert await worker.wait() == 0, worker.tail()
        finally:
            await worker.end()


@PAIRS
async def test_a_worker_and_a_client_live_through_a_node_that_is_killed(site: Site, client: str, worker: str) -> None:
    serving = await site.worker(worker)
    watching = await site.client(client, '{"to": 30, "seconds": 0.1}')
    await until(lambda: FURTHER.search(watching.tail()), "the client shows progress")
    await site.node.process.end()
    await site.node.start()
    assert await watching.wait() == 0, watching.tail() + serving.tail()
    job_id = watching.tail().splitlines()[0].removeprefix("job ")
    # The worker went on with what it had begun.
    assert await attempts(site.node, job_id) == [1]


@WORKERS
async def test_a_worker_that_a_node_sends_away_comes_back(site: Site, language: str) -> None:
    worker = await site.worker(language)
    await site.finishes(1)
    assert await site.node.process.end(signal.SIGTERM) == 0
    await site.node.start()
    await site.finishes(2)
    assert worker.starts == 1


async def attempts(node: Node, job_id: str) -> list[int]:
    """Which attempts of its tasks ended."""
    return [one["attempt_number"] for one in await node.history(job_id) if one["event_type"] == "task_finished"]


async def has_progress(node: Node, job_id: str) -> bool:
    return bool((await node.job(job_id))["progress"])


async def takes_no_more(node: Node) -> bool:
    workers = (await node.api.get("/api/v1/workers")).json()["workers"]
    return all(one["draining"] or not one["connected"] for one in workers)


@pytest.mark.parametrize(
    "path", sorted((*EXAMPLES.glob("*/*.js"), *EXAMPLES.rglob("*.go"))), ids=lambda path: path.name
)
def test_an_example_is_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 120
    assert max(map(len, lines)) <= 120
