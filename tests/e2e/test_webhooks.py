"""Webhooks of whole nodes: what is to be told outlives whoever was to tell it, and of many nodes one tells."""

from __future__ import annotations

import asyncio
import signal
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Node, ended_with_test, until
from tests.e2e.quick import BLUEPRINTS, QUICK
from tests.ports import free_ports
from tests.receiver import OK, Receiver, Told, receiving, status
from tests.redis_server import RedisServer

HOOKS: dict[str, Any] = {
    "WEBHOOK_SECRET": b64encode(bytes(range(32))).decode(),
    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    **QUICK,
}
# A node that was killed has taken what it told for twenty seconds.
HELD_S = 60


def told_of(it: Receiver) -> Counter[str]:
    """How often each job's end was told."""
    return Counter(one.json["job_id"] for one in it.told)


async def told(node: Node, it: Receiver, n: int = 1) -> str:
    """A job that is over at once, and whose end is to be told."""
    return await node.create("/jobs/fan", {"branches": 0, "n": n}, webhook_url=it.url)


@pytest.mark.own_store("it is killed with its node")
async def test_i1_ends_and_events_that_nobody_had_taken_when_the_node_was_killed_are_told_once_after_its_restart(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    gone = Receiver(port)
    node = Node(tmp_path, BLUEPRINTS, **HOOKS)
    async with ended_with_test(node):
        await node.start()
        # Nobody listens there yet.
        jobs = [await told(node, gone, n) for n in range(3)]
        for job_id in jobs:
            await node.ended(job_id)
        asks = await node.create("/jobs/asks", {"n": 1}, webhook_url=gone.url)

        async def waits() -> bool:
            return bool((await node.job(asks))["status"] == "waiting_for_human")

        await until(waits, "it asks")
        await node.process.end()
        async with receiving(port=port) as it:
            await node.start()
            await it.has(4)
            later = await told(node, it)
            await it.has(5)
            assert await node.process.end(signal.SIGTERM) == 0
            assert told_of(it) == Counter([*jobs, asks, later])
            [asked] = [one.json for one in it.told if one.json["job_id"] == asks]
            assert (asked["event"], asked["context_snapshot"]["message"]) == ("approval_requested", "Go on with 1?")
        log = node.process.output.read_text()
        assert "127.0.0.1" in log
        assert "secret-of-the-path" not in log
        assert HOOKS["WEBHOOK_SECRET"] not in log


@pytest.mark.own_store("it is killed with its node")
async def test_i1_an_end_that_was_being_told_when_the_node_was_killed_is_told_again_and_known_by_its_id(
    tmp_path: Path,
) -> None:
    silent = True

    async def answering(_: Told) -> bytes | None:
        return None if silent else OK

    node = Node(tmp_path, BLUEPRINTS, **HOOKS)
    async with ended_with_test(node), receiving(answering=answering) as it:
        await node.start()
        job_id = await told(node, it)
        await it.has(1)
        await node.process.end()
        silent = False
        await node.start()
        first, second = await it.has(2)
        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
        assert first.headers["webhook-id"] == f"end_{job_id}"
        assert await node.process.end(signal.SIGTERM) == 0
        await node.start()
        assert await node.process.end(signal.SIGTERM) == 0
        assert len(it.told) == 2


async def test_a_receiver_that_fails_three_times_is_told_the_fourth_time_and_no_more(tmp_path: Path) -> None:
    node = Node(tmp_path, BLUEPRINTS, **HOOKS)
    async with ended_with_test(node), receiving() as it:
        it.answers += [status(500), status(302, f"Location: {it.url}"), b"nonsense\r\n\r\n"]
        await node.start()
        job_id = await told(node, it)
        assert {one.json["job_id"] for one in await it.has(4)} == {job_id}
        assert await node.process.end(signal.SIGTERM) == 0
        times = [int(one.headers["webhook-timestamp"]) for one in it.told]
        assert times == sorted(times)
        assert times[3] - times[2] >= times[1] - times[0] >= 1
    assert len(it.told) == 4


async def test_i10_a_node_that_is_stopped_lets_what_it_tells_be_answered(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def answering(_: Told) -> bytes | None:
        await go_on.wait()
        return OK

    node = Node(tmp_path, BLUEPRINTS, **HOOKS)
    async with ended_with_test(node), receiving(answering=answering) as it:
        await node.start()
        await told(node, it)
        await it.has(1)
        ending = asyncio.create_task(node.process.end(signal.SIGTERM))
        await until(lambda: "draining" in node.process.tail(), "it drains")
        assert not ending.done()
        go_on.set()
        assert await ending == 0
        await node.start()
        assert await node.process.end(signal.SIGTERM) == 0
    assert len(it.told) == 1


async def test_i10_a_receiver_that_does_not_answer_holds_up_no_end_and_is_told_by_the_next_node(tmp_path: Path) -> None:
    silent = True

    async def answering(_: Told) -> bytes | None:
        return None if silent else OK

    node = Node(tmp_path, BLUEPRINTS, **HOOKS, SHUTDOWN_GRACE_SECONDS=0.2)
    async with ended_with_test(node), receiving(answering=answering) as it:
        await node.start()
        await told(node, it)
        await it.has(1)
        assert await node.process.end(signal.SIGTERM) == 0
        log = node.process.output.read_text()
        assert "the drain did not finish" in log
        assert "Traceback" not in log
        silent = False
        await node.start()
        await it.has(2)
        assert await node.process.end(signal.SIGTERM) == 0
    assert len(it.told) == 2


@pytest.mark.slow
@pytest.mark.own_store("two nodes need a Redis")
async def test_i1_of_two_nodes_one_tells_and_the_other_goes_on_with_what_one_that_was_killed_had_begun(
    tmp_path: Path,
) -> None:
    silent: set[str] = set()

    async def answering(one: Told) -> bytes | None:
        return None if one.json["job_id"] in silent else OK

    server = RedisServer(append_only=True)
    places = [tmp_path / name for name in ("a", "b")]
    for place in places:
        place.mkdir()
    nodes = [
        Node(place, BLUEPRINTS, **HOOKS, STORAGE_URI=server.uri(), INSTANCE_ID=place.name, WEBHOOK_GIVE_UP_SECONDS=600)
        for place in places
    ]
    try:
        async with ended_with_test(nodes[0]), ended_with_test(nodes[1]), receiving(answering=answering) as it:
            for node in nodes:
                await node.start()
            made = await asyncio.gather(*(told(nodes[n % 2], it, n) for n in range(60)))
            await it.has(60)
            assert told_of(it) == Counter(made)

            kept = await told(nodes[0], it)
            await until(lambda: told_of(it)[kept], "it is told")
            # The next is told to somebody who does not answer: the first node has it in hand when it is killed.
            wanted = await nodes[0].create("/jobs/echo", {"n": 1, "seconds": 0}, webhook_url=it.url)
            silent.add(wanted)
            worker = nodes[0].worker("w1", "echo_worker.py")
            async with ended_with_test(nodes[0], worker):
                await worker.start()
                await until(lambda: told_of(it)[wanted], "it is told of the task's job")
                await nodes[0].process.end()
                silent.clear()
                await until(lambda: told_of(it)[wanted] > 1, "the other tells it", HELD_S)
            assert await nodes[1].process.end(signal.SIGTERM) == 0
            counted = told_of(it)
            assert counted.pop(wanted) == 2
            assert counted == Counter([*made, kept])
    finally:
        server.close()
