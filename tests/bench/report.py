"""The bench: what a run gave, as a table for people and as one line for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.run import Outcome
from tests.bench.scenarios import SCENARIOS, Figures


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return what a run gave, by name; times are in milliseconds, and None where there is nothing to tell."""
    tasks = SCENARIOS[outcome.scenario].tasks
    node, limit = outcome.node, outcome.limit
    return {
        "scenario": outcome.scenario,
        "storage": outcome.storage,
        "synchronous": outcome.synchronous,
        "seconds": round(node.seconds, 2),
        "jobs": node.jobs,
        "jobs_per_s": _rate(node),
        "tasks_per_s": round(node.jobs * tasks / node.seconds, 1),
        "p50_ms": percentile(node.latencies, 0.5),
        "p99_ms": percentile(node.latencies, 0.99),
        "node_cpu_ms_per_job": _each(node.node_cpu, node),
        "node_busy": round(node.node_cpu / node.seconds, 2),
        "workers_cpu_ms_per_job": _each(node.workers_cpu, node),
        "load_cpu_ms_per_job": _each(node.load_cpu, node),
        "limit_jobs_per_s": _rate(limit),
        "limit_p50_ms": percentile(limit.latencies, 0.5),
        "limit_p99_ms": percentile(limit.latencies, 0.99),
        "limit_cpu_ms_per_job": _each(limit.node_cpu, limit),
        "limit_busy": round(limit.node_cpu / limit.seconds, 2),
        "ratio_to_limit": round(_rate(node) / _rate(limit), 3),
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
    table.add_row("jobs/s", f"{found['jobs_per_s']:,.1f}", f"{found['limit_jobs_per_s']:,.1f}")
    if found["tasks_per_s"] != found["jobs_per_s"]:
        limit = found["limit_jobs_per_s"] * SCENARIOS[found["scenario"]].tasks
        table.add_row("tasks/s", f"{found['tasks_per_s']:,.0f}", f"{limit:,.0f}")
    for row, name in (("p50, ms", "p50_ms"), ("p99, ms", "p99_ms")):
        table.add_row(row, f"{found[name]:.2f}", f"{found[f'limit_{name}']:.2f}")
    table.add_row("node CPU, ms a job", f"{found['node_cpu_ms_per_job']:.3f}", f"{found['limit_cpu_ms_per_job']:.3f}")
    table.add_row("node's core busy", f"{found['node_busy']:.0%}", f"{found['limit_busy']:.0%}")
    console.print(table)
    synchronous = f", synchronous={found['synchronous']}" if found["synchronous"] else ""
    console.print(f"storage {found['storage']}{synchronous}; {found['jobs']:,} jobs in {found['seconds']:g} s, each")
    console.print(f"finished with its own echo; {found['ratio_to_limit']:.0%} of the limit's rate")
    if found["fsync_p50_ms"] is not None:
        console.print(
            f"the disk's own fsync: p50 {found['fsync_p50_ms']:.2f} ms, p99 {found['fsync_p99_ms']:.2f} ms back to "
            f"back; p50 {found['fsync_paced_p50_ms']:.2f} ms, p99 {found['fsync_paced_p99_ms']:.2f} ms at 20 a second"
        )
    where = "the node anywhere" if found["node_core"] is None else f"the node on core {found['node_core']} alone"
    console.print(f"{found['cores']} cores, {where}; Python {found['python']}")
    console.print(
        f"workers' CPU {found['workers_cpu_ms_per_job']:.3f} ms a job, load's {found['load_cpu_ms_per_job']:.3f} ms"
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
