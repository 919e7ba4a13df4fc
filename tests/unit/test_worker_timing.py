"""The worker SDK: pauses between attempts grow, and stop growing."""

from __future__ import annotations

from holon.uplink.settings import TIMING
from holon.worker.timing import Timing


def test_pauses_grow_to_their_ceiling_and_stay_there_however_many_losses_there_were() -> None:
    # Nobody has the work of all that is below a holon while that is not linked.
    of_workers = ((1, 0.5), (2, 1.0), (5, 8.0), (7, 30.0), (5_000, 30.0))
    of_holons = ((1, 0.2), (2, 0.25), (5, 0.49), (10, 1.5), (21, 15.0), (5_000, 15.0))
    for timing, ceilings in ((Timing(), of_workers), (TIMING, of_holons)):
        for losses, ceiling in ceilings:
            pauses = [timing.pause(losses) for _ in range(200)]
            assert 0 <= min(pauses) <= max(pauses) <= ceiling
            assert max(pauses) > ceiling / 2


def test_only_holons_try_a_lost_session_again_at_once_for_a_fleet_of_workers_would_come_all_together() -> None:
    assert (Timing().reconnect_at_once, TIMING.reconnect_at_once) == (False, True)


def test_a_worker_that_is_refused_waits_long_each_time_and_a_holon_longer_with_each_up_to_a_while() -> None:
    for timing, waits in ((Timing(), (30, 30, 30, 30)), (TIMING, (2, 4, 8, 10))):
        for losses, least in zip((1, 2, 3, 5_000), waits, strict=True):
            pauses = [timing.pause_refused(losses) for _ in range(200)]
            assert least <= min(pauses) < max(pauses) <= 1.5 * least
