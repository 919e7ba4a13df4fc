"""Chaos of holons: seed after seed, and what is printed of them."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.holons.run import HolonChaos, Plan, Verdict

MOST_LINES = 20


def run_seeds(seeds: range, storage: str, keep: Path | None) -> bool:
    """Run them, and print a line for each, the story where one broke, and the verdict; whether all held.

    Arguments:
        keep: a folder in which each has one of its own, which stays.
    Raises:
        BenchError: it cannot be run.
        FileExistsError: that of a seed is there already.
    """
    verdicts = []
    for seed in seeds:
        plan = Plan(seed, storage)
        if keep is not None:
            folder = keep / f"seed-{seed}"
            folder.mkdir(parents=True)
            verdict = asyncio.run(HolonChaos(plan, folder.resolve()).run())
        else:
            with tempfile.TemporaryDirectory(prefix="holon-chaos-") as name:
                verdict = asyncio.run(HolonChaos(plan, Path(name)).run())
        verdicts.append(verdict)
        print("\n".join(lines(plan, verdict)), flush=True)  # noqa: T201  it is a command
    print("\n".join(together(verdicts)))  # noqa: T201  likewise
    return all(verdict.good for verdict in verdicts)


def lines(plan: Plan, verdict: Verdict) -> Iterator[str]:
    """What to print of a seed."""
    yield (
        f"seed {plan.seed:<5d}{'held' if verdict.good else 'BROKEN'}: {_counted(verdict.ends)}; "
        f"{verdict.begun} units begun; {_counted(verdict.faults)}; {_cancels(verdict.cancels)}; "
        f"over {verdict.calm_s:.1f} s after the last fault, {verdict.took_s:.1f} s in all"
    )
    yield from (f"WRONG   {what}" for what in verdict.wrong[:MOST_LINES])
    yield from (f"BROKEN  {one.number} {one.job} {one.what}" for one in verdict.broken[:MOST_LINES])
    if verdict.story:
        yield f"\nThe shortest story of a job that broke a promise:\n{verdict.story}\n"


def together(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What to print of all of them."""
    ends = sum((verdict.ends for verdict in verdicts), Counter[str]())
    faults = sum((verdict.faults for verdict in verdicts), Counter[str]())
    cancels = sorted(taken for verdict in verdicts for taken in verdict.cancels)
    held = sum(verdict.good for verdict in verdicts)
    yield f"{len(verdicts)} seeds: {_counted(ends)}; {sum(verdict.begun for verdict in verdicts)} units begun"
    yield f"failed: {_counted(faults)}"
    yield _cancels(cancels)
    yield f"verdict {'every promise held' if held == len(verdicts) else f'BROKEN in {len(verdicts) - held} seeds'}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def _cancels(taken: Sequence[int]) -> str:
    if not taken:
        return "no cancel had to go to a leaf"
    return f"{len(taken)} cancels at a leaf within {taken[len(taken) // 2]} ms (median), {taken[-1]} ms (most)"
