"""What sessions said, by the partitions that it is about. One that is away is told when it is back."""

from __future__ import annotations

from collections.abc import Mapping

from holon.ports import Progress, Touch
from holon.storage.redis.partition import Partition
from holon.storage.redis.partitions import Partitions


class Sayings:
    """What partitions are still to be told: of each lease and of each session's credits the newest word only.

    Arguments:
        partitions: all of them.
    """

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self._untold: dict[Partition, Touch] = {}

    def __repr__(self) -> str:
        return f"Sayings(untold to {len(self._untold)})"

    def by_partition(self, touch: Touch) -> Mapping[Partition, Touch]:
        """What each partition is to be told now: what was said, and what it was not told before."""
        split = self._partitions.split
        accepts = split(touch.accepts, lambda one: one.lease.task_id)
        extends = split(touch.extends, lambda ref: ref.task_id)
        handbacks = split(touch.handbacks, lambda one: one.lease.task_id)
        progress = split(touch.progress, lambda one: one.lease.task_id)
        said = {
            one: Touch(
                tuple(accepts[one]), tuple(extends[one]), tuple(handbacks[one]), tuple(progress[one]), touch.credits
            )
            for one in self._partitions
        }
        untold, self._untold = self._untold, {}
        return {one: _together(untold[one], new) if one in untold else new for one, new in said.items()}

    def untold(self, partition: Partition, touch: Touch) -> None:
        """A partition was not told this: it is with the next."""
        self._untold[partition] = touch


def _together(before: Touch, after: Touch) -> Touch:
    back = {one.lease.lease_id: one for one in (*before.handbacks, *after.handbacks)}

    progress: dict[str, Progress] = {}
    for one in (*before.progress, *after.progress):
        progress[one.lease.lease_id] = one.after(progress.get(one.lease.lease_id))

    accepts = {one.lease.lease_id: one for one in (*before.accepts, *after.accepts)}
    extends = {ref.lease_id: ref for ref in (*before.extends, *after.extends)}
    return Touch(
        accepts=tuple(one for lease_id, one in accepts.items() if lease_id not in back),
        extends=tuple(ref for lease_id, ref in extends.items() if lease_id not in back),
        handbacks=tuple(back.values()),
        progress=tuple(progress.values()),
        credits=tuple({one[1]: one for one in (*before.credits, *after.credits)}.values()),
    )
