"""The worker SDK: pauses between attempts grow, and stop growing."""

from __future__ import annotations

from holon.worker.timing import Timing


def test_pauses_grow_to_their_ceiling_and_stay_there_however_many_losses_there_were() -> None:
    timing = Timing(reconnect_first=0.5, reconnect_longest=30.0)
    for losses, ceiling in ((1, 0.5), (2, 1.0), (5, 8.0), (7, 30.0), (5_000, 30.0)):
        pauses = [timing.pause(losses) for _ in range(200)]
        assert 0 <= min(pauses) <= max(pauses) <= ceiling
        assert max(pauses) > ceiling / 2
