"""Chaos of holons: the story of one job of the root's, at all levels, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.chaos.checker import Broken
from tests.chaos.holons.blueprints import errand
from tests.chaos.holons.findings import Findings
from tests.chaos.story import FAULT, line_of, of_event

AROUND_MS = 1_000


def shortest(found: Findings, broken: Sequence[Broken]) -> str:
    """The story of the job that broke a promise with the fewest lines."""
    stories = [tell(found, unit) for unit in sorted({one.job for one in broken if one.job})]
    return min(stories, key=len, default="")


def tell(found: Findings, unit: str) -> str:
    """All that happened to a job and to those below it, and what failed meanwhile."""
    own = sorted(_lines(found, unit))
    if not own:
        return f"job {unit}: nobody knows anything of it"
    first, last = own[0][0] - AROUND_MS, own[-1][0] + AROUND_MS
    beside = [
        (note.at, name, note.facts.get("which", note.what))
        for name, notes in found.notes.items()
        for note in notes
        if note.what in (FAULT, "linked", "born") and first <= note.at <= last
    ]
    return "\n".join([f"job {unit} {found.asked.get(unit, '')}", *map(line_of, sorted([*own, *beside]))])


def _lines(found: Findings, unit: str) -> Iterator[tuple[int, str, str]]:
    jobs = {job for job, of in found.units.items() if of == unit}
    for name, notes in found.notes.items():
        for note in notes:
            facts = note.facts
            of_task = facts.get("task", "").rsplit("-", 2)[0] in jobs
            if of_task or errand(facts.get("unit", "")) == unit:
                yield note.at, name, f"{note.what} " + " ".join(f"{key}={value}" for key, value in facts.items())
    for name, told in found.told.items():
        for job in jobs & told.keys():
            for event in told[job].history:
                what = f"{event.sequence} {event.event_type} {of_event(event, job)}"
                yield round(event.timestamp * 1000), f"{name}'s", f"{job} {what}"
