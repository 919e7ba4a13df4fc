"""What a job says of its part, or of a holon below: why it waits, and what of that it goes on showing."""

from __future__ import annotations

import pytest

from holon.domain.children import RUN_BLUEPRINT
from holon.domain.job import Job, Status
from holon.domain.matching import Need
from holon.engine.fleets.elsewhere import Elsewhere
from holon.engine.waits import Reasons, last_said
from holon.ports import JobRecord


def said(message: str, status: Status) -> str:
    return last_said(JobRecord(Job("j", "b", "me", {}, "s", status), 1, 1, None, None, message))


WAITS = (
    "in job 0-c: waiting for a decision (yes, no): go on?",
    "in job 0-c: waiting until 2026-11-28 13:47:20 UTC",
    "in job 0-c: in a holon below: waiting: no worker connected to this node offers skill 't'",
    "in a holon below: waiting: no worker connected to this node offers skill 't'",
    "waiting in a holon below",
)


@pytest.mark.parametrize("message", WAITS)
def test_what_a_job_waited_for_below_is_not_said_of_it_once_it_is_over(message: str) -> None:
    assert said(message, Status.FINISHED) == ""
    assert said(message, Status.CANCELLED) == ""
    assert said(message, Status.WAITING_FOR_CHILD) == message


@pytest.mark.parametrize("message", ["tick 4", "in job lots of lines were read", "waiting is over", ""])
def test_what_a_worker_said_last_stays(message: str) -> None:
    assert said(message, Status.FINISHED) == message


def test_no_worker_is_looked_for_where_a_part_waits_for_a_node() -> None:
    assert Reasons(Elsewhere()).why(Need(RUN_BLUEPRINT), (), ()) == "waiting: no node runs its child job at this moment"
