"""The rows of a shard as bytes, and their names.

A job has these rows: its head (fields that rules read), its state (data of its handlers), its inbox, its fan-out with
the chunks that are not tasks yet, its tasks, pages of history, and counts of late results. If the node has a key,
state, inbox, chunks, tasks and pages are sealed. Of the head only the progress message is sealed.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from holon.core.rows import FanOut, JobRow, LateRow, TaskRow, TaskState
from holon.domain.events import CancelRequested, HistoryEvent, InboxEvent
from holon.domain.job import Status
from holon.domain.task import Outcome, RetryPolicy
from holon.ports import Attempt, NewTask, Superseded
from holon.stores.records import (
    decode_chunk,
    decode_history,
    decode_inbox,
    decode_need,
    decode_outcome,
    encode_chunk,
    encode_history,
    encode_inbox,
    encode_need,
    encode_outcome,
    pack,
    unpack,
)
from holon.stores.sealing import Seal

HEAD, STATE, INBOX, FAN = "head", "state", "inbox", "fan"
# The names of pages of history begin with this.
PAGE = "lines."

# The rows of the shard itself have an empty job id. NUMBERS holds the last arrival number. MOVED exists while every
# page of history has an entry in the HISTORY index (pages to move).
NUMBERS, MOVED = "numbers", "moved"


def task_name(step: int, index: int) -> str:
    """The name of a task's row."""
    return f"task.{step}.{index}"


def chunk_name(place: int) -> str:
    """The name of a chunk of a fan-out. Places count down to 1; chunks with the greatest places become tasks first."""
    return f"chunk.{place}"


def page_name(first: int) -> str:
    """The name of a page of history; `first` is the number of its first line."""
    return f"{PAGE}{first}"


def late_name(task: int, worker_id: str) -> str:
    """The name of the row that counts a worker's late results for a task; `task` is the task's arrival number."""
    return f"late.{task}.{worker_id}"


def request_name(owner: str, request_id: str) -> str:
    """The name of the row that maps a request id to the job it made."""
    return f"request.{len(owner)}.{owner}.{request_id}"


class Codec:
    """Packs and opens rows.

    Arguments:
        seal: seals and opens rows.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def __repr__(self) -> str:
        return f"Codec({self._seal})"

    def sealed(self, job_id: str, name: str, value: bytes) -> bytes:
        """A row's value, sealed for the store."""
        return self._seal.seal("row", job_id, name, value)

    def opened(self, job_id: str, name: str, stored: bytes) -> bytes:
        """The value of a sealed row. Raises SealBroken if it cannot be opened."""
        return self._seal.open("row", job_id, name, stored)

    # Jobs ------------------------------------------------------------------------------------------------------

    def head(self, row: JobRow) -> bytes:
        """A job's head as bytes."""
        return pack(*_head(row)[:-1], self._seal.seal_text("row", row.id, "message", row.message))

    @staticmethod
    def number_of(head: bytes) -> int:
        """The arrival number of a job, from its stored head."""
        return int(unpack("head", head)[0])

    @staticmethod
    def created_at_of(head: bytes) -> int:
        """When a job was created, from its stored head."""
        return int(unpack("head", head)[_HEAD_FIELDS.index("created_at")])

    def job(self, head: bytes, state: bytes, inbox: bytes | None) -> JobRow:
        """A job's row, without its fan-out, from its stored rows. Raises SealBroken if one cannot be opened."""
        fields = dict(zip(_HEAD_FIELDS, unpack("head", head), strict=True))
        job_id, status = fields["id"], fields["status"]
        row = JobRow(**fields, state=self.opened(job_id, STATE, state), over=status in _OVER, due=status in _DUE)
        row.dedups = tuple(row.dedups)
        row.unreported = tuple([(lease, kept) for lease, kept in row.unreported])
        row.message = self._seal.open_text("row", job_id, "message", row.message)
        if inbox:
            row.inbox = self.opened_inbox(job_id, inbox)
            row.cancel_pending = any(isinstance(event, CancelRequested) for _, event in row.inbox)
        return row

    def inbox(self, row: JobRow) -> bytes:
        """The events in a job's inbox, as sealed bytes."""
        return self.sealed(row.id, INBOX, encode_inbox(row.inbox))

    def opened_inbox(self, job_id: str, stored: bytes) -> tuple[tuple[int, InboxEvent], ...]:
        """The events in a stored inbox, with their numbers. Raises SealBroken if it cannot be opened."""
        return decode_inbox(self.opened(job_id, INBOX, stored))

    def lines(self, job_id: str, first: int, events: Sequence[HistoryEvent]) -> bytes:
        """A page of history as sealed bytes."""
        return self.sealed(job_id, page_name(first), encode_history(events))

    def opened_lines(self, job_id: str, first: int, stored: bytes) -> list[HistoryEvent]:
        """The lines of a stored page of history. Raises SealBroken if it cannot be opened."""
        return decode_history(self.opened(job_id, page_name(first), stored))

    # Fan-outs --------------------------------------------------------------------------------------------------

    @staticmethod
    def fan(fan: FanOut) -> bytes:
        """The counts of a fan-out as bytes."""
        return pack(*_fan(fan), len(fan.chunks))

    def chunk(self, fan: FanOut, place: int, tasks: Sequence[NewTask]) -> bytes:
        """A chunk of branches that are not tasks yet, as sealed bytes."""
        return self.sealed(fan.job_id, chunk_name(place), encode_chunk(tuple(tasks), fan.dispatched))

    @staticmethod
    def chunks_of(stored: bytes) -> int:
        """The number of chunks that a stored fan-out has left."""
        return int(unpack("fan", stored)[-1])

    def fan_out(self, job_id: str, stored: bytes, chunks: Sequence[tuple[int, bytes]]) -> FanOut:
        """A fan-out from its stored row and its (place, bytes) chunks, greatest place first.

        Raises:
            SealBroken: a chunk cannot be opened.
        """
        *fields, _ = unpack("fan", stored)
        rest = tuple(
            decode_chunk(self.opened(job_id, chunk_name(place), chunk))[0] for place, chunk in chunks
        )  # fmt: skip
        fan = FanOut(job_id, fields[0], fields[1], bool(fields[2]), rest, fields[3], fields[4])
        for name, value in zip(_FAN_FIELDS[4:], fields[4:], strict=True):
            setattr(fan, name, value)
        return fan

    # Tasks -----------------------------------------------------------------------------------------------------

    def task(self, row: TaskRow) -> bytes:
        """A task as sealed bytes."""
        outcome = encode_outcome(row.outcome) if row.outcome else b""
        retry = row.retry
        packed = pack(
            row.n, row.branch, str(row.state), encode_need(row.need), row.params, outcome,
            (retry.max_retries, retry.first_ms, retry.longest_ms), row.attempts, *_facts(row),
        )  # fmt: skip
        return self.sealed(row.job_id, task_name(row.step, row.index), packed)

    def opened_task(self, job_id: str, step: int, index: int, stored: bytes) -> TaskRow:
        """A task's row. Raises SealBroken if it cannot be opened."""
        fields = unpack("task", self.opened(job_id, task_name(step, index), stored))
        n, branch, state, need, params, outcome, retry, attempts, *facts = fields
        values = dict(zip(_TASK_FACTS, facts, strict=True))
        known = decode_need(need)
        row = TaskRow(
            n, f"{job_id}-{step}-{index}", job_id, step, index, branch, known, known.key, params, values["priority"],
            RetryPolicy(*retry), values["trace"], values["created_at"], values["execution_timeout"],
            values["lost_after"], values["reserves"], values["reserved"], values["dispatch_due"], values["result_due"],
        )  # fmt: skip
        for name, value in values.items():
            setattr(row, name, value)
        row.state = TaskState(state)
        row.outcome = decode_outcome(outcome) if outcome else None
        row.attempts = tuple(Attempt(*attempt) for attempt in attempts)
        row.over_reason = Superseded(row.over_reason) if row.over_reason else None
        row.avoid = tuple((who, until, int(how)) for who, until, how in row.avoid)
        return row

    def outcome(self, job_id: str, step: int, index: int, stored: bytes) -> Outcome | None:
        """The outcome of a stored task; None if it has none yet. Raises SealBroken if it cannot be opened."""
        outcome = unpack("task", self.opened(job_id, task_name(step, index), stored))[5]
        return decode_outcome(outcome) if outcome else None

    # Others ----------------------------------------------------------------------------------------------------

    @staticmethod
    def late(row: LateRow) -> bytes:
        """The count of a worker's late results for a task, as bytes."""
        return pack(row.job_id, row.job, row.task, row.worker_id, row.told)

    @staticmethod
    def opened_late(stored: bytes) -> LateRow:
        """The row of `late` from its bytes."""
        return LateRow(*unpack("late", stored))


# Statuses as text, as heads store them.
_OVER = frozenset(str(one) for one in Status if one.terminal)
_DUE = frozenset(str(one) for one in Status if one.due)

# The order of these three lists is part of the stored format.
_HEAD_FIELDS = (
    "n", "id", "owner", "blueprint", "status", "created_at",
    "updated_at", "finished_at", "step", "commit_id", "request_id", "request_digest", "progress", "history_seq",
    "deliveries", "wake_at", "wake_step", "open_step", "open_count", "inbox_seq", "dedups", "budget", "cost",
    "reserved", "unreported", "end_due", "events_due", "events_after", "events_last", "message",
)  # fmt: skip
_head = attrgetter(*_HEAD_FIELDS)

_FAN_FIELDS = (
    "step", "total", "fail_fast", "dispatched", "pending", "spawned", "failed", "progress", "bytes", "over",
)  # fmt: skip
_fan = attrgetter(*_FAN_FIELDS)

_TASK_FACTS = (
    "created_at", "priority", "execution_timeout", "dispatch_due", "result_due", "trace", "accepted", "worker_id",
    "session_id", "lease_id", "until", "execution_due", "applied_lease", "applied_worker", "generation", "attempt",
    "losses", "progress", "over_reason", "avoid", "lost_after", "reserves", "reserved", "at_once", "written_off",
    "lease_lasts", "price",
)  # fmt: skip
_facts = attrgetter(*_TASK_FACTS)
