"""The soak: what the node's process holds, second by second, and whether it grows."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from pathlib import Path
from statistics import median

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held at one time: seconds since the start, KiB of memory, open files, threads."""

    at: float
    rss: int
    files: int
    threads: int


def sample(pid: int, at: float = 0.0) -> Sample:
    """Read one; Linux only."""
    process = Path("/proc") / str(pid)
    pages = int((process / "statm").read_text().split()[1])
    return Sample(
        at,
        pages * resource.getpagesize() // 1024,
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
    )


class Watch:
    """Takes samples of a process while it runs."""

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self._pid = pid

    async def run(self) -> None:
        """Take one each second, until cancelled."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            self.samples.append(sample(self._pid, loop.time() - began))
            await asyncio.sleep(EVERY_S)


@dataclass(frozen=True, slots=True)
class Growth:
    """How memory went after the warm-up: KiB a minute; KiB at its beginning and end (medians of a quarter); the most.

    It goes up and down with the walks of the collector, so what counts is how low it still comes: the lowest tenth of
    the second half beside that of the first.
    """

    per_minute: float
    first: float
    last: float
    most: int

    @classmethod
    def of(cls, samples: list[Sample], warm_up: float) -> Growth:
        """Of the samples after `warm_up` seconds."""
        after = [one for one in samples if one.at >= warm_up] or samples
        quarter = max(1, len(after) // 4)
        return cls(
            _risen(after),
            median(one.rss for one in after[:quarter]),
            median(one.rss for one in after[-quarter:]),
            max(one.rss for one in samples),
        )


def _risen(samples: list[Sample]) -> float:
    half = len(samples) // 2
    if not half:
        return 0.0
    apart = (samples[-1].at - samples[0].at) / 2
    return 60 * (_low(samples[half:]) - _low(samples[:half])) / apart


def _low(samples: list[Sample]) -> float:
    """The tenth of them that is lowest, at its upper end."""
    return sorted(one.rss for one in samples)[len(samples) // 10]
