"""The bench: the page of measured figures, written from the results of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from tests.bench.run import ALONE, OWN_REDIS, PLAINTEXT, STRIPPED, UNENCRYPTED
from tests.bench.scenarios import DELEGATE, IDLE_WORKERS, RECOVERY, SCENARIOS

Result: TypeAlias = dict[str, Any]
# The runs behind the page, as arguments of the command.
RUNS: tuple[tuple[str, ...], ...] = (
    *[("one-task",)] * 3,
    *[("no-worker",)] * 2,
    *[("fan-out",)] * 2,
    *[("latency",)] * 3,
    *[("one-task", "--plaintext")] * 2,
    *[("one-task", "--encrypted")] * 2,
    *[(DELEGATE,)] * 2,
    (DELEGATE, "--depth", "2"),
    *[("one-task", "--storage", OWN_REDIS)] * 2,
    ("latency", "--storage", OWN_REDIS),
    (RECOVERY,),
    (IDLE_WORKERS,),
)
_HEAD = """\
# Figures

This page shows how fast a node is, as measured. `scripts/bench` writes it; [benchmarks](benchmarks.md) explains how to
measure, and what each figure means. A range such as 3.5-3.9 is the lowest and the highest of several runs.

```sh
scripts/bench all --figures docs/figures.md --conditions "nothing else runs"    # measure, about 8 minutes
scripts/bench --figures docs/figures.md    # write the page again from figures.jsonl
```

Compare figures of one table only: the same machine can be a third slower an hour later. The CPU time of a job varies
least. If other programs run too, a difference of less than a tenth is noise.
"""


def render(results: Sequence[Result]) -> str:
    """Return the page; a table without a result is left out."""
    return "\n".join([_HEAD, *(section for make in _SECTIONS for section in make(results))])


def _one_node(results: Sequence[Result]) -> Iterable[str]:
    mine = [one for one in _with_jobs(results, STRIPPED) if not _on_redis(one)]
    yield from _section(
        "One node on SQLite",
        "One node on one core, with `synchronous=FULL`, history and mutual TLS.",
        ("scenario", "jobs/s", "tasks/s", "p50, ms", "p99, ms", "node CPU, ms a job", "runs"),
        [
            (
                label,
                _range(group, "jobs_per_s", 0),
                _range(group, "tasks_per_s", 0) if group[0]["tasks_per_s"] else "",
                _range(group, "p50_ms", 1),
                _range(group, "p99_ms", 1),
                _range(group, "node_cpu_ms_per_job", 3),
                str(len(group)),
            )
            for label, group in _groups(mine)
        ],
        mine,
    )
    yield from _section(
        "Beside a stripped node",
        "The stripped node has the same HTTP and gRPC servers, and a dictionary in the place of engine and store. "
        "Both are loaded in turn, in the same runs as above.",
        ("scenario", "stripped: jobs/s", "stripped: p50, ms", "stripped: CPU, ms a job", "node: CPU, times stripped"),
        [
            (
                label,
                _range(group, "limit_jobs_per_s", 0),
                _range(group, "limit_p50_ms", 1),
                _range(group, "limit_cpu_ms_per_job", 3),
                _range_of([one["node_cpu_ms_per_job"] / one["limit_cpu_ms_per_job"] for one in group], 1),
            )
            for label, group in _groups(mine)
        ],
        mine,
    )


def _mutual_tls(results: Sequence[Result]) -> Iterable[str]:
    return _pairs(
        "Mutual TLS",
        "The same node with mutual TLS at the worker port, and in plaintext with worker tokens, loaded in turn.",
        ("mutual TLS", "plaintext"),
        _with_jobs(results, PLAINTEXT),
    )


def _encryption(results: Sequence[Result]) -> Iterable[str]:
    return _pairs(
        "Encryption",
        "The same node with an `ENCRYPTION_KEY` and without one, loaded in turn.",
        ("with a key", "without a key"),
        _with_jobs(results, UNENCRYPTED),
    )


def _pairs(heading: str, about: str, labels: tuple[str, str], mine: list[Result]) -> Iterable[str]:
    yield from _section(
        heading,
        about,
        ("scenario", "", "jobs/s", "p50, ms", "CPU, ms a job", "runs"),
        [
            (
                label,
                side,
                _range(group, f"{prefix}jobs_per_s", 0),
                _range(group, f"{prefix}p50_ms", 1),
                _range(group, f"{prefix}{cpu}", 3),
                str(len(group)),
            )
            for label, group in _groups(mine)
            for side, prefix, cpu in (
                (labels[0], "", "node_cpu_ms_per_job"),
                (labels[1], "limit_", "cpu_ms_per_job"),
            )
        ],
        mine,
    )


def _holons(results: Sequence[Result]) -> Iterable[str]:
    mine = _with_jobs(results, ALONE)
    yield from _section(
        "Holons below",
        "One-task jobs that a child holon does, beside the same node without a child. Times are at 20 jobs a second; "
        "rates and CPU are at full load. All nodes, workers and the load share the cores.",
        (
            "levels below",
            "jobs/s",
            "p50, ms",
            "alone: jobs/s",
            "alone: p50, ms",
            "a level adds, ms",
            "a level adds, CPU",
            "runs",
        ),
        [
            (
                label,
                _range(group, "jobs_per_s", 0),
                _range(group, "p50_ms", 1),
                _range(group, "limit_jobs_per_s", 0),
                _range(group, "limit_p50_ms", 1),
                _range(group, "level_p50_ms", 1),
                _range(group, "level_cpu_ratio", 1) + " times a job's",
                str(len(group)),
            )
            for label, group in _groups(mine, lambda one: str(one["depth"]))
        ],
        mine,
    )


def _redis(results: Sequence[Result]) -> Iterable[str]:
    mine = [one for one in _with_jobs(results, STRIPPED) if _on_redis(one)]
    yield from _section(
        "On Redis",
        "Redis runs on the same machine, and syncs its log every second.",
        (
            "scenario",
            "nodes",
            "jobs/s",
            "p50, ms",
            "p99, ms",
            "node CPU, ms a job",
            "Redis: calls a job",
            "Redis: CPU, us a job",
            "runs",
        ),
        [
            (
                label,
                str(group[0]["nodes"]),
                _range(group, "jobs_per_s", 0),
                _range(group, "p50_ms", 1),
                _range(group, "p99_ms", 1),
                _range(group, "node_cpu_ms_per_job", 3),
                _range(group, "store_calls_per_job", 2),
                _range(group, "store_cpu_us_per_job", 0),
                str(len(group)),
            )
            for label, group in _groups(mine)
        ],
        mine,
    )


def _recovery(results: Sequence[Result]) -> Iterable[str]:
    mine = [one for one in results if "lease_s" in one]
    yield from _section(
        "Recovery",
        "Two nodes share one Redis. Seconds from the SIGKILL until all interrupted work has begun elsewhere.",
        ("killed", "guaranteed, s", "measured, s", "runs"),
        [
            (killed, _range_of([one[bound] + more for one in mine], 0), _range(mine, name, 1), str(len(mine)))
            for killed, bound, more, name in (
                ("a node: its jobs run on the other node", "take_over_s", 1, "recovery_node_s"),
                ("a worker: its tasks run on the other worker", "lease_s", 0, "recovery_worker_s"),
            )
            if mine
        ],
        mine,
    )


def _idle_workers(results: Sequence[Result]) -> Iterable[str]:
    mine = [one for one in results if "kib_per_worker" in one]
    yield from _section(
        "Idle workers",
        "Workers over mutual TLS that only send heartbeats, at a node and at a stripped node.",
        ("workers", "", "memory, KiB a worker", "CPU of all, % of a core", "runs"),
        [
            (
                label,
                side,
                _range(group, f"{prefix}kib_per_worker", 0),
                _range(group, f"{prefix}idle_cpu_percent", 1),
                str(len(group)),
            )
            for label, group in _groups(mine, lambda one: f"{one['workers']:,}")
            for side, prefix in (("node", ""), ("stripped", "limit_"))
        ],
        mine,
    )


_SECTIONS = (_one_node, _mutual_tls, _encryption, _holons, _redis, _recovery, _idle_workers)


def _section(
    heading: str, about: str, columns: Sequence[str], rows: Sequence[Sequence[str]], results: Sequence[Result]
) -> Iterable[str]:
    """A heading, a table, and what the table was measured on; nothing without a row."""
    if rows:
        yield f"## {heading}\n\n{about}\n"
        head, *lines = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (columns, *rows))
        yield "\n".join([head, f"|{'---|' * len(columns)}", *lines])
        yield f"\n{_conditions(results)}\n"


def _conditions(results: Sequence[Result]) -> str:
    """Where and when these results were measured, in one line."""
    versions: dict[str, set[str]] = {}
    for one in results:
        for name, version in one["versions"].items():
            versions.setdefault(name, set()).add(version)
    seconds = {f"{one['seconds']:.0f} s" for one in results if one["seconds"]}
    fsyncs = [one["fsync_p50_ms"] for one in results if one["fsync_p50_ms"] is not None]
    paced = [one["fsync_paced_p50_ms"] for one in results if one["fsync_paced_p50_ms"] is not None]
    parts = [
        f"Measured {_all(one['date'] for one in results)}",
        _all(f"{one['cpu']}, {one['cores']} cores, {one['memory_gib']} GiB" for one in results),
        _all(one["system"] for one in results),
        f"Python {_all(one['python'] for one in results)}",
        ", ".join(f"{name} {_all(found)}" for name, found in versions.items()),
    ]
    if seconds:
        parts.append(f"{_all(seconds)} for each side of a run")
    if fsyncs:
        parts.append(
            f"the disk's fsync p50 {_range_of(fsyncs, 2)} ms back to back, {_range_of(paced, 2)} ms at 20 a second"
        )
    return f"{'; '.join(parts)}. Conditions: {_all(one['conditions'] for one in results)}."


def _with_jobs(results: Sequence[Result], limit: str) -> list[Result]:
    return [one for one in results if one["jobs"] is not None and one["limit"] == limit]


def _on_redis(result: Result) -> bool:
    return bool(result["storage"].startswith("redis"))


def _groups(
    results: Sequence[Result], label: Callable[[Result], str] = lambda one: str(one["scenario"])
) -> list[tuple[str, list[Result]]]:
    """Results of the same kind together, each kind with its label, in the order of the scenarios."""
    several = len({one["python"] for one in results}) > 1
    found: dict[tuple[int, str, int], list[Result]] = {}
    names = list(SCENARIOS)
    for one in results:
        name = f"{label(one)}, Python {one['python']}" if several else label(one)
        found.setdefault((names.index(one["scenario"]), name, one["nodes"]), []).append(one)
    return [(name, found[kind]) for kind in sorted(found) for name in [kind[1]]]


def _range(results: Sequence[Result], name: str, digits: int) -> str:
    return _range_of([one[name] for one in results], digits)


def _range_of(values: Sequence[float], digits: int) -> str:
    """The lowest and the highest value, as one where they look alike."""
    low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low}-{high}"


def _all(texts: Iterable[str]) -> str:
    return " and ".join(sorted(set(texts)))
