"""Workers that mean harm: a small message costs little, one that does not read holds nothing, others go on."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from holon.engine import planning
from holon.engine.needs import Needs
from holon.ports import Seat, StoreSettings, Touch, Touched
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from tests.integration.grpc_node import (
    SESSION,
    Node,
    Wire,
    a_node,
    heartbeat,
    hello,
    json_payload,
    offering,
    result,
    trust,
    update,
    updates,
    worker_files,
)

LONG = "x" * 100_000
MANY = 10_001


def held(*leases: types_pb2.LeaseRef) -> worker_pb2.SessionRequest:
    return heartbeat(held=worker_pb2.HeldLeases(leases=leases))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (held(*[types_pb2.LeaseRef()] * MANY), "INVALID_ARGUMENT"),
        (held(types_pb2.LeaseRef(task_id="t", lease_id=LONG)), "INVALID_ARGUMENT"),
        (held(types_pb2.LeaseRef(task_id=LONG, lease_id="l")), "INVALID_ARGUMENT"),
        (updates(worker_pb2.TaskUpdate(task_id="t", lease_id=LONG)), "INVALID_ARGUMENT"),
        (
            updates(worker_pb2.TaskUpdate(task_id=LONG, lease_id="l", result=worker_pb2.TaskResult(status="success"))),
            "INVALID_ARGUMENT",
        ),
        (updates(*[worker_pb2.TaskUpdate(result=worker_pb2.TaskResult())] * MANY), "BATCH_TOO_LARGE"),
        (
            updates(*[worker_pb2.TaskUpdate(lease_id=LONG, result=worker_pb2.TaskResult())] * 11),
            "BATCH_TOO_LARGE",
        ),
    ],
)
async def test_an_answer_is_never_larger_than_what_it_refuses(
    node: Node, frame: worker_pb2.SessionRequest, reason: str
) -> None:
    worker = await node.worker("w1", offering("good"))
    await worker.send(frame)
    refused = await worker.refused()
    assert (refused.error.reason, refused.task_id, refused.lease_id) == (reason, "", "")
    assert refused.ByteSize() < 2_000
    await node.finishes_jobs(worker)


async def test_a_worker_that_offers_thousands_of_contracts_takes_none_from_others(node: Node) -> None:
    good = await node.worker("good-1", offering("good", input_schema=json_payload({"required": ["n"]})))
    bad = await node.worker("bad-1", offering("x"))
    for sequence in range(1, 7):
        offered = [
            offering(f"s{number}", input_schema=json_payload({"maxProperties": sequence * 1_000 + number}))
            for number in range(999)
        ]
        offered.append(offering("version", version=str(sequence)))
        await bad.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=sequence, offerings=offered)))
        await node.until(lambda number=sequence: _offers(node, "bad-1") == number)  # type: ignore[misc]
    await node.finishes_jobs(good)


def _offers(node: Node, worker_id: str) -> int:
    """Which of its catalogs a worker is known to offer."""
    [session] = [one for one in node.engine.dispatcher.sessions if one.worker_id == worker_id]
    return int(session.offerings[-1].version or 0)


async def test_a_catalog_offers_one_skill_in_so_many_versions_at_most(node: Node) -> None:
    worker = await node.worker("w1", offering("good"))
    versions = [offering("t", version=str(number)) for number in range(33)]
    await worker.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=1, offerings=versions)))
    assert (await worker.refused()).error.reason == "INVALID_ARGUMENT"
    await node.finishes_jobs(worker)


async def test_a_heartbeat_that_names_leases_by_the_thousand_is_told_of_some_at_a_time(node: Node, good: Wire) -> None:
    worker = await node.worker("w1")
    names = [f"made-up-{number}" for number in range(10_000)]
    await worker.send(held(*[types_pb2.LeaseRef(task_id="t", lease_id=name) for name in names]))
    stopped = [(await worker.expect("stop_tasks")).lease_id for _ in range(256)]
    assert stopped == names[:256]
    await worker.expect("heartbeat_ack")
    await worker.send(held(types_pb2.LeaseRef(task_id="t", lease_id=names[-1])))
    assert (await worker.expect("stop_tasks")).lease_id == names[-1]
    await worker.expect("heartbeat_ack")
    await node.finishes_jobs(good)


class Noting(MemoryStorage):
    """A store that notes what it is told of heartbeats: whether there were leases to extend."""

    def __init__(self) -> None:
        super().__init__(StoreSettings("node-1", lease=600_000, offer=600_000))
        self.touches: list[bool] = []

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        self.touches.append(bool(touch.extends))
        return await super().touch(touch, seats)


async def test_a_flood_of_heartbeats_extends_what_is_held_once_a_second() -> None:
    async with Noting() as store, a_node(store=store) as node:
        good = await node.worker("good-1", offering("good"))
        worker = await node.worker("w1", credits=20)
        jobs = [await node.create(n=n) for n in range(20)]
        offers = [await worker.offer() for _ in jobs]
        await worker.send(updates(*[update(offer, accepted=worker_pb2.TaskAccepted()) for offer in offers]))
        loop = asyncio.get_running_loop()
        began = loop.time()
        store.touches.clear()
        # Others' words are carried at once with each that says something new.
        for sequence in range(200):
            await worker.beat(sequence, credits=20 + sequence % 2)
        await node.finishes_jobs(good)
        await node.until(lambda: any(store.touches))
        assert sum(store.touches) <= 2 + (loop.time() - began)
        assert len(store.touches) > sum(store.touches)


PATTERNS = json_payload({"properties": {f"p{number}": {"pattern": f"^{number}$"} for number in range(60)}})


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ([offering("s", input_schema=types_pb2.Payload(data=b'{"default":[' + b"[]," * 30_000 + b"1]}"))], "65536"),
        ([offering(f"s{n}", output_schema=PATTERNS) for n in range(5)], "over 256 patterns"),
    ],
)
async def test_what_would_take_much_memory_is_not_learned(
    node: Node, good: Wire, offered: list[worker_pb2.Offering], reason: str
) -> None:
    bad = await node.worker("bad-1")
    await bad.send(worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=1, offerings=offered)))
    assert reason in (await bad.refused()).error.message
    assert _offers(node, "bad-1") == 0
    await node.finishes_jobs(good)


async def test_params_and_results_that_fit_a_schema_in_endlessly_many_ways_hold_up_nobody(
    node: Node, good: Wire
) -> None:
    """The schemas are what a union of records that refer to it has; the values are small, deep and wrong."""
    ways = [{"properties": {"a": {"$ref": "#/$defs/x"}}, "required": [name]} for name in "bc"]
    schema = json_payload({"$defs": {"x": {"anyOf": ways}}, "properties": {"a": {"$ref": "#/$defs/x"}}})
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    worker = await node.worker("w1", offering("in", input_schema=schema), offering("out", output_schema=schema))
    await node.create(skill="in", **deep)
    await node.create(skill="out")
    await worker.send(updates(result(await worker.offer(), deep)))
    ack = await worker.verdict()
    assert (ack.verdict, ack.error.reason) == (worker_pb2.VERDICT_INVALID, "SCHEMA_MISMATCH")
    await node.finishes_jobs(good)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "[ab]*a[ab]{800}c"}, "ab" * 400_000),
        ({"items": {"multipleOf": 1e-300}}, [1e308] * 100_000),
    ],
)
async def test_texts_and_numbers_that_are_dear_to_check_hold_up_nobody(
    node: Node, good: Wire, schema: dict[str, Any], value: Any
) -> None:
    """Each of them would keep the whole node busy for seconds, as the params of anybody's job or as a result."""
    contract = json_payload({"properties": {"x": schema}})
    worker = await node.worker("w1", offering("in", input_schema=contract), offering("out", output_schema=contract))
    waits = await node.create(skill="in", x=value)
    await node.create(skill="out")
    offer = await worker.offer()
    assert offer.skill == "out"
    await worker.send(updates(result(offer, {"x": value})))
    ack = await worker.verdict()
    assert (ack.verdict, ack.error.reason) == (worker_pb2.VERDICT_INVALID, "SCHEMA_MISMATCH")
    assert "too large for its schema" in ack.error.message
    await node.finishes_jobs(good)
    assert not (await node.job(waits)).terminal


async def test_others_run_between_two_branches_whose_params_are_dear_to_check(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take some tenths of a second on contracts that a stranger brings, and there may be hundreds."""
    monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)
    monkeypatch.setattr(planning, "PATIENCE_S", -1.0)
    find, tried, turns = Needs.of, [], 0

    def of(*arguments: Any, **more: Any) -> Any:
        tried.append(turns)
        return find(*arguments, **more)

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(Needs, "of", of)
    ticking = asyncio.create_task(tick())
    await node.create("spread", branches=50)
    await node.until(lambda: len(tried) >= 50)
    ticking.cancel()
    # At the very first, those that are made at once are given up.
    assert len(set(tried[-40:])) >= 39


@pytest.mark.slow
async def test_a_worker_that_does_not_read_is_ended_and_its_tasks_go_to_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with a_node(silence=3.0, offer=0.2, lease=4.0) as node:
        # Its own end of the connection takes in little of what it does not read.
        options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * 1024))
        target = f"localhost:{node.workers.port}"
        channel = grpc.aio.secure_channel(target, trust(worker_files("w1")), options=options)
        deaf = Wire((await node.resources.enter_async_context(channel)).stream_stream(SESSION)())
        await deaf.send(hello(credits=10_000))
        await deaf.expect("welcome")
        jobs = [await node.create(pad="x" * 200_000) for _ in range(20)]
        async with alive(deaf):
            await node.until(lambda: not list(node.engine.dispatcher.sessions))
        assert "ended: STREAM_FULL" in caplog.text
        other = await node.worker("w2", credits=20)
        taken: set[str] = set()
        async with alive(other) as say:
            while len(taken) < len(jobs):
                kind, said = await other.next()
                if kind == "task_offers":
                    say.append(result(said))
                    taken.add(said.job_id)
        assert taken == set(jobs)


@asynccontextmanager
async def alive(worker: Wire) -> AsyncIterator[list[worker_pb2.TaskUpdate]]:
    """Heartbeats, with what is to be said between them."""
    say: list[worker_pb2.TaskUpdate] = []

    async def beat() -> None:
        for sequence in itertools.count(1):
            # What comes to be said while this is sent is said next.
            said, say[:] = list(say), []
            await worker.send(updates(*said) if said else heartbeat(sequence))
            await asyncio.sleep(0.05)

    beats = asyncio.create_task(beat())
    try:
        yield say
    finally:
        beats.cancel()
    await asyncio.gather(beats, return_exceptions=True)
