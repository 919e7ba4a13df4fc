"""What workers send is checked by schemas that may be dear: however much comes together, others run in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from holon.domain.events import Occurred
from holon.domain.matching import Offering
from holon.domain.task import SUCCESS, Outcome, RetryPolicy
from holon.engine.dispatcher import Dispatcher
from holon.engine.occurrences import Occurrences
from holon.engine.results import Reported, Results
from holon.engine.session import Session
from holon.errors import Violation
from holon.ports import Completed, Offer
from holon.ports.tasks import Leased
from holon.telemetry.events import Telemetry

NOTHING: Any = None
LEASES = ("l1", "l2", "l3")


class Dear:
    """Contracts that nothing fits; how often others had run by each check."""

    def __init__(self) -> None:
        self.passes = 0
        self.seen: list[int] = []

    def violations(self, *_: object) -> Sequence[Violation]:
        self.seen.append(self.passes)
        return (Violation("payload", "is wrong"),)

    async def others(self) -> None:
        while True:
            self.passes += 1
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def every_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)


def holding() -> Session:
    session = Session("w", "s", 3, {Offering("t"): "dear"}, NOTHING)
    session.events = {("t", "", ""): {"seen": "dear"}}
    session.leases = {
        one: Offer("w", "s", f"{one}-0", one, "j", "t", "", "", b"{}", 0.0, 1, 1, None, None, RetryPolicy())
        for one in LEASES
    }
    return session


async def test_others_run_between_events_that_are_checked() -> None:
    dear: Any = Dear()
    others = asyncio.create_task(dear.others())
    events = [Occurred(f"{one}-0", one, f"e-{one}", "seen", b"{}", 1) for one in LEASES]
    answers = await Occurrences(NOTHING, dear, strict=True).take(holding(), events)
    others.cancel()
    assert [answer.code for answer in answers.values() if answer is not None] == ["EVENT_INVALID"] * 3
    assert len(set(dear.seen)) == 3


async def test_others_run_between_results_that_are_checked() -> None:
    class Store:
        async def complete(self, results: Sequence[Any], *_: object) -> Completed:
            return Completed((None,) * len(results), leased=Leased())

        def now(self) -> int:
            return 0

    dear: Any = Dear()
    store: Any = Store()
    fusing: Any = SimpleNamespace(after=lambda *_: None)
    telemetry, session = Telemetry(), holding()
    dispatcher = Dispatcher(store, telemetry)
    dispatcher.add(session)
    results = Results(store, dispatcher, dear, fusing, 1000, telemetry)
    others = asyncio.create_task(dear.others())
    done = [Reported(f"{one}-0", one, Outcome(SUCCESS, b"{}")) for one in LEASES]
    answers = await results.complete(session, done)
    others.cancel()
    assert [answer.invalid is not None for answer in answers] == [True] * 3
    assert len(set(dear.seen)) == 3
