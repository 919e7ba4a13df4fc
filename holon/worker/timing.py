"""The worker SDK: how long it waits for what."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Every wait of the SDK that no node dictates, in seconds. Tests shorten them; users have no need to.

    Attributes:
        welcome: for the node's answer to Hello, before a fresh channel is tried.
        reconnect_at_once: whether the first attempt after a session was lost comes without any wait.
        reconnect_first: ceiling of the first random wait after a loss.
        reconnect_growth: by how much that ceiling grows with each further loss.
        reconnect_longest: where that ceiling stops growing.
        refused_first: least wait after a refusal that repeating does not mend; it doubles with each further one.
        reconnect_refused: where that stops growing.
        look_at_files: how often it is looked, during such a wait, whether another certificate can be shown.
        settled: how long a session lasts for what was lost before it not to count any more.
        least_heartbeat: an interval below it is read as this.
        accept_after: when a task that still runs is accepted; a shorter one is accepted by its result.
        stop_patience: how long a stopped handler has in any case before its slot counts as lost.
        progress_every: least time between two reports of one task.
        log_every: the same of lines of its log.
        retry_result: before a result is sent again, when the node does not say.
        goodbye: for the node to end a stream that was half-closed, and then for stopped handlers to clean up.
    """

    welcome: float = 10.0
    reconnect_at_once: bool = False
    reconnect_first: float = 0.5
    reconnect_growth: float = 2.0
    reconnect_longest: float = 30.0
    refused_first: float = 30.0
    reconnect_refused: float = 30.0
    look_at_files: float = 1.0
    settled: float = 10.0
    least_heartbeat: float = 1.0
    accept_after: float = 0.05
    stop_patience: float = 0.1
    progress_every: float = 0.5
    log_every: float = 0.2
    retry_result: float = 1.0
    goodbye: float = 10.0

    def pause(self, losses: int) -> float:
        """Seconds to wait after so many losses in a row, from 1: at random, so that a fleet does not come at once."""
        ceiling = min(self.reconnect_longest, self.reconnect_first * self.reconnect_growth ** min(losses - 1, 30))
        return random.uniform(0, ceiling)  # noqa: S311  no secret

    def pause_refused(self, losses: int) -> float:
        """Seconds to wait after a refusal that was the last of so many losses in a row, from 1; at random too."""
        least: float = min(self.reconnect_refused, self.refused_first * 2 ** min(losses - 1, 30))
        return least * random.uniform(1, 1.5)  # noqa: S311  no secret
