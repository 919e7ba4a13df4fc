"""The worker SDK: which leases are held, and which results wait for their acknowledgement. Bookkeeping only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from holon.rxon.v1 import types_pb2, worker_pb2
from holon.worker.outcome import FAILURE, LIMIT_EXCEEDED, too_large


class Lease(NamedTuple):
    """What names one attempt of one task, and its one result."""

    task_id: str
    lease_id: str


@dataclass(slots=True)
class Kept:
    """A result that the node has not acknowledged. `sent` says whether it was ever given to a stream."""

    result: worker_pb2.TaskResult
    sent: bool = False


class Leases:
    """The leases without a final word, and the final words that are results and not acknowledged."""

    def __init__(self) -> None:
        self._held: dict[Lease, None] = {}
        self._kept: dict[Lease, Kept] = {}

    def __repr__(self) -> str:
        return f"Leases(held={len(self._held)}, kept={len(self._kept)})"

    def __contains__(self, lease: Lease) -> bool:
        return lease in self._held or lease in self._kept

    @property
    def held(self) -> tuple[Lease, ...]:
        """Those that run, or wait to run."""
        return tuple(self._held)

    @property
    def kept(self) -> int:
        """How many results wait for their acknowledgement."""
        return len(self._kept)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owed to the node."""
        return not (self._held or self._kept)

    def take(self, lease: Lease) -> None:
        """Hold one more."""
        self._held[lease] = None

    def holds(self, lease: Lease) -> bool:
        """Whether its final word is still owed."""
        return lease in self._held

    def drop(self, lease: Lease) -> bool:
        """Hold it no more; return False when it was not held."""
        return self._held.pop(lease, lease) is None

    def keep(self, lease: Lease, result: worker_pb2.TaskResult) -> bool:
        """Turn a held lease into a result to be acknowledged; return False when it was not held."""
        if not self.drop(lease):
            return False
        self._kept[lease] = Kept(result)
        return True

    def forget(self, lease: Lease) -> bool:
        """Forget a result that was acknowledged; return False when there is none."""
        return self._kept.pop(lease, None) is not None

    def result(self, lease: Lease) -> Kept | None:
        """The result that waits for acknowledgement, if any."""
        return self._kept.get(lease)

    def results(self) -> Iterator[Lease]:
        """Those whose result waits, in the order in which they ended."""
        return iter(tuple(self._kept))

    def replace_largest(self) -> Lease | None:
        """Put a failure in the place of the largest result that may have been too large for a stream.

        Returns:
            Whose it was; None when every result that was sent is such a failure already.
        """
        sizes = {
            lease: kept.result.ByteSize()
            for lease, kept in self._kept.items()
            if kept.sent and not (kept.result.status == FAILURE and kept.result.error.code == LIMIT_EXCEEDED)
        }
        if not sizes:
            return None
        lease = max(sizes, key=sizes.__getitem__)
        message = f"a result of {sizes[lease]} bytes ended the stream, because it is over the node's limit"
        kept = self._kept[lease]
        kept.result = too_large(kept.result, message)
        # It may be that which was too large.
        kept.result.ClearField("summary")
        return lease

    def resume(self, session_id: str) -> worker_pb2.Resume:
        """What a new Hello says of all of this."""
        refs = [types_pb2.LeaseRef(task_id=one.task_id, lease_id=one.lease_id) for one in (*self._held, *self._kept)]
        return worker_pb2.Resume(session_id=session_id, leases=refs)
