"""Reputations at the nodes of a store: what moves there adds up, counts once, and decides who gets tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holon.clock import ManualClock
from holon.domain.fleet import Catalog, Skill
from holon.domain.matching import ANY_CONTRACT, Need, Offering
from holon.domain.reputation import RECOVERS_PER_HOUR, Rules
from holon.domain.task import SUCCESS, Outcome
from holon.engine import reputations
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.reputations import KIND, Reputations
from holon.engine.session import Session
from holon.errors import StoreUnavailable
from holon.ports import Put, StoreSettings
from holon.storage.memory import MemoryStorage
from holon.telemetry.events import Telemetry

GUARD = 10.0
HOUR = 3_600_000
NOTHING: Any = None
T = Need("t")
RULES = Rules(threshold=0.3)
BAD = ("t", Outcome.failed("PERMANENT_ERROR", ""), False)
GOOD = ("t", Outcome(SUCCESS), False)


class Store(MemoryStorage):
    """A store that may lose replies; what was written to it."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(StoreSettings("n"), clock)
        self.writes = 0
        self.loses = 0
        self.refuses = 0

    async def put_documents(self, kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        self.writes += 1
        if self.refuses:
            self.refuses -= 1
            raise StoreUnavailable("it is away", retry_after=0)
        versions = await super().put_documents(kind, puts)
        if self.loses:
            self.loses -= 1
            raise StoreUnavailable("the reply is lost", retry_after=0)
        return versions


class Node:
    """One node's part in it, with sessions of workers that offer `t`."""

    def __init__(self, store: Store, rules: Rules = RULES) -> None:
        self.store = store
        self.dispatcher = Dispatcher(NOTHING, Telemetry())
        self.fleet = Fleet(self.dispatcher, store.now)
        self.reputations = Reputations(store, self.dispatcher, self.fleet, store.now, rules)

    def session(self, worker_id: str = "w", *, is_holon: bool = False) -> Session:
        session = Session(worker_id, f"of {worker_id} at {id(self)}", 5, {Offering("t"): ANY_CONTRACT}, NOTHING)
        session.is_holon = is_holon
        self.reputations.joined(session)
        self.fleet.joined(session, "", {}, Catalog((Skill("t"),)))
        self.dispatcher.add(session)
        return session

    def chosen(self) -> list[str]:
        """Who would get a new task."""
        seats = self.dispatcher.seats_for({T: 1})
        with self.dispatcher.naming(seats):
            return [seat.worker_id for seat in seats]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loop = asyncio.create_task(self.reputations.run())
        stop = self.store.hear(lambda hint: self.reputations.hints.changed(hint.documents))
        try:
            yield
        finally:
            stop()
            loop.cancel()
            await asyncio.wait([loop])

    async def until(self, worker_id: str, value: float) -> None:
        async with asyncio.timeout(GUARD):
            while self.reputations.of(worker_id, "t").value != pytest.approx(value):  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.001)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(reputations, "PAUSE_S", 0.001)
    async with Store(clock) as store:
        yield store


async def test_who_has_the_best_and_does_well_costs_the_store_nothing(store: Store) -> None:
    node = Node(store)
    session = node.session()
    node.reputations.judged(session, [GOOD] * 10)
    await node.reputations.drain()
    assert (store.writes, session.reputation_of("t")) == (0, 1.0)
    # And the order counts: a failure after them is no less of one.
    node.reputations.judged(session, [GOOD] * 10)
    node.reputations.judged(session, [BAD])
    assert session.reputation_of("t") == pytest.approx(0.95)
    node.reputations.judged(session, [GOOD] * 10)
    assert session.reputation_of("t") == pytest.approx(0.96)
    await node.reputations.drain()
    assert store.writes == 1
    assert node.reputations.of("w", "t").value == pytest.approx(0.96)


async def test_what_moves_at_several_nodes_at_once_adds_up_and_each_learns_of_it(store: Store) -> None:
    one, other = Node(store), Node(store)
    here, there = one.session(), other.session()
    async with one.running(), other.running():
        for _ in range(4):
            one.reputations.judged(here, [BAD])
            other.reputations.judged(there, [BAD])
            await asyncio.sleep(0)
        await one.until("w", 0.6)
        await other.until("w", 0.6)
        for session in (here, there):
            assert session.reputation_of("t") == pytest.approx(0.6)


@pytest.mark.parametrize("lost", [True, False])
async def test_what_a_store_that_was_away_may_have_heard_counts_once(store: Store, lost: bool) -> None:
    node = Node(store)
    session = node.session()
    for _ in range(2):
        store.loses, store.refuses = int(lost), int(not lost)
        node.reputations.judged(session, [BAD])
        # It is told in the log, and goes with the next.
        await node.reputations.drain()
    await node.reputations.drain()
    later = Node(store)
    await later.reputations.recall()
    assert later.reputations.of("w", "t").value == session.reputation_of("t") == pytest.approx(0.9)


async def test_what_may_have_been_heard_and_was_written_over_since_does_not_count_again(store: Store) -> None:
    one, other = Node(store), Node(store)
    one.reputations.judged(one.session(), [BAD])
    store.loses = 1
    await one.reputations.drain()
    other.reputations.judged(other.session(), [BAD])
    await other.reputations.drain()
    await one.reputations.drain()
    assert one.reputations.of("w", "t").value == pytest.approx(0.9)


async def test_what_cannot_be_read_is_told_and_written_over(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    await store.put_document(KIND, reputations._document_of(("w", "t")), b"?", version=0)
    node = Node(store)
    node.reputations.judged(node.session(), [BAD])
    await node.reputations.drain()
    assert "a reputation of worker w cannot be read" in caplog.text
    await node.reputations.recall()
    assert node.reputations.of("w", "t").value == pytest.approx(0.95)


async def test_a_worker_under_the_threshold_is_not_chosen_until_its_reputation_is_back(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reputations, "LOOK_EVERY_S", 0.01)
    node, other = Node(store), Node(store)
    session, elsewhere = node.session(), other.session()
    async with node.running(), other.running():
        assert (node.chosen(), other.chosen()) == (["w"], ["w"])
        offers, changes = node.fleet.offerings(), node.fleet.changes
        node.reputations.judged(session, [BAD] * 16)
        assert session.reputation_of("t") == pytest.approx(0.2)
        assert (node.chosen(), node.dispatcher.can_do(T), node.fleet.offerings()) == ([], False, frozenset())
        assert node.fleet.changes > changes
        assert node.dispatcher.why(T) == "waiting: every suitable worker with skill 't' has too low a reputation"
        await other.until("w", 0.2)
        assert (sorted(elsewhere.distrusted), other.chosen()) == (["t"], [])
        # It comes again, and is who it was.
        node.dispatcher.remove(session)
        again = node.session()
        assert (sorted(again.distrusted), node.chosen()) == (["t"], [])
        clock.advance(HOUR)
        async with asyncio.timeout(GUARD):
            while again.distrusted or elsewhere.distrusted:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (node.chosen(), other.chosen(), node.fleet.offerings()) == (["w"], ["w"], offers)
    # Nobody keeps what has come back to the best.
    clock.advance(8 * HOUR)
    assert await store.documents(KIND) == []
    assert Node(store).session().reputations == {}


async def test_who_comes_back_is_looked_at_in_that_moment(store: Store, clock: ManualClock) -> None:
    node = Node(store, Rules(threshold=0.95 + RECOVERS_PER_HOUR * 20_000 / HOUR))
    node.session("w2")
    session = node.session()
    assert node.reputations._wait_s() == reputations.LOOK_EVERY_S
    node.reputations.judged(session, [BAD])
    await node.reputations.drain()
    node.reputations._stand_all()
    assert (node.chosen(), node.reputations._wait_s()) == (["w2"], 20.0)
    clock.advance(20_000)
    assert (sorted(session.distrusted), node.reputations._wait_s()) == (["t"], 0.0)
    node.reputations._stand_all()
    assert (sorted(session.distrusted), node.reputations._wait_s()) == ([], reputations.LOOK_EVERY_S)


async def test_a_node_that_starts_knows_what_workers_did_before(store: Store) -> None:
    node = Node(store)
    node.reputations.judged(node.session(), [BAD] * 16)
    await node.reputations.drain()
    later = Node(store)
    await later.reputations.recall()
    assert later.session().distrusted
    assert not later.session("w2").distrusted


async def test_with_no_penalties_nothing_moves(store: Store) -> None:
    node = Node(store, Rules(failure=0.0))
    node.reputations.judged(node.session(), [BAD] * 100)
    await node.reputations.drain()
    assert store.writes == 0


async def test_of_equally_busy_ones_the_better_gets_a_task_and_the_catalog_has_their_mean(store: Store) -> None:
    node = Node(store)
    worse = node.session("worse")
    node.session("better")
    node.reputations.judged(worse, [BAD] * 2)
    assert [node.chosen() for _ in range(3)] == [["better"]] * 3
    assert [one.average_reputation for one in node.fleet.skills()] == [0.95]
    assert {one.worker_id: one.view().reputation for one in node.fleet.workers()} == {"worse": 0.9, "better": 1.0}
