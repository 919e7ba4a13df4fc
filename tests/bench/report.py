"""The bench: what a run gave, as a table for people and as one line for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from holon.config.config import shown
from tests.bench.quiet import Quiet
from tests.bench.run import Outcome
from tests.bench.scenarios import SCENARIOS, Figures

_JOB_FIELDS = (
    "jobs",
    "jobs_per_s",
    "tasks_per_s",
    "p50_ms",
    "p99_ms",
    "node_cpu_ms_per_job",
    "workers_cpu_ms_per_job",
    "load_cpu_ms_per_job",
    "limit_jobs_per_s",
    "limit_p50_ms",
    "limit_p99_ms",
    "limit_cpu_ms_per_job",
    "ratio_to_limit",
)


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return what a run gave, by name; times are in milliseconds, and None where there is nothing to tell."""
    node, limit = outcome.node, outcome.limit
    return {
        "scenario": outcome.scenario,
        "storage": shown(outcome.storage),
        "synchronous": outcome.synchronous,
        "seconds": round(node.seconds, 2),
        **_of_jobs(outcome),
        "node_busy": round(node.node_cpu / node.seconds, 4),
        "limit_busy": round(limit.node_cpu / limit.seconds, 4),
        **_of_idle_workers(outcome),
        "fsync_p50_ms": percentile(outcome.fsyncs, 0.5),
        "fsync_p99_ms": percentile(outcome.fsyncs, 0.99),
        "fsync_paced_p50_ms": percentile(outcome.paced_fsyncs, 0.5),
        "fsync_paced_p99_ms": percentile(outcome.paced_fsyncs, 0.99),
        "cores": outcome.cores[0],
        "node_core": outcome.cores[1],
        "python": outcome.python,
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table of what `facts` returned."""
    table = Table(title=f"{found['scenario']}: {SCENARIOS[found['scenario']].about}", title_justify="left")
    table.add_column("")
    table.add_column("node", justify="right")
    table.add_column("limit", justify="right")
    rows, notes = _idle_workers_shown(found) if found["jobs"] is None else _jobs_shown(found)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    synchronous = f", synchronous={found['synchronous']}" if found["synchronous"] else ""
    console.print(f"storage {found['storage']}{synchronous}; {notes}")
    if found["fsync_p50_ms"] is not None:
        console.print(
            f"the disk's own fsync: p50 {found['fsync_p50_ms']:.2f} ms, p99 {found['fsync_p99_ms']:.2f} ms back to "
            f"back; p50 {found['fsync_paced_p50_ms']:.2f} ms, p99 {found['fsync_paced_p99_ms']:.2f} ms at 20 a second"
        )
    where = "the node anywhere" if found["node_core"] is None else f"the node on core {found['node_core']} alone"
    console.print(f"{found['cores']} cores, {where}; Python {found['python']}")


def _of_jobs(outcome: Outcome) -> dict[str, Any]:
    jobs = SCENARIOS[outcome.scenario].jobs
    node, limit = outcome.node, outcome.limit
    if jobs is None or not isinstance(node, Figures) or not isinstance(limit, Figures):
        return dict.fromkeys(_JOB_FIELDS)
    values = (
        node.jobs,
        _rate(node),
        round(node.jobs * jobs.tasks / node.seconds, 1),
        percentile(node.latencies, 0.5),
        percentile(node.latencies, 0.99),
        _each(node.node_cpu, node),
        _each(node.workers_cpu, node),
        _each(node.load_cpu, node),
        _rate(limit),
        percentile(limit.latencies, 0.5),
        percentile(limit.latencies, 0.99),
        _each(limit.node_cpu, limit),
        round(_rate(node) / _rate(limit), 3),
    )
    return dict(zip(_JOB_FIELDS, values, strict=True))


def _of_idle_workers(outcome: Outcome) -> dict[str, Any]:
    node, limit = outcome.node, outcome.limit
    if not isinstance(node, Quiet) or not isinstance(limit, Quiet):
        return {}
    return {
        "workers": node.workers,
        "heartbeats_per_s": round(node.heartbeats / node.seconds, 1),
        "kib_per_worker": round(node.memory_kib / node.workers, 1),
        "idle_cpu_percent": round(100 * node.node_cpu / node.seconds, 2),
        "limit_kib_per_worker": round(limit.memory_kib / limit.workers, 1),
        "limit_idle_cpu_percent": round(100 * limit.node_cpu / limit.seconds, 2),
    }


def _jobs_shown(found: dict[str, Any]) -> tuple[list[tuple[str, str, str]], str]:
    """Rows of the table, and a line below it."""
    jobs = SCENARIOS[found["scenario"]].jobs
    tasks = jobs.tasks if jobs is not None else 0
    rows = [("jobs/s", f"{found['jobs_per_s']:,.1f}", f"{found['limit_jobs_per_s']:,.1f}")]
    if tasks > 1:
        rows.append(("tasks/s", f"{found['tasks_per_s']:,.0f}", f"{found['limit_jobs_per_s'] * tasks:,.0f}"))
    for row, name in (("p50, ms", "p50_ms"), ("p99, ms", "p99_ms")):
        rows.append((row, f"{found[name]:.2f}", f"{found[f'limit_{name}']:.2f}"))
    cpu = "node CPU, ms a job"
    rows.append((cpu, f"{found['node_cpu_ms_per_job']:.3f}", f"{found['limit_cpu_ms_per_job']:.3f}"))
    rows.append(("node's core busy", f"{found['node_busy']:.0%}", f"{found['limit_busy']:.0%}"))
    return rows, (
        f"{found['jobs']:,} jobs in {found['seconds']:g} s, each\n"
        f"finished with its own echo; {found['ratio_to_limit']:.0%} of the limit's rate\n"
        f"workers' CPU {found['workers_cpu_ms_per_job']:.3f} ms a job, load's {found['load_cpu_ms_per_job']:.3f} ms"
    )


def _idle_workers_shown(found: dict[str, Any]) -> tuple[list[tuple[str, str, str]], str]:
    """Rows of the table, and a line below it."""
    rows = [
        ("memory, KiB a worker", f"{found['kib_per_worker']:.1f}", f"{found['limit_kib_per_worker']:.1f}"),
        ("CPU, % of a core", f"{found['idle_cpu_percent']:.2f}", f"{found['limit_idle_cpu_percent']:.2f}"),
    ]
    return rows, (
        f"{found['workers']:,} workers, {found['heartbeats_per_s']:g} heartbeats/s\nanswered in {found['seconds']:g} s"
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value in milliseconds that a share of `values`, in seconds, does not exceed; None of none."""
    if not values:
        return None
    return round(sorted(values)[math.ceil(share * len(values)) - 1] * 1000, 3)


def _rate(figures: Figures) -> float:
    return round(figures.jobs / figures.seconds, 1)


def _each(seconds: float, figures: Figures) -> float:
    return round(seconds * 1000 / figures.jobs, 4)
