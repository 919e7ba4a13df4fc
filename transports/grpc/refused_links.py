"""The worker door: child holons that were refused, in the log of their parent, whose operator is to do something."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from holon.clock import Clock
from holon.errors import HolonError

log = logging.getLogger(__name__)

# Of who comes as a holon; the message of each says what can be done, and at which side.
REASONS = frozenset(
    {"NOT_A_HOLON", "HOLON_CHANGED", "HOLON_LINKED", "HOLARCHY_CYCLE", "HOLARCHY_DEPTH", "UPLINK_STALE", "UPLINK_AHEAD"}
)
# A child that is refused comes again every few seconds, until somebody has done it.
EVERY_MS = 60_000
# One token may stand for any number of workers: so many of them are told of in that time, and the others counted.
MOST = 256


@dataclass(slots=True)
class _Told:
    """When it may be told again, in epoch milliseconds, and how often it was not since the last time."""

    again_at: int
    untold: int = 0


class RefusedLinks:
    """Says which child holons were not let in, or were sent away, and why: each once a minute for a reason."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], _Told] = {}

    def __repr__(self) -> str:
        return f"RefusedLinks({len(self._told)})"

    def note(self, worker_id: str, error: HolonError) -> None:
        """A session of this worker was refused, or ended; it is said if that is for the holon that it is."""
        if error.code not in REASONS:
            return
        now = self._clock.now_ms()
        told = self._told.get((worker_id, error.code))
        if told is not None and now < told.again_at:
            told.untold += 1
            return
        if told is None and len(self._told) >= MOST:
            self._told = {key: one for key, one in self._told.items() if now < one.again_at}
            if len(self._told) >= MOST:
                return
        self._told[worker_id, error.code] = _Told(now + EVERY_MS)
        often = f" ({told.untold} more refusals since the last log line)" if told and told.untold else ""
        log.warning(
            "the holon that connects as worker %s is refused: %s: %s%s",
            worker_id,
            error.code,
            error.message,
            often,
            extra={"worker_id": worker_id},
        )
