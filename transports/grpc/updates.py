"""The client door: what a watcher is told, as bytes, made once for all who watch the same job."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from holon.engine.feeds import Happened, Idle, Moved, Seen, Update, Wrote
from holon.rxon.v1 import job_pb2
from holon.wire.jobs import event_message, job_message, progress_message
from holon.wire.log_lines import logs_message


class Updates:
    """Makes messages of updates, and keeps each as long as its update lives."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[Update, bytes] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"Updates(kept={len(self._made)})"

    def message(self, job_id: str, update: Update) -> bytes:
        """The message of an update of a job."""
        made = self._made.get(update)
        if made is None:
            made = self._made[update] = _message(job_id, update).SerializeToString()
        return made


def _message(job_id: str, update: Update) -> job_pb2.WatchJobResponse:
    message = job_pb2.WatchJobResponse(sequence=update.sequence)
    match update:
        case Seen():
            message.job.CopyFrom(job_message(update.record, update.message))
        case Happened():
            message.event.CopyFrom(event_message(job_id, update.sequence, update.event))
        case Moved():
            message.progress.CopyFrom(progress_message(update.percent, update.message, update.status, update.state))
        case Wrote():
            message.logs.CopyFrom(logs_message(update.logged))
        case Idle():
            message.idle.SetInParent()
    return message
