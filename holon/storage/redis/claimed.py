"""What this node has claimed, over all partitions: a job that was delivered before without a commit runs alone.

A partition knows only what the node has of it, so where there are several it hands such a suspect over when it is told
that the node has nothing at all, and says so else. Until that suspect had its turn the node asks for no more jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from holon.ports import Claim


class Claimed:
    """The claims of this node.

    Arguments:
        claim_ms: how long a claim lasts.
        now: tells the time, in milliseconds.
        wake: called when a suspect's turn has come, or is over.
    """

    def __init__(self, claim_ms: int, now: Callable[[], int], wake: Callable[[], None]) -> None:
        self._claim_ms = claim_ms
        self._now = now
        self._wake = wake
        # The newest claim of each job, and until when it lasts; whoever forgets a claim loses it then.
        self._held: dict[str, tuple[str, int]] = {}
        self._suspect = ""
        self._asking = 0
        # The partitions where suspects wait.
        self.suspects: set[int] = set()

    def __repr__(self) -> str:
        return f"Claimed(held={len(self._held)}, suspects in {sorted(self.suspects)})"

    @property
    def busy(self) -> bool:
        """Whether this node has claimed anything, or is about to."""
        now = self._now()
        return self._asking > 0 or any(until > now for _, until in self._held.values())

    @contextmanager
    def asking(self, want: int, *, alone: bool = False) -> Iterator[int]:
        """Around a call that asks for claims: how many it may ask for.

        Arguments:
            alone: whether it asks for a suspect.
        """
        if not alone and (self.suspects or self._suspect_until() > self._now()):
            yield 0
            return
        self._asking += 1
        try:
            yield want
        finally:
            self._asking -= 1
            self._look()

    def took(self, claims: Sequence[Claim]) -> None:
        """These were handed over."""
        until = self._now() + self._claim_ms
        for claim in claims:
            self._held[claim.job.id] = claim.claim_id, until
            if claim.deliveries > 1:
                self._suspect = claim.job.id

    def kept(self, job_id: str, claim_id: str) -> None:
        """This claim was renewed."""
        if self._is_newest(job_id, claim_id):
            self._held[job_id] = claim_id, self._now() + self._claim_ms

    def let_go(self, job_id: str, claim_id: str) -> None:
        """This claim has ended, or is another's."""
        # This node may have claimed the job once more since.
        if not self._is_newest(job_id, claim_id):
            return
        self._held.pop(job_id, None)
        if job_id == self._suspect:
            self._suspect = ""
            self._wake()
        self._look()

    def _is_newest(self, job_id: str, claim_id: str) -> bool:
        newest, _ = self._held.get(job_id, (claim_id, 0))
        return newest == claim_id

    def _suspect_until(self) -> int:
        _, until = self._held.get(self._suspect, ("", 0))
        return until

    def _look(self) -> None:
        if self.suspects and not self.busy:
            self._wake()
