"""Results that come together: what may change while they are decided upon, for others run in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from holon.domain.matching import ANY_CONTRACT, Offering
from holon.domain.task import SUCCESS, Outcome, RetryPolicy
from holon.engine.contracts import Contracts
from holon.engine.dispatcher import Dispatcher
from holon.engine.results import Reported, Results
from holon.engine.session import Session
from holon.ports import Completed, Offer
from holon.ports.tasks import Leased, Seat
from holon.telemetry.events import Telemetry

SKILL = {Offering("t"): ANY_CONTRACT}
NOTHING: Any = None
DONE = Outcome(SUCCESS, data=b"{}")


class Store:
    """A store that takes every result; what it was asked for with each of its calls."""

    def __init__(self) -> None:
        self.seats: list[Seat] = []

    def now(self) -> int:
        return 0

    async def complete(self, results: Any, worker_id: str, seats: Any) -> Completed:
        self.seats += seats
        await asyncio.sleep(0)
        return Completed((None,) * len(results), leased=Leased())


class Node:
    """What takes results in, around a store; `deciding` is called where a job would decide upon each."""

    def __init__(self, deciding: Callable[[], None]) -> None:
        self.store = Store()
        store: Any = self.store
        self.telemetry = Telemetry()
        self.dispatcher = Dispatcher(store, self.telemetry)
        fusing: Any = SimpleNamespace(after=lambda *_: deciding())
        contracts = Contracts()
        self.judged: list[Outcome] = []

        def judged(_: Session, results: Iterable[tuple[str, Outcome, bool]]) -> None:
            self.judged += [outcome for _, outcome, _ in results]

        self._results = Results(store, self.dispatcher, contracts, fusing, 1000, self.telemetry, judged)

    def session(self, name: str, leases: int) -> Session:
        session = Session("w", name, leases, SKILL, NOTHING)
        made = [f"{number}-0" for number in range(leases)]
        session.leases = {one: offer(name, one) for one in made}
        self.dispatcher.add(session)
        return session

    async def complete(self, session: Session, done: Outcome = DONE) -> None:
        answers = await self._results.complete(session, [Reported(one, one, done) for one in session.leases])
        assert {(one.superseded, one.invalid, one.again_after) for one in answers} == {(None, None, None)}


def offer(session_id: str, name: str) -> Offer:
    return Offer("w", session_id, name, name, "j", "t", "", "", b"{}", 0.0, 1, 1, None, None, RetryPolicy())


@pytest.fixture(autouse=True)
def every_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if to decide upon one result took long."""
    monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)


async def test_results_are_those_of_the_stream_that_has_taken_over_their_leases_meanwhile() -> None:
    some = asyncio.Event()
    node = Node(some.set)
    older = node.session("s1", 3)
    completing = asyncio.create_task(node.complete(older))
    await some.wait()
    node.dispatcher.remove(older)
    newer = node.session("s2", 3)
    older.past, older.leases = older.leases, {}
    await completing
    assert newer.leases == {}
    assert sum(node.telemetry.metrics.results.values.values()) == 3


async def test_a_failure_is_judged_once_though_it_is_told_on_two_streams_at_once() -> None:
    node = Node(lambda: None)
    session = node.session("s1", 3)
    failed = Outcome.failed("PERMANENT_ERROR", "")
    await asyncio.gather(*(node.complete(session, failed) for _ in range(2)))
    assert len(node.judged) == 3
    # Who has the best reputation is not made better: nobody is asked.
    await node.complete(node.session("s2", 3))
    assert len(node.judged) == 3
