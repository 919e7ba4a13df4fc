"""Jobs that wait, on nodes that are killed meanwhile: each decision and each signal counts once, each pause ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.dying import PROGRAM
from tests.e2e.processes import PAUSE_S, Node, ended_with_test, until
from tests.e2e.quick import BLUEPRINTS, QUICK
from tests.redis_server import RedisServer

JOBS = 60
SECONDS = 1.0


async def brought(node: Node, path: str, given: dict[str, Any]) -> int:
    """Send it again and again under one key until the answer is sure; how often."""
    key = {"Idempotency-Key": secrets.token_hex(8)}
    times = itertools.count()

    async def sure() -> bool:
        next(times)
        with contextlib.suppress(httpx.TransportError):
            answer = await node.api.post(path, json=given, headers=key)
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                return True
        await asyncio.sleep(PAUSE_S)
        return False

    await until(sure, f"{given} is taken at {path}")
    return next(times)


async def decided(node: Node, job_id: str, word: str, number: int) -> None:
    """Decide, until the answer is sure."""
    await brought(node, f"/_public/webhooks/approval/{job_id}", {"decision": word, "data": {"n": number}})


async def judged(node: Node, jobs: dict[str, tuple[int, str]]) -> None:
    """Each job has ended as it was decided, once, and has paused as long as it was to."""
    for job_id, (number, word) in jobs.items():
        job = await node.ended(job_id)
        assert (job["status"], job["result"]) == ("finished", {"n": number}), job
        assert job["current_state"] == {"yes": "rested", "no": "given_up"}[word]
        told: dict[str, list[Any]] = {}
        for event in await node.history(job_id):
            told.setdefault(event["event_type"], []).append(event)
        (asked,), (resolved,) = told["approval_requested"], told["approval_resolved"]
        assert resolved["context_snapshot"]["approval_id"] == asked["context_snapshot"]["approval_id"]
        if word == "yes":
            (paused,), over = told["timer_started"], told["job_completed"][0]
            assert over["timestamp"] - paused["timestamp"] >= SECONDS


async def asking(node: Node) -> dict[str, tuple[int, str]]:
    """Jobs that ask, and what is to be decided."""
    made = await asyncio.gather(*(node.create("/jobs/asks", {"n": n, "seconds": SECONDS}) for n in range(JOBS)))
    for job_id in made:
        await until(partial(asks, node, job_id), "the job asks")
    return {job_id: (n, "no" if n % 4 == 0 else "yes") for n, job_id in enumerate(made)}


async def asks(node: Node, job_id: str) -> bool:
    job = await node.job(job_id)
    return bool(job["status"] == "waiting_for_human")


async def test_i1_decisions_and_pauses_survive_the_kills_of_their_node(tmp_path: Path, store: str) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK, STORAGE_URI=store)
    chance = random.Random(7)
    async with ended_with_test(node):
        await node.start()
        jobs = await asking(node)

        async def decide_all() -> None:
            for job_id, (number, word) in jobs.items():
                await decided(node, job_id, word, number)

        async with asyncio.TaskGroup() as group:
            deciding = group.create_task(decide_all())
            for _ in range(4):
                await asyncio.sleep(chance.uniform(0, 0.3))
                await node.process.end()
                await node.start()
            await deciding
        await judged(node, jobs)


class Mortal(Node):
    """A node that dies at a moment, once."""

    program = PROGRAM


@pytest.mark.parametrize(("wanted", "dies_at"), [(1, 1), (5, 3)])
async def test_i1_a_signal_whose_node_is_killed_before_it_answers_counts_once_when_it_is_sent_again(
    tmp_path: Path, store: str, wanted: int, dies_at: int
) -> None:
    dies = {"DIE_AT": "signalled", "DIE_COUNT": dies_at, "DIE_ONCE": tmp_path / "died"}
    node = Mortal(tmp_path, BLUEPRINTS, **QUICK, **dies, STORAGE_URI=store)
    async with ended_with_test(node):
        await node.start()
        supervisor = asyncio.create_task(node.process.restarted())
        job_id = await node.create("/jobs/ticks", {"wanted": wanted})
        path = f"/api/v1/jobs/{job_id}/signals"
        times = [await brought(node, path, {"name": "tick", "data": {"n": n}}) for n in range(wanted)]
        # The answer to one was lost; it was the end of its job, or others came after it.
        assert (tmp_path / "died").exists()
        assert [n for n, often in enumerate(times, 1) if often > 1] == [dies_at]
        job = await node.ended(job_id)
        assert (job["status"], job["result"]) == ("finished", [*range(wanted)])
        received = [event for event in await node.history(job_id) if event["event_type"] == "signal_received"]
        assert len(received) == wanted
        supervisor.cancel()


@pytest.mark.own_store("two nodes are on it, of which one is killed")
async def test_i6_another_node_takes_decisions_and_ends_pauses_when_one_is_gone(tmp_path: Path) -> None:
    with contextlib.closing(RedisServer(append_only=True)) as server:
        folders = tmp_path / "a", tmp_path / "b"
        for folder in folders:
            folder.mkdir()
        first, second = (
            Node(folder, BLUEPRINTS, **QUICK, STORAGE_URI=server.uri(), INSTANCE_ID=folder.name) for folder in folders
        )
        async with ended_with_test(first), ended_with_test(second):
            await first.start()
            await second.start()
            jobs = await asking(first)
            for place, (job_id, (number, word)) in enumerate(jobs.items()):
                if place == JOBS // 2:
                    await first.process.end()
                await decided(second if place % 2 or place >= JOBS // 2 else first, job_id, word, number)
            await judged(second, jobs)
