"""How the command line tells a line of a job's history."""

from __future__ import annotations

from typing import Any

import pytest

from holon.cli.watching import event_line
from holon.client import HistoryEvent


def line(event_type: str, known: Any) -> str:
    event = HistoryEvent("e", "0-a", 3, 0.0, event_type, "start", None, None, None, None, None, None, known)
    return event_line(event).split(" ", 2)[2]


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"amount": 3}, '{"amount": 3}'),
        (None, "null"),
        ("a\nb\x1b[2J", r'"a\nb\u001b[2J"'),
    ],
)
def test_an_event_is_told_with_its_payload_on_one_line(payload: Any, shown: str) -> None:
    assert line("blueprint_event:paid", {"payload": payload}) == f"#3 blueprint_event:paid start {shown}"


def test_an_event_of_a_job_below_is_told_with_that_to_which_a_signal_goes() -> None:
    told = line("worker_event:signal_awaited", {"payload": {"names": ["paid"]}, "job_ids": ["0-b", "0-c"]})
    assert told == '#3 worker_event:signal_awaited start of job 0-c {"names": ["paid"]}'


@pytest.mark.parametrize(
    ("event_type", "known", "shown"),
    [
        ("task_finished", {"status": "success", "skill": "t"}, "task_finished start success t"),
        ("task_finished", {"status": "declined", "skill": "t"}, "task_finished start declined t"),
        (
            "task_finished",
            {"status": "failure", "code": "PERMANENT_ERROR", "error": "card declined", "skill": "t"},
            "task_failed start PERMANENT_ERROR: card declined t",
        ),
        ("task_finished", {"status": "cancelled", "skill": "t"}, "task_cancelled start t"),
        (
            "attempt_lost",
            {"reason": "worker_lost", "code": "WORKER_LOST", "error": "it is gone", "skill": "t"},
            "attempt_lost start (worker_lost) WORKER_LOST: it is gone t",
        ),
        ("job_completed", {"status": "failed", "code": "C", "error": "no"}, "job_completed start failed C: no"),
    ],
)
def test_how_an_attempt_ended_is_told_in_its_line(event_type: str, known: Any, shown: str) -> None:
    assert line(event_type, known) == f"#3 {shown}"


def test_what_signals_are_waited_for_and_came_is_told_by_name() -> None:
    assert line("signal_awaited", {"names": ["paid", "refused"]}) == "#3 signal_awaited start paid, refused"
    told = line("signal_received", {"name": "sent", "by": "default", "kept": True})
    assert told == "#3 signal_received start sent kept by 'default'"


def test_of_a_long_payload_the_beginning_is_told() -> None:
    assert line("blueprint_event:paid", {"payload": "x" * 1_000}).endswith(' "' + "x" * 199)


def test_an_event_that_was_left_out_is_told_with_the_reason() -> None:
    told = line("event_refused", {"event": "paid", "error": "payload.amount is required"})
    assert told == "#3 event_refused start payload.amount is required"


def test_who_decided_is_told_as_a_name_for_a_client_may_be_called_default() -> None:
    told = line("approval_resolved", {"decision": "yes", "by": "default", "comment": "fine"})
    assert told == "#3 approval_resolved start yes by 'default' (fine)"
    assert line("job_cancel_requested", {"by": "default"}) == "#3 job_cancel_requested start by 'default'"
