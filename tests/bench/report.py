"""The bench: what a run gave, as a table for people and as one line for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from holon.config.values import without_credentials
from tests.bench.machine import surroundings
from tests.bench.quiet import Quiet
from tests.bench.recovery import HELD, Recovery
from tests.bench.run import STRIPPED, Outcome
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
_STORE_FIELDS = ("store_calls_per_job", "store_commands_per_job", "store_cpu_us_per_job", "store_busy")


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return what a run gave, by name; times are in milliseconds, and None where there is nothing to tell."""
    return {
        "scenario": outcome.scenario,
        "storage": without_credentials(outcome.storage),
        "synchronous": outcome.synchronous,
        "nodes": outcome.nodes,
        "limit": outcome.beside,
        **_of_jobs(outcome),
        **_of_levels(outcome),
        **_busy(outcome),
        **_of_the_store(outcome),
        **_of_idle_workers(outcome),
        **_of_recovery(outcome),
        "fsync_p50_ms": percentile(outcome.fsyncs, 0.5),
        "fsync_p99_ms": percentile(outcome.fsyncs, 0.99),
        "fsync_paced_p50_ms": percentile(outcome.paced_fsyncs, 0.5),
        "fsync_paced_p99_ms": percentile(outcome.paced_fsyncs, 0.99),
        "cores": outcome.cores[0],
        "node_core": outcome.cores[1],
        "python": outcome.python,
        **surroundings(outcome.server),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table of what `facts` returned."""
    title = f"{found['scenario']}: {SCENARIOS[found['scenario']].about}"
    rows, notes = _shown(found)
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("from SIGKILL, s", "promised, s") if "lease_s" in found else ("node", _beside(found)):
        table.add_column(column, justify="right")
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
    if found["store_calls_per_job"] is not None:
        console.print(
            f"the store's server: {found['store_calls_per_job']:.2f} calls, {found['store_commands_per_job']:.1f} "
            f"commands and {found['store_cpu_us_per_job']:.0f} us of CPU a job; {found['store_busy']:.0%} of a core"
        )
    where = "anywhere" if found["node_core"] is None else f"on core {found['node_core']} alone"
    who = "the node" if found["nodes"] == 1 else f"{found['nodes']} nodes, the first"
    console.print(f"{found['cores']} cores, {who} {where}; Python {found['python']}")


def _busy(outcome: Outcome) -> dict[str, Any]:
    node, limit = outcome.node, outcome.limit
    if isinstance(node, Recovery) or limit is None:
        return dict.fromkeys(("seconds", "node_busy", "limit_busy"))
    return {
        "seconds": round(node.seconds, 2),
        "node_busy": round(node.node_cpu / node.seconds / outcome.nodes, 4),
        "limit_busy": round(limit.node_cpu / limit.seconds, 4),
    }


def _of_levels(outcome: Outcome) -> dict[str, Any]:
    """What each holon below adds to a job, in milliseconds and as a share of what it costs without them."""
    node, alone, depth = outcome.node, outcome.limit, outcome.depth
    if not depth or not isinstance(node, Figures) or not isinstance(alone, Figures):
        return {}
    cpu, cpu_alone = node.node_cpu / node.jobs, alone.node_cpu / alone.jobs
    median = statistics.median
    return {
        "depth": depth,
        "level_p50_ms": round((median(node.latencies) - median(alone.latencies)) * 1000 / depth, 3),
        "level_cpu_ratio": round((cpu - cpu_alone) / cpu_alone / depth, 3),
    }


def _of_the_store(outcome: Outcome) -> dict[str, Any]:
    node = outcome.node
    if not isinstance(node, Figures) or node.store is None:
        return dict.fromkeys(_STORE_FIELDS)
    use = node.store
    values = (
        round(use.calls / node.jobs, 2),
        round(use.commands / node.jobs, 2),
        round(use.cpu * 1_000_000 / node.jobs, 1),
        round(use.cpu / node.seconds, 4),
    )
    return dict(zip(_STORE_FIELDS, values, strict=True))


def _of_recovery(outcome: Outcome) -> dict[str, Any]:
    node = outcome.node
    if not isinstance(node, Recovery):
        return {}
    return {
        "recovery_node_s": round(node.node, 2),
        "take_over_s": node.take_over,
        "recovery_worker_s": round(node.worker, 2),
        "lease_s": node.lease,
    }


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


def _shown(found: dict[str, Any]) -> tuple[list[tuple[str, str, str]], str]:
    """Rows of the table, and a line below it."""
    if "lease_s" in found:
        return _recovery_shown(found)
    return _idle_workers_shown(found) if found["jobs"] is None else _jobs_shown(found)


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
    if "depth" in found:
        levels = f"{found['level_p50_ms']:.2f} ms of p50 and {found['level_cpu_ratio']:.0%} of its CPU"
        notes = f"each of {found['depth']} holons below adds {levels} to a job\n"
    else:
        notes = ""
    return rows, (
        f"{notes}{found['jobs']:,} jobs in {found['seconds']:g} s, each\n"
        f"finished with its own echo; {found['ratio_to_limit']:.0%} of {_beside(found)}'s rate\n"
        f"workers' CPU {found['workers_cpu_ms_per_job']:.3f} ms a job, load's {found['load_cpu_ms_per_job']:.3f} ms"
    )


def _beside(found: dict[str, Any]) -> str:
    return "limit" if found["limit"] == STRIPPED else str(found["limit"])


def _idle_workers_shown(found: dict[str, Any]) -> tuple[list[tuple[str, str, str]], str]:
    """Rows of the table, and a line below it."""
    rows = [
        ("memory, KiB a worker", f"{found['kib_per_worker']:.1f}", f"{found['limit_kib_per_worker']:.1f}"),
        ("CPU, % of a core", f"{found['idle_cpu_percent']:.2f}", f"{found['limit_idle_cpu_percent']:.2f}"),
    ]
    return rows, (
        f"{found['workers']:,} workers, {found['heartbeats_per_s']:g} heartbeats/s\nanswered in {found['seconds']:g} s"
    )


def _recovery_shown(found: dict[str, Any]) -> tuple[list[tuple[str, str, str]], str]:
    """Rows of the table, and a line below it."""
    rows = [
        ("jobs of a node, all begun again", f"{found['recovery_node_s']:.2f}", f"{found['take_over_s'] + 1:g}"),
        ("tasks of a worker, all begun again", f"{found['recovery_worker_s']:.2f}", f"{found['lease_s']:g}"),
    ]
    gone = f"a node is gone after {found['take_over_s']:g} s of silence, a worker after {found['lease_s']:g} s"
    return rows, f"{HELD} jobs and {HELD} tasks were held; {gone}"


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value in milliseconds that a share of `values`, in seconds, does not exceed; None of none."""
    if not values:
        return None
    return round(sorted(values)[math.ceil(share * len(values)) - 1] * 1000, 3)


def _rate(figures: Figures) -> float:
    return round(figures.jobs / figures.seconds, 1)


def _each(seconds: float, figures: Figures) -> float:
    return round(seconds * 1000 / figures.jobs, 4)
