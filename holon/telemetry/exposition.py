"""Telemetry: what is measured, as the text that Prometheus reads. The only module that knows its client library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from holon.telemetry.series import Counter, Histogram, Labels

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Read = Callable[[], float | Mapping[Labels, float]]


class Exposition(Collector):
    """Everything that one node shows, in a registry of its own: two nodes in one process do not mix.

    Arguments:
        parts: objects whose attributes are counters and histograms, or other such objects.
    """

    def __init__(self, *parts: object) -> None:
        self._figures = [figure for part in parts for figure in _figures_of(part)]
        self._gauges: list[tuple[str, str, tuple[str, ...], Read]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def __repr__(self) -> str:
        return f"Exposition(figures={len(self._figures)}, gauges={len(self._gauges)})"

    def add(self, part: object) -> None:
        """Show the counters and histograms of one more object."""
        self._figures += _figures_of(part)

    def gauge(self, name: str, about: str, read: Read, *labels: str) -> None:
        """Show a value that goes up and down.

        Arguments:
            read: what it is now, asked for each time: a number, or one for each combination of the labels.
        """
        self._gauges.append((name, about, labels, read))

    def text(self) -> bytes:
        """All of it, as of now, in the format of `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the registry: every figure with its values."""
        for figure in self._figures:
            yield _counter(figure) if isinstance(figure, Counter) else _histogram(figure)
        for name, about, labels, read in self._gauges:
            value = read()
            gauge = GaugeMetricFamily(name, about, labels=labels)
            for key, one in value.items() if isinstance(value, Mapping) else (((), value),):
                gauge.add_metric(key, one)
            yield gauge


def _figures_of(part: object) -> Iterable[Counter | Histogram]:
    for one in vars(part).values():
        if isinstance(one, Counter | Histogram):
            yield one
        else:
            yield from _figures_of(one)


def _counter(counter: Counter) -> Metric:
    family = CounterMetricFamily(counter.name, counter.about, labels=counter.labels)
    for labels, value in list(counter.values.items()):
        family.add_metric(labels, value)
    return family


def _histogram(histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(histogram.name, histogram.about, labels=histogram.labels)
    for labels, series in list(histogram.series.items()):
        buckets: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*histogram.bounds, float("inf")), series.counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), below))
        family.add_metric(labels, buckets, series.total)
    return family
