"""The soak: its command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.soak.run import Outcome, Soak

# Memory is flat when, after the warm-up, it grows by less than this: a leak of half a KiB a job would be more.
MOST_KIB_PER_MINUTE = 256.0
# gRPC's own pool of threads grows with what there is to do, by one or two; each session that leaked would be one more.
MOST_MORE_FILES = 4
# Shorter ones say nothing of memory.
TELLING_S = 240.0


def main() -> int:
    """Run a soak and print its figures; 0 when nothing came out that must not."""
    arguments = argparse.ArgumentParser(prog="scripts/soak", description="Everybody comes and goes at a node's doors.")
    arguments.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    arguments.add_argument("--seed", type=int, default=1, help="of all that is left to chance (1)")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="holon-soak-") as folder:
        outcome = asyncio.run(Soak(given.minutes * 60, given.seed, Path(folder)).run())
    wrong = outcome.wrong + found(outcome)
    print("\n".join([*figures(outcome), *(f"WRONG: {line}" for line in wrong)]))  # noqa: T201  it is a command
    return 1 if wrong else 0


def found(outcome: Outcome) -> list[str]:
    """What the figures say is wrong."""
    wrong = []
    if (more := outcome.after.files - outcome.before.files) > MOST_MORE_FILES:
        wrong.append(f"{more} files stay open")
    if outcome.seconds >= TELLING_S and outcome.growth.per_minute > MOST_KIB_PER_MINUTE:
        wrong.append(f"memory grows by {outcome.growth.per_minute:.0f} KiB a minute")
    return wrong


def figures(outcome: Outcome) -> Iterator[str]:
    """The lines to print."""
    growth, before, after = outcome.growth, outcome.before, outcome.after
    yield f"seconds        {outcome.seconds:.0f}"
    yield f"stories        {sum(outcome.ends.values())}"
    yield from (f"  {name:28s} {count}" for name, count in sorted(outcome.ends.items()))
    yield f"workers        {sum(outcome.workers.values())}"
    yield from (f"  {name:28s} {count}" for name, count in sorted(outcome.workers.items()))
    yield f"node cpu       {outcome.node_cpu:.1f} s"
    yield f"open files     {before.files} before, {after.files} after"
    yield f"threads        {before.threads} before, {after.threads} after"
    yield f"memory         {_mib(growth.first)} after the warm-up, {_mib(growth.last)} at the end"
    yield f"               {_mib(growth.most)} at most, {_mib(after.rss)} when all are gone"
    yield f"memory growth  {growth.per_minute:+.0f} KiB a minute"


def _mib(kib: float) -> str:
    return f"{kib / 1024:.1f} MiB"


if __name__ == "__main__":
    sys.exit(main())
