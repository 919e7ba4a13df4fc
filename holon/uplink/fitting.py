"""The uplink: how much of what a holon offers is told: as much as any parent takes, whatever its workers say."""

from __future__ import annotations

from dataclasses import dataclass

from holon.engine.catalogs import MAX_PATTERNS
from holon.rxon.v1 import types_pb2, worker_pb2

MAX_OFFERINGS = 1_000
# Of the machines of its workers a holon tells so many; more than that says nothing more.
MAX_PROFILES = 32
# A parent reads 4 MiB at once, and a Hello has more than a catalog. What workers bring takes nothing from what is the
# holon's own.
MAX_OWN_BYTES = 2 * 1024 * 1024
MAX_BYTES_OF_WORKERS = 1024 * 1024
# What an entry takes besides: its length, its credits or its id.
_AROUND = 32


@dataclass(slots=True)
class Room:
    """What still fits into a catalog. Who asks first, gets it: ask for what is dearest to the holon first."""

    own_bytes: int = MAX_OWN_BYTES
    bytes_of_workers: int = MAX_BYTES_OF_WORKERS
    offerings: int = MAX_OFFERINGS
    patterns: int = MAX_PATTERNS

    def takes_own(self, offering: worker_pb2.Offering, patterns: int) -> bool:
        """Whether there is room for a blueprint, with so many patterns in its schemas; then it has it."""
        size = offering.ByteSize() + _AROUND
        if size > self.own_bytes or not self._takes(patterns):
            return False
        self.own_bytes -= size
        return True

    def takes_passed(self, offering: worker_pb2.Offering, patterns: int) -> bool:
        """Likewise for a skill of workers."""
        size = offering.ByteSize() + _AROUND
        if size > self.bytes_of_workers or not self._takes(patterns):
            return False
        self.bytes_of_workers -= size
        return True

    def takes_machine(self, resources: types_pb2.Resources) -> bool:
        """Likewise for a machine of a worker."""
        size = resources.ByteSize() + _AROUND
        if size > self.bytes_of_workers:
            return False
        self.bytes_of_workers -= size
        return True

    def _takes(self, patterns: int) -> bool:
        if patterns > self.patterns or not self.offerings:
            return False
        self.patterns -= patterns
        self.offerings -= 1
        return True
