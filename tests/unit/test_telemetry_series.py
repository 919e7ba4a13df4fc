"""Figures that are counted, and the text that Prometheus gets of them."""

from __future__ import annotations

from holon.domain.job import Job, JobError, Status
from holon.domain.task import DISPATCH_TIMEOUT, FAILURE, RESULT_TIMEOUT, SUCCESS, TIMEOUT_ERROR, Outcome
from holon.telemetry.events import Telemetry
from holon.telemetry.exposition import Exposition
from holon.telemetry.metrics import EngineMetrics
from holon.telemetry.series import MOST, OTHER, Counter, Histogram


class Part:
    def __init__(self) -> None:
        self.seen = Counter("seen", "Seen.", "kind")
        self.plain = Counter("plain", "Plain.")
        self.took = Histogram("took_seconds", "Took.", (1, 2.5))


def text(*parts: object) -> list[str]:
    return Exposition(*parts).text().decode().splitlines()


def test_a_counter_is_shown_with_its_labels_and_what_has_none_from_the_start() -> None:
    part = Part()
    part.seen.add("a")
    part.seen.add("a", by=2)
    part.seen.add('b"\n')
    lines = text(part)
    assert "# TYPE seen_total counter" in lines
    assert 'seen_total{kind="a"} 3.0' in lines
    assert 'seen_total{kind="b\\"\\n"} 1.0' in lines
    assert "plain_total 0.0" in lines


def test_a_histogram_is_cumulative_and_a_bound_belongs_to_its_class() -> None:
    part = Part()
    for value in (0.5, 1, 1.5, 2, 2, 2, 2.5, 99):
        part.took.observe(value)
    lines = text(part)
    assert [line for line in lines if line.startswith("took_seconds")] == [
        'took_seconds_bucket{le="1.0"} 2.0',
        'took_seconds_bucket{le="2.5"} 7.0',
        'took_seconds_bucket{le="+Inf"} 8.0',
        "took_seconds_count 8.0",
        "took_seconds_sum 110.5",
    ]


def test_past_a_limit_further_labels_are_counted_together() -> None:
    counter = Counter("many", "Many.", "name")
    histogram = Histogram("many_seconds", "Many.", (1,), "name")
    for number in range(MOST + 10):
        counter.add(str(number))
        histogram.observe(0.5, str(number))
    assert len(counter.values) == len(histogram.series) == MOST + 1
    assert counter.values[OTHER,] == 10
    assert histogram.series[OTHER,].counts == [10, 0]
    counter.add("0")
    assert counter.values["0",] == 2


def test_a_gauge_is_read_when_it_is_asked_for() -> None:
    shown = Exposition()
    state = {"n": 1}
    shown.gauge("level", "Level.", lambda: state["n"])
    shown.gauge("by_kind", "By kind.", lambda: {("x",): 2, ("y",): 3}, "kind")
    assert "level 1.0" in shown.text().decode().splitlines()
    state["n"] = 7
    assert {"level 7.0", 'by_kind{kind="x"} 2.0', 'by_kind{kind="y"} 3.0'} <= set(shown.text().decode().splitlines())


def job(status: Status, created_at: int = 1_000) -> Job:
    error = None if status is Status.FINISHED or not status.terminal else JobError("CODE", "why")
    return Job("0-a", "bp", "ann", {}, "start", status=status, created_at=created_at, error=error)


def test_a_job_that_ends_is_counted_once_and_its_time_noted() -> None:
    telemetry = Telemetry()
    telemetry.written(job(Status.WAITING_FOR_WORKER), 1_100)
    telemetry.written(job(Status.FINISHED), 1_500)
    metrics = telemetry.metrics
    assert metrics.steps.values == {("bp",): 2}
    assert metrics.ended.values == {("bp", "finished"): 1}
    assert metrics.failed.values == {}
    assert metrics.duration.series["bp",].total == 0.5


def test_failed_and_quarantined_jobs_are_failed_ones_and_cancelled_ones_are_not() -> None:
    metrics = EngineMetrics()
    for status in (Status.FAILED, Status.QUARANTINED, Status.CANCELLED):
        metrics.over(job(status), 2_000)
    assert metrics.failed.values == {("bp",): 2}


def test_a_job_whose_creation_was_not_noted_has_no_duration() -> None:
    metrics = EngineMetrics()
    metrics.over(job(Status.FINISHED, created_at=0), 2_000)
    assert metrics.duration.series == {}


def test_timeouts_are_told_apart() -> None:
    metrics = EngineMetrics()
    for code in (DISPATCH_TIMEOUT, RESULT_TIMEOUT, TIMEOUT_ERROR, "PERMANENT_ERROR"):
        metrics.outcome("bp", Outcome.failed(code, "why"))
    metrics.outcome("bp", Outcome(SUCCESS))
    metrics.outcome("bp", Outcome(FAILURE))
    assert metrics.timeouts.values == {("bp", "dispatch"): 1, ("bp", "result"): 1, ("bp", "execution"): 1}
