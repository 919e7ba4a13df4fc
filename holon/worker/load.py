"""The worker SDK: how busy the machine is, as Linux tells it in /proc; elsewhere nothing is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from holon.rxon.v1 import worker_pb2

# Heartbeats may follow each other at once, when credits change; what was measured just now is the same.
_EVERY_S = 1.0
# Of the line `cpu`: user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in these already.
_TIMES = 8
_IDLE = slice(3, 5)
_KIB = 1024


class Meter:
    """Measures the machine, for one heartbeat after another: its processors between them, its memory at each.

    Arguments:
        proc: where Linux tells of itself.
        now: a clock that only goes on, in seconds.
    """

    def __init__(self, proc: Path = Path("/proc"), now: Callable[[], float] = time.monotonic) -> None:
        self._stat = proc / "stat"
        self._memory = proc / "meminfo"
        self._now = now
        self._measured = -_EVERY_S
        # Of all processors, in ticks: all time, and the idle part of it.
        self._ticks: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"Meter({self._stat.parent})"

    def read(self) -> worker_pb2.WorkerLoad | None:
        """What there is to tell; None: nothing, or nothing new. Takes less than a millisecond, and never raises."""
        now = self._now()
        if now - self._measured < _EVERY_S:
            return None
        self._measured = now
        try:
            used, total = self._used()
            busy = self._busy()
        except (OSError, ValueError, KeyError):
            return None
        return worker_pb2.WorkerLoad(cpu_percent=busy, memory_used_bytes=used, memory_total_bytes=total)

    def _busy(self) -> float | None:
        """How many percent of the processors' time since the call before were not idle; None on the first."""
        with self._stat.open(encoding="ascii") as lines:
            name, *fields = lines.readline().split()
        if name != "cpu" or len(fields) < _IDLE.stop:
            raise ValueError(f"{self._stat} does not begin with a line for all processors")
        times = [int(one) for one in fields[:_TIMES]]
        before, self._ticks = self._ticks, (sum(times), sum(times[_IDLE]))
        if before is None:
            return None
        passed, idle = self._ticks[0] - before[0], self._ticks[1] - before[1]
        # What a virtual machine counts as idle may go back a little.
        return round(100 * min(max(1 - idle / passed, 0.0), 1.0), 1) if passed > 0 else None

    def _used(self) -> tuple[int, int]:
        """Memory in use, and all of it."""
        found: dict[str, int] = {}
        with self._memory.open(encoding="ascii") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = int(value.split()[0]) * _KIB
                    if len(found) == 2:
                        break
        total = found["MemTotal"]
        return total - found["MemAvailable"], total
