"""Decisions on what jobs below ask: which names they have, and what outruns them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from holon.domain.events import HistoryEvent
from holon.domain.job import Job
from holon.domain.value import replace
from holon.engine import ways_down
from holon.engine.passing_down import PassingDown
from holon.engine.ways_down import NOT_HELD, Decision, PassedDown, WaysDown
from holon.errors import FailedPrecondition, HolonError, Unavailable
from holon.ports import JobRecord

RECORD = JobRecord(Job("0-a", "top", "ann", {}, "start", events=1), 1, 1, None, None, "")
DECISION = Decision("0-b-3", "yes", "ann", b"", "", "r1", "", 1)
PATH = {"job_ids": ["0-b"], "holon_ids": ["low"]}


def line(kind: str, **said: Any) -> HistoryEvent:
    details = {"payload": {"approval_id": "0-b-3", **said}, **PATH}
    return HistoryEvent(f"worker_event:approval_{kind}", 1, task_id="0-a-1-0", details=details)


class Above:
    """The job above, its history and its task, and the holon that does that; `then` is called before each answer."""

    def __init__(self, *answers: HolonError | None, state: str = "leased") -> None:
        self.lines = [line("requested")]
        self.state = state
        self.passed: list[PassedDown] = []
        self.taken: list[tuple[str, str, str]] = []
        self.then: Callable[[], None] = lambda: None
        self._answers = list(answers)

    async def all_lines(self, _: JobRecord) -> AsyncIterator[HistoryEvent]:
        for one in self.lines:
            yield one

    async def job(self, _: str) -> JobRecord:
        self.then()
        return RECORD

    async def task(self, task_id: str) -> Any:
        class Task:
            id, state, worker_id, lease_id = task_id, self.state, "child", "l1"

        return Task()

    async def decide(self, passed: PassedDown, seconds: float) -> None:
        assert seconds == 3.0
        self.passed.append(passed)
        if self._answers and (error := self._answers.pop(0)) is not None:
            raise error

    async def take(self, job_id: str, decision: Decision, command_id: str) -> None:
        self.taken.append((job_id, decision.decision, command_id))

    async def resolve(self, decision: Decision = DECISION) -> None:
        above: Any = self

        class Records:
            events, job = above.all_lines, above.job

        records: Any = Records
        ways = WaysDown(above, records, lambda _: above)
        await PassingDown(records, ways, above.take).resolve(RECORD, decision)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_down, "_PAUSES_S", (0.0, 0.0))


async def test_a_decision_has_one_name_on_all_of_its_way_and_another_for_each_question_and_request() -> None:
    above = Above()
    from_above = replace(DECISION, above="parent", request_id="c1")
    several = [
        DECISION,
        DECISION,
        replace(DECISION, request_id="r2"),
        *[replace(DECISION, request_id="")] * 2,
        from_above,
    ]
    for one in several:
        await above.resolve(one)
    names = [one.command_id for one in above.passed]
    assert names[0] == names[1]
    assert names[-1] == "c1"
    assert len(set(names)) == 5


async def test_a_task_that_went_elsewhere_in_between_is_looked_up_again() -> None:
    moved = Unavailable("not here", code=NOT_HELD, retry_after=1.0)
    above = Above(moved, None)
    await above.resolve()
    assert len(above.passed) == 2
    always = Above(*[moved] * 9)
    with pytest.raises(Unavailable, match="not here") as away:
        await always.resolve()
    assert (away.value.code, len(always.passed)) == ("HOLON_AWAY", 3)


async def test_a_repeat_that_its_own_end_outran_is_answered_once_that_is_in_the_history() -> None:
    above = Above()
    await above.resolve()
    over = Above(state="over")

    def known() -> None:
        over.lines.append(line("resolved", decision="yes", request_id=above.passed[0].command_id))

    over.then = known
    await over.resolve()
    assert not over.passed
    # Of another, or of nothing more, it is closed.
    for said in (lambda: over.lines.append(line("timed_out")), lambda: None):
        over.lines, over.then = [line("requested")], said
        with pytest.raises(FailedPrecondition) as closed:
            await over.resolve()
        assert closed.value.code == "APPROVAL_NOT_OPEN"


async def test_what_another_task_tells_of_a_question_neither_closes_it_nor_gets_its_decision() -> None:
    above = Above()
    for kind in ("resolved", "timed_out", "requested"):
        above.lines.append(replace(line(kind, decision="no"), task_id="0-a-1-1"))
        await above.resolve()
    assert [one.task_id for one in above.passed] == ["0-a-1-0"] * 3
    # What is told as closed before anybody asked it is asked by nobody.
    above.lines = [replace(line("resolved", decision="no"), task_id="0-a-1-1"), line("requested")]
    await above.resolve()
    assert len(above.passed) == 4
