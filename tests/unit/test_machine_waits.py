"""The machine: jobs that wait for a person, or for a time."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.change import Change
from holon.domain.decisions import AwaitApproval, Sleep
from holon.domain.events import ApprovalResolved, HistoryEvent, Woken, event_type_of
from holon.domain.job import Job, Question, Status, Waiting
from holon.domain.reactions import react
from holon.domain.value import replace
from holon.domain.waiting import stays
from holon.stores.records import decode_event, decode_job, encode_event, encode_job
from tests.unit.machine import ANN, LIMITS, NOW, after, decided, error_of, job, types

ASK = AwaitApproval("chat", "Publish?", {"yes": "publish", "no": "discard", "cancelled": "tidy"})
YES = ApprovalResolved("0-a-4", "yes", "ann", comment="fine")


def written(change: Change) -> Job:
    """The job of a change, once its step is in the store and was read again."""
    return decode_job(encode_job(replace(change.job, step=change.job.step + 1)))


def asking(**fields: Any) -> Job:
    return written(decided(replace(ASK, **fields), job(state_history={"a": 1, "b": 2})))


def test_a_question_waits_for_a_person_and_says_what_may_be_decided() -> None:
    change = decided(ASK)
    assert (change.job.status, change.job.current_state, change.wake_after) == (Status.WAITING_FOR_HUMAN, "start", None)
    assert change.job.waiting == Waiting(4, ASK.transitions, None, Question("0-a-4", "Publish?", "chat", NOW))
    assert change.job.waiting.decisions == ("yes", "no")
    assert types(change) == ["state_finished", "approval_requested"]
    assert change.history[1].details == {
        "approval_id": "0-a-4",
        "integration": "chat",
        "message": "Publish?",
        "decisions": ["yes", "no"],
    }
    assert asking().waiting == change.job.waiting


def test_a_decision_leads_on_and_what_comes_with_it_is_merged() -> None:
    assert decode_event(encode_event(YES)) == YES
    above = replace(YES, above="a-holon", decided_at=NOW + 500)
    assert decode_event(encode_event(above)) == above
    assert after(asking(), above).history[0].details["parent_holon_id"] == "a-holon"
    change = after(asking(), YES, {"b": 3})
    assert (change.job.status, change.job.current_state, change.job.waiting) == (Status.RUNNING, "publish", None)
    assert change.job.state_history == {"a": 1, "b": 3}
    details = {"approval_id": "0-a-4", "decision": "yes", "by": "ann", "comment": "fine"}
    told = HistoryEvent("approval_resolved", NOW, "start", next_state="publish", details=details)
    assert change.history == (told,)


@pytest.mark.parametrize("stale", [replace(YES, approval_id="0-a-3"), replace(YES, decision="maybe"), Woken(4)])
def test_what_is_no_decision_of_the_open_question_changes_nothing(stale: Any) -> None:
    assert react(asking(), stale, {}, None, NOW) is None


def test_a_decision_changes_nothing_of_a_job_that_asks_nothing() -> None:
    assert react(after(asking(), YES).job, YES, {}, None, NOW) is None
    assert react(written(decided(Sleep(60, "next"))), YES, {}, None, NOW) is None


def test_a_cancel_ends_a_job_that_waits_for_a_person_or_has_it_clean_up() -> None:
    cleans = after(asking(), ANN).job
    assert (cleans.status, cleans.current_state, cleans.cancelling) == (Status.RUNNING, "tidy", True)
    assert after(asking(transitions={"yes": "publish"}), ANN).job.status is Status.CANCELLED


def test_a_question_whose_time_is_over_goes_on_by_timeout_and_says_why() -> None:
    one = asking(transitions={"yes": "publish", "timeout": "remind"}, timeout_seconds=90)
    assert one.waiting is not None
    assert (one.waiting.due, one.waiting.decisions) == (NOW + 90_000, ("yes",))
    change = after(one, Woken(4))
    assert (change.job.status, change.job.current_state) == (Status.RUNNING, "remind")
    assert change.job.state_history["error"] == {
        "code": "APPROVAL_TIMEOUT",
        "message": "no decision came within 90 s",
        "details": None,
    }
    assert types(change) == ["approval_timed_out"]


def test_what_is_told_of_a_question_counts_as_an_event_of_its_job() -> None:
    assert [event_type_of(line) for line in decided(ASK).history] == ["", "approval_requested"]
    assert asking(timeout_seconds=1).events == 1
    assert after(asking(), YES).job.events == 2
    assert after(asking(timeout_seconds=1), Woken(4)).job.events == 2
    assert after(asking(timeout_seconds=1, transitions={"a": "b", "timeout": "c"}), Woken(4)).job.events == 2
    # Nobody decided.
    assert after(asking(), ANN).job.events == 1


def test_a_question_whose_time_is_over_fails_its_job_where_no_timeout_leads_on() -> None:
    change = after(asking(timeout_seconds=0.5), Woken(4))
    assert (change.job.status, error_of(change).code) == (Status.FAILED, "APPROVAL_TIMEOUT")
    assert types(change) == ["approval_timed_out", "job_completed"]


def test_a_pause_waits_for_its_time_and_then_leads_on() -> None:
    change = decided(Sleep(1.5, "next"))
    assert (change.job.status, change.wake_after) == (Status.WAITING_FOR_TIMER, 1_500)
    assert types(change) == ["state_finished", "timer_started"]
    assert change.history[1].details == {"until": NOW / 1000 + 1.5}
    one = written(change)
    assert one.waiting == change.job.waiting
    woken = after(one, Woken(4)).job
    assert (woken.status, woken.current_state, woken.waiting) == (Status.RUNNING, "next", None)


@pytest.mark.parametrize("decision", [Sleep(60, "next"), replace(ASK, timeout_seconds=60)])
def test_what_is_stale_neither_lengthens_a_wait_nor_ends_it(decision: Any) -> None:
    one = written(decided(decision))
    change = stays(one, LIMITS, NOW + 45_000, 0.5)
    assert change.wake_after == 15_000
    again = written(change)
    assert again.waiting is not None
    assert (again.waiting.due, again.waiting.step) == (NOW + 60_000, 5)
    assert react(again, Woken(4), {}, None, NOW) is None
    assert react(again, Woken(5), {}, None, NOW) is not None
    # A node that is slower than its timers still gets to its end.
    assert react(again, Woken(4), {}, None, NOW + 60_000) is not None
    assert stays(again, LIMITS, NOW + 61_000, 0.5).wake_after == 0


def test_what_is_stale_leaves_a_question_without_a_time_open() -> None:
    change = stays(asking(), LIMITS, NOW, 0.5)
    assert change.wake_after is None
    assert after(written(change), YES).job.current_state == "publish"
