"""The workers in other languages, at a root and at a child of it: they are told the same, and say the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holon.security import certificates
from tests.e2e.holons import BLUEPRINTS, holon_node
from tests.e2e.processes import Node, Process, until
from tests.interop.conftest import Programs
from tests.interop.relay import Relay, relay
from tests.interop.test_foreign_programs import LANGUAGES

# What differs between any two runs: ids, and times.
MASKED = {
    *("instanceId", "sessionId", "nodeId", "holonId", "holonIdsAbove", "taskId", "leaseId", "jobId", "rootJobId"),
    *("nodeTime", "sessionExpiresAt", "deadline", "timeLeft", "traceparent"),
}
BEATS = {"heartbeat", "heartbeatAck"}


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: masked(one) for name, one in value.items() if name not in MASKED}
    return [masked(one) for one in value] if isinstance(value, list) else value


def transcript(frames: list[dict[str, Any]]) -> list[Any]:
    return [masked(frame) for frame in frames if not BEATS & frame.keys()]


@dataclass(frozen=True)
class Ask:
    """A way to have something counted by a worker.

    Attributes:
        node: whose job it is.
        path: where that is created.
        body: what it takes, of what the worker is to take.
    """

    node: Node
    path: str
    body: Callable[[dict[str, Any]], dict[str, Any]]

    async def __call__(self, **params: Any) -> str:
        return await self.node.create(self.path, self.body(params))


def counted_below(params: dict[str, Any]) -> dict[str, Any]:
    """What the blueprint `ask` takes, to have the job `counting` done below."""
    return {"skill": "counting", "params": params}


def updates(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [update for frame in frames for update in frame.get("taskUpdates", {}).get("updates", ())]


async def recorded(node: Node, command: list[str], ask: Ask) -> Relay:
    """What is said while a worker of a node finishes a job, is stopped at a second, and drains."""
    server = certificates.issue_server(node.authority, node.folder, days=2)
    pair = certificates.issue_worker(node.authority, node.certs, "w-1", days=2)
    async with relay(f"localhost:{node.grpc}", node.authority.files.certificate.read_bytes(), server, pair) as between:
        env = {
            "NODE_URL": f"grpcs://localhost:{between.port}",
            "TLS_CA_PATH": node.ca,
            "TLS_CERT_PATH": str(pair.certificate),
            "TLS_KEY_PATH": str(pair.key),
        }
        worker = Process("worker", command, env, node.folder)
        await worker.start()
        try:
            job = await ask.node.ended(await ask(to=3, seconds=0.05))
            assert job["status"] == "finished", job
            stopped = await ask(to=2, seconds=60)
            await until(lambda: sum("accepted" in one for one in updates(between.said)) == 2, "it has the second task")
            assert (await ask.node.api.post(f"/api/v1/jobs/{stopped}/cancel")).is_success
            await until(lambda: sum("updateAcks" in one for one in between.heard) == 2, "its last word is acknowledged")
            os.kill(worker.pid, signal.SIGTERM)
            assert await worker.wait() == 0, worker.tail()
        finally:
            if worker.alive:
                await worker.end()
    return between


async def test_a_worker_is_told_the_same_and_says_the_same_at_a_root_and_at_its_child(
    tmp_path: Path, blueprints: Path, programs: Programs
) -> None:
    at_root = shutil.copytree(BLUEPRINTS / "root", tmp_path / "root-blueprints")
    shutil.copytree(blueprints, at_root, dirs_exist_ok=True)
    root = holon_node(tmp_path, "root", BLUEPRINTS_DIR=at_root)
    child = holon_node(tmp_path, "child", root, BLUEPRINTS_DIR=blueprints)
    asks = Ask(root, "/jobs/counting", lambda params: params), Ask(root, "/jobs/ask", counted_below)
    try:
        await root.start()
        await child.start()
        for language in LANGUAGES:
            command = programs.command(language, "worker")
            here, below = await asyncio.gather(*map(recorded, (root, child), (command, command), asks))
            assert transcript(below.said) == transcript(here.said), language
            assert transcript(below.heard) == transcript(here.heard), language
    finally:
        await child.close()
        await root.close()
