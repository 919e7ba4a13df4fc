"""What callers ask for, as the engine takes it."""

from __future__ import annotations

from holon.domain.job import Status
from holon.engine.requests import statuses_of


def test_a_status_that_is_asked_for_again_and_again_is_one() -> None:
    """A message has room for half a million, and each that is kept is compared with job after job."""
    assert statuses_of(["finished", "failed"] * 100_000, "statuses") == (Status.FINISHED, Status.FAILED)
