"""Chaos: its command line."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.bench.process import BenchError
from tests.chaos.holons.saying import run_seeds
from tests.chaos.run import Chaos, Plan, Verdict

MOST_LINES = 40


def main() -> int:
    """Run it and print the verdict: 0 when every promise held, 1 when not, 2 when there was no run."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description="What fails in real life, at random, and a checker."
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance (1)")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long things fail (20)")
    parser.add_argument(
        "--storage", default="sqlite://", help="sqlite://, redis:// or postgresql://, of the run's own (sqlite://)"
    )
    parser.add_argument("--history", default="", help="postgres: history is moved to one, of the run's own")
    parser.add_argument("--nodes", type=int, default=1, help="how many share the store (1)")
    parser.add_argument("--newer", type=int, default=0, help="how many of them also write the next schema of rows (0)")
    parser.add_argument("--workers", type=int, default=3, help="how many work (3)")
    parser.add_argument("--holons", type=int, choices=(3,), help="how many levels of holons; instead of one holon")
    parser.add_argument(
        "--seeds", type=int, nargs=2, metavar=("FIRST", "COUNT"), help="with --holons: one after another"
    )
    parser.add_argument("--keep", type=Path, help="a new folder for the notes, logs and files, which stay")
    given = parser.parse_args()
    of_one = ("minutes", "history", "nodes", "newer", "workers")
    if given.holons and any(getattr(given, name) != parser.get_default(name) for name in of_one):
        parser.error("--holons goes with --seed or --seeds, --storage and --keep: each holon has one node")
    if given.seeds and not given.holons:
        parser.error("--seeds goes with --holons 3")
    # Whoever ends it ends its processes too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if given.holons:
        return _of_holons(given)
    plan = Plan(
        given.minutes * 60,
        given.seed,
        given.storage,
        given.history,
        given.nodes,
        given.workers,
        newer=given.newer,
    )
    try:
        if given.keep is not None:
            given.keep.mkdir(parents=True)
            verdict = asyncio.run(Chaos(plan, given.keep.resolve()).run())
        else:
            with tempfile.TemporaryDirectory(prefix="holon-chaos-") as folder:
                verdict = asyncio.run(Chaos(plan, Path(folder)).run())
    except (BenchError, FileExistsError) as error:
        print(f"scripts/chaos: {error}", file=sys.stderr)  # noqa: T201  it is a command
        return 2
    print("\n".join(lines(plan, verdict)))  # noqa: T201  likewise
    return 0 if verdict.good else 1


def _of_holons(given: argparse.Namespace) -> int:
    first, count = given.seeds or (given.seed, 1)
    try:
        return 0 if run_seeds(range(first, first + count), given.storage, given.keep) else 1
    except (BenchError, FileExistsError) as error:
        print(f"scripts/chaos: {error}", file=sys.stderr)  # noqa: T201  it is a command
        return 2


def lines(plan: Plan, verdict: Verdict) -> Iterator[str]:
    """What to print."""
    kept = f"{plan.storage}, history in {plan.history}" if plan.history else plan.storage
    nodes = f"{plan.nodes} nodes" + (f" ({plan.newer} of the next release)" if plan.newer else "")
    yield f"seed {plan.seed}, {plan.seconds / 60:g} minutes, {kept}, {nodes}, {plan.workers} workers"
    for title, counts in (("faults", verdict.faults), ("jobs", verdict.ends), ("notes", verdict.seen)):
        yield f"{title:8s}{sum(counts.values())}"
        yield from _counted(counts)
    yield f"calm    {verdict.calm_s:.1f} s after the last fault every job was over"
    yield from (f"WRONG   {what}" for what in verdict.wrong[:MOST_LINES])
    yield from (f"BROKEN  {one.number} {one.job} {one.what}" for one in verdict.broken[:MOST_LINES])
    if len(verdict.broken) > MOST_LINES:
        yield f"        and {len(verdict.broken) - MOST_LINES} more"
    if verdict.story:
        yield f"\nThe shortest story of a job that broke a promise:\n{verdict.story}\n"
    yield "verdict " + ("every promise held" if verdict.good else "BROKEN")


def _counted(counts: Counter[str]) -> Iterator[str]:
    yield from (f"  {count:7d} {what}" for what, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
