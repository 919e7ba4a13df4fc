"""What webhooks tell of jobs: their ends, and before that the events of their histories, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holon.domain.events import tells_event
from holon.engine.end_messages import end_message, message_id
from holon.engine.event_messages import event_id, event_message
from holon.engine.records import Records
from holon.engine.sources import Due, Found, Message, Outcome
from holon.ports import Hint, Outbox
from holon.telemetry.metrics import WebhookMetrics

# So many lines of a job's history are read at once: an event may have 64 KiB.
_LINES = 16


class Ends:
    """The ends of jobs."""

    rest = "its end"
    in_turn = False

    def __init__(self, outbox: Outbox, metrics: WebhookMetrics) -> None:
        self._outbox = outbox
        self._metrics = metrics

    async def take(self, limit: int, hold: int) -> tuple[Sequence[Due], int | None]:
        ends = await self._outbox.take_ends(limit, hold)
        return [Due(record) for record in ends.jobs], ends.next_due

    async def find(self, due: Due, too_old: int) -> Found:  # noqa: ARG002  each has its last try
        job = due.record.job
        ended = due.record.finished_at or due.record.updated_at
        return Found(Message(message_id(job.id), end_message(job), ended, self.rest))

    async def settle(self, outcomes: Mapping[str, Outcome]) -> int | None:
        again = [(job_id, one.again) for job_id, one in outcomes.items() if one.again is not None]
        await self._outbox.settle_ends([job_id for job_id, one in outcomes.items() if one.again is None], again)
        return min((after for _, after in again), default=None)

    def heard(self, hint: Hint) -> bool:
        return hint.ends

    def told(self, after: int) -> None:
        self._metrics.told.add("told")
        self._metrics.delay.observe(after / 1000)

    def given_up(self, count: int) -> None:
        self._metrics.told.add("given_up", by=count)


class Events:
    """The events of jobs: of each in the order of its history, the next once the one before is told or given up.

    Arguments:
        records: where histories are read: there are no copies of what is to be told.
    """

    rest = "its events"
    in_turn = True

    def __init__(self, outbox: Outbox, records: Records, metrics: WebhookMetrics) -> None:
        self._outbox = outbox
        self._records = records
        self._metrics = metrics

    async def take(self, limit: int, hold: int) -> tuple[Sequence[Due], int | None]:
        happened = await self._outbox.take_events(limit, hold)
        return [Due(record, after) for record, after in happened.jobs], happened.next_due

    async def find(self, due: Due, too_old: int) -> Found:
        job, newest, after, lost = due.record.job, due.record.sequence, due.after, 0
        while after < newest and (lines := await self._records.history(job.id, after, _LINES, newest)):
            for number, line in lines:
                after = number
                if not tells_event(line):
                    continue
                if line.time < too_old:
                    lost += 1
                    continue
                what = f"event {number}, {line.type}"
                message = Message(event_id(job.id, number), event_message(job.id, number, line), line.time, what)
                return Found(message, number, lost)
        return Found(None, max(after, newest), lost)

    async def settle(self, outcomes: Mapping[str, Outcome]) -> int | None:
        heard = [(job_id, one.line, one.again or 0) for job_id, one in outcomes.items()]
        await self._outbox.settle_events(heard)
        # Of those that were told there may be the next, also one that came meanwhile.
        return min((after for _, _, after in heard), default=None)

    def heard(self, hint: Hint) -> bool:
        return hint.events

    def told(self, after: int) -> None:  # noqa: ARG002  one waits for those before it
        self._metrics.events.add("told")

    def given_up(self, count: int) -> None:
        self._metrics.events.add("given_up", by=count)
