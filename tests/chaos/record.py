"""Chaos: what came out of a run, as it can be seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from holon.client import Client, HistoryEvent, Job
from tests.chaos.notes import FILES, Note, read

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Told:
    """A job as the nodes tell of it when all is over, with all of its history."""

    job: Job
    history: Sequence[HistoryEvent]


@dataclass(frozen=True)
class Record:
    """All that is known of a run.

    Attributes:
        notes: what workers, clients and chaos itself wrote down, by the file, each in its order.
        jobs: what the nodes tell, by the job's id.
        left: what was left over, as the nodes and the store tell it.
        clocks: for each start of a node whose time is the store's, that and the true time, in epoch milliseconds.
        slack_s: how far the nodes may be apart in what they take for the store's time, in seconds.
    """

    notes: dict[str, list[Note]]
    jobs: dict[str, Told]
    left: Sequence[str] = ()
    clocks: Sequence[tuple[int, int]] = ()
    slack_s: float = 0.0

    def of(self, *whats: str) -> Iterator[Note]:
        """The notes of some kinds, of all who wrote them."""
        return (note for notes in self.notes.values() for note in notes if note.what in whats)

    @cached_property
    def accepted(self) -> dict[str, set[str]]:
        """The jobs that each request was answered with."""
        jobs: dict[str, set[str]] = {}
        for note in self.of("accepted"):
            jobs.setdefault(note.facts["request"], set()).add(note.facts["job"])
        return jobs

    @cached_property
    def offers(self) -> dict[str, Note]:
        """How each lease came to its worker, by the lease's id."""
        return {note.facts["lease"]: note for note in self.of("received")}

    @cached_property
    def cancelled(self) -> set[str]:
        """The jobs that somebody asked to end."""
        return {note.facts["job"] for note in self.of("cancelled")}


async def read_jobs(nodes: Sequence[Client]) -> dict[str, Told]:
    """Every job there is, read through the nodes in turn."""
    room = asyncio.Semaphore(AT_ONCE)
    told: dict[str, Told] = {}

    async def one(job_id: str, node: Client) -> None:
        async with room:
            job = await node.get_job(job_id)
            told[job_id] = Told(job, [event async for event in node.history(job_id, page_size=1000)])

    async with asyncio.TaskGroup() as group:
        number = 0
        async for job in nodes[0].list_jobs(page_size=1000):
            number += 1
            group.create_task(one(job.id, nodes[number % len(nodes)]))
    return told


def read_notes(folder: Path) -> dict[str, list[Note]]:
    """Everybody's notes, by who wrote them."""
    return {path.stem: read(path) for path in sorted(folder.glob(FILES))}


def finished(history: Iterable[HistoryEvent]) -> Iterator[HistoryEvent]:
    """The ends of attempts that a history tells of."""
    return (event for event in history if event.event_type == "task_finished")
