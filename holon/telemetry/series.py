"""Telemetry: figures that are added to while the node runs, by one thread each, and read by any when somebody asks.

They are plain numbers in plain dicts, because they are added to thousands of times a second; nothing here knows how
they are shown. No label holds an id: its values are few, or the rest of them are counted together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeAlias

Labels: TypeAlias = tuple[str, ...]

# Past so many combinations of a figure's labels, further ones are counted as one, under this name.
MOST = 500
OTHER = "other"


class Counter:
    """A number that only grows, for each combination of its labels.

    Arguments:
        name: as it is shown, without the `_total` that is put after it.
        about: one sentence for who reads it.
        labels: their names.
    """

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def __repr__(self) -> str:
        return f"Counter({self.name}, {self.values})"

    def add(self, *labels: str, by: float = 1) -> None:
        """Count `by` more under these labels."""
        try:
            self.values[labels] += by
        except KeyError:
            key = labels if len(self.values) < MOST else (OTHER,) * len(labels)
            self.values[key] = self.values.get(key, 0) + by


class Distribution:
    """How large what was observed is: one more of each, in the class whose upper bound it does not exceed."""

    __slots__ = ("counts", "total")

    def __init__(self, classes: int) -> None:
        self.counts = [0] * classes
        self.total = 0.0


class Histogram:
    """The distribution of something observed, for each combination of its labels.

    Arguments:
        bounds: the upper bounds of the classes, ascending; what is larger than the last has a class of its own.
    """

    def __init__(self, name: str, about: str, bounds: Sequence[float], *labels: str) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self.bounds = tuple(bounds)
        self.series: dict[Labels, Distribution] = {} if labels else {(): Distribution(len(bounds) + 1)}

    def __repr__(self) -> str:
        return f"Histogram({self.name}, { ({labels: sum(one.counts) for labels, one in self.series.items()}) })"

    def observe(self, value: float, *labels: str) -> None:
        """Note that this was observed."""
        series = self.series.get(labels) or self._first(labels)
        series.counts[bisect_left(self.bounds, value)] += 1
        series.total += value

    def _first(self, labels: Labels) -> Distribution:
        key = labels if len(self.series) < MOST else (OTHER,) * len(labels)
        return self.series.setdefault(key, Distribution(len(self.bounds) + 1))
