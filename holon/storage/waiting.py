"""How many calls may wait for a store, and what one too many is told."""

from __future__ import annotations

from holon.errors import StoreUnavailable

MAX_WAITING = 10_000
# New jobs are refused while there is still room for results and cancels.
MAX_WAITING_TO_CREATE = MAX_WAITING // 2
# When whoever was refused may try again, in seconds.
RETRY_AFTER_S = 1.0


def too_many_wait(waiting: int) -> StoreUnavailable:
    """The refusal of a call while so many wait."""
    return StoreUnavailable(f"the store has {waiting} calls waiting; try again", retry_after=RETRY_AFTER_S)
