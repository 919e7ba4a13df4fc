"""Jobs that somebody read lately, as they are committed: whoever asks again is answered without a read of the file.

It is kept on the event loop. The writer looks into it after each commit, and has the jobs it finds there told anew.
Of jobs that were expected before they were made, the history is kept as well where it was asked for, as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from holon.domain.events import HistoryEvent
from holon.domain.value import Value
from holon.ports import JobRecord
from holon.storage.ledger.reads import copied
from holon.storage.ledger.rows import JobRow
from holon.storage.ledger.tables import Tables
from holon.storage.records import from_lines

# How many, and how large a job's state, or its history, may be to be kept: together a bound in bytes.
MAX_JOBS = 1_000
MAX_STATE = 16 * 2**10
MAX_HISTORY = 16 * 2**10


class Copy(Value, gc=True):
    """A job as it was committed, made into a record when somebody asks; whether it is over is told without that."""

    over: bool
    record: Callable[[], JobRecord]


class Reading:
    """One read of the file; what it says counts only while nothing newer is known."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Place:
    """Where a job is kept, as long as it is. What the writer found here is told here, and not at its next place."""

    now: JobRecord | Copy | Reading


# The number of a first line, the lines from there on as they are stored, and how many bytes those are.
Lines: TypeAlias = tuple[int, Sequence[HistoryEvent], int]
# By id. Its place, where it had one. The job: None is one that is not to be kept. Its new lines: None where there are
# none, or nobody wants them.
Told: TypeAlias = Sequence[tuple[str, Place | None, Copy | None, Lines | None]]


@dataclass(slots=True)
class _History:
    """The lines of a job from its first on, each commit's together, and how many bytes they are."""

    parts: list[Lines]
    size: int = 0


class Known:
    """The jobs, each as it was last committed, or that its first read is on its way."""

    def __init__(self) -> None:
        self._jobs: dict[str, Place] = {}
        # None once they are too many.
        self._lines: dict[str, _History | None] = {}
        # Those of them of which no second commit was told; whether the first was.
        self._created: dict[str, bool] = {}

    def __repr__(self) -> str:
        return f"Known({len(self._jobs)})"

    # On the event loop -----------------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobRecord | Reading:
        """A job as it is committed; else the file is to be read, and from here on what is committed of it is told."""
        place = self._jobs.get(job_id)
        if place is None:
            if len(self._jobs) >= MAX_JOBS:
                del self._jobs[next(iter(self._jobs))]
            place = self._jobs[job_id] = Place(Reading())
        known = place.now
        if isinstance(known, Copy):
            known = place.now = known.record()
        return known

    def at_hand(self, job_id: str) -> JobRecord | None:
        """A job as it is committed, if it is here."""
        known = self.job(job_id) if job_id in self._jobs else None
        return known if isinstance(known, JobRecord) else None

    def over(self, job_id: str) -> bool | None:
        """Whether a job is over as it is committed, if it is here."""
        place = self._jobs.get(job_id)
        if place is None:
            return None
        known = place.now
        if isinstance(known, JobRecord):
            return known.job.status.terminal
        return known.over if isinstance(known, Copy) else None

    def expect(self, job_id: str, *, history: bool) -> None:
        """A job is about to be made: it, and perhaps its history, is told from its first commit on."""
        self.job(job_id)
        if history and len(self._lines) < MAX_JOBS:
            self._lines[job_id] = _History([])
            self._created[job_id] = False

    def is_as_created(self, job_id: str) -> bool:
        """Whether one commit was told of a job since it was expected, and no other."""
        return self._created.get(job_id, False)

    def leave(self, job_id: str) -> None:
        """Nobody asks for its history any more."""
        self._lines.pop(job_id, None)
        self._created.pop(job_id, None)
        place = self._jobs.get(job_id)
        if place is not None and isinstance(place.now, Reading):
            # It was never made, perhaps; one that is being read is read again next time.
            del self._jobs[job_id]

    def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]] | None:
        """A page of a job's history as it is committed; None: the file is to be read."""
        known = self.whole_history(job_id)
        return None if known is None else [line for line in known if line[0] > after][:limit]

    def whole_history(self, job_id: str) -> Sequence[tuple[int, HistoryEvent]] | None:
        """All of it, from its first line on."""
        known = self._lines.get(job_id)
        if known is None or not known.parts:
            return None
        return [line for first, lines, _ in known.parts for line in enumerate(from_lines(lines), first)]

    def read(self, job_id: str, reading: Reading, record: JobRecord | None, size: int) -> None:
        """What the file said, with the size of the state in bytes; what was told meanwhile is newer, and stays."""
        place = self._jobs.get(job_id)
        if place is not None and place.now is reading:
            if record is None or size > MAX_STATE:
                del self._jobs[job_id]
            else:
                place.now = record

    def told(self, jobs: Told) -> None:
        """The writer has committed these."""
        for job_id, place, copy, lines in jobs:
            if copy is None:
                self._jobs.pop(job_id, None)
            elif place is not None:
                # It may be given up by now, and the job be read anew: that may have told more than this.
                place.now = copy
            if self._created.pop(job_id, None) is False and copy is not None:
                self._created[job_id] = True
            if lines is not None:
                self._add(job_id, lines)

    def _add(self, job_id: str, lines: Lines) -> None:
        known = self._lines.get(job_id)
        if known is None:
            return
        first, _, size = lines
        known.size += size
        if (first != 1 and not known.parts) or known.size > MAX_HISTORY:
            # It was there before, or there is too much of it: the file has all.
            self._lines[job_id] = None
        else:
            known.parts.append(lines)

    def forget(self) -> None:
        """Jobs were deleted."""
        self._jobs.clear()
        self._lines.clear()
        self._created.clear()

    # In the writer's thread ------------------------------------------------------------------------------------

    @property
    def of_lines(self) -> Container[str]:
        """The jobs whose lines are kept."""
        return self._lines

    def committed(self, tables: Tables, lines: Mapping[str, Lines]) -> Told:
        """Those among a transaction's jobs that are to be told. Called when it is committed, and not yet done.

        Arguments:
            lines: what it told of jobs whose lines are kept, by their ids.
        """
        if not self._jobs and not self._lines:
            return ()
        rows: dict[str, JobRow] = {}
        for changed in tables.changed:
            job_id = changed.job_id
            if job_id in rows or not (job_id in self._jobs or job_id in self._lines):
                continue
            # A job is told with its task's need; the tasks of a job that is over change nothing of it.
            row = changed if isinstance(changed, JobRow) else tables.jobs.get(job_id)
            if row is not None:
                rows[job_id] = row
        return [
            (
                job_id,
                self._jobs.get(job_id),
                Copy(row.over, copied(tables, row)) if len(row.state) <= MAX_STATE else None,
                lines.get(job_id) if job_id in self._lines else None,
            )
            for job_id, row in rows.items()
        ]
