"""The wire: times, durations, ids, costs and JSON payloads between protobuf and ours."""

from __future__ import annotations

import re
from collections.abc import Sequence, Sized

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from holon.domain.costs import Cost, costing
from holon.errors import InvalidArgument, Violation
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2

MAX_ID = 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_JSON = ("", "application/json")
# As libraries write it that name the characters' encoding of every text: JSON has this one anyway.
_SAID_JSON = re.compile(r'application/json *(?:; *(?:charset *= *(?:utf-8|"utf-8") *)?)?', re.IGNORECASE)


def fill(time: Timestamp | Duration, ms: int) -> None:
    """Set a Timestamp to epoch milliseconds, or a Duration to milliseconds, not negative."""
    time.seconds, time.nanos = ms // 1000, ms % 1000 * 1_000_000


def timestamp(ms: int) -> Timestamp:
    """Epoch milliseconds as a Timestamp."""
    time = Timestamp()
    fill(time, ms)
    return time


def asked_time(request: Message, field: str) -> float | None:
    """A Timestamp that somebody asks for, in epoch seconds; None where it is unset. Which time it is is not looked at.

    Raises:
        InvalidArgument: it is none by the rules of protobuf: its nanoseconds are below 0, or a second or more.
    """
    if not request.HasField(field):
        return None
    value = getattr(request, field)
    if not 0 <= value.nanos < 10**9:
        raise _none("Timestamp", field, value)
    time: float = value.seconds + value.nanos / 1e9
    return time


def duration(ms: int) -> Duration:
    """Milliseconds, not negative, as a Duration."""
    time = Duration()
    fill(time, ms)
    return time


def time_limit(ms: int) -> Duration:
    """Milliseconds as a Duration that limits something: at least 1, as some peers read a zero as no limit."""
    return duration(max(1, ms))


def seconds(value: Duration) -> float:
    """A Duration in seconds."""
    return value.seconds + value.nanos / 1e9


def asked_seconds(request: Message, field: str) -> float | None:
    """A Duration that somebody asks for, in seconds; None where it is unset. How long it may be is not looked at.

    Raises:
        InvalidArgument: it is none by the rules of protobuf: its nanoseconds are a second or more, or of another sign.
    """
    if not request.HasField(field):
        return None
    value = getattr(request, field)
    if abs(value.nanos) >= 10**9 or value.seconds * value.nanos < 0:
        raise _none("Duration", field, value)
    return seconds(value)


def cost_of(
    word: worker_pb2.TaskResult | worker_pb2.TaskRejected | types_pb2.JobSummary | types_pb2.TreeNode,
    *,
    code: str = InvalidArgument.code,
) -> Cost:
    """What somebody says that something cost; None when they do not say.

    Raises:
        InvalidArgument: (code) it is no cost.
    """
    return costing("cost", word.cost if word.HasField("cost") else None, code=code)


def skills_of(message: job_pb2.CreateJobRequest | types_pb2.Lineage, field: str) -> Sequence[str] | None:
    """The skills that the `skill_limit` of a message allows; None where there is no limit.

    Arguments:
        field: what it is called in messages.
    Raises:
        InvalidArgument: it says that it allows none, and names some.
    """
    if not message.HasField("skill_limit"):
        return None
    limit = message.skill_limit
    check_empty(limit.no_skills, limit.skills, f"{field}.no_skills")
    return limit.skills


def check_empty(is_empty: bool, listed: Sized, field: str) -> None:
    """Raise InvalidArgument where a message says that its list is empty, and it is not."""
    if is_empty and listed:
        reason = f"is set, but the list has {len(listed)} entries; send only one of the two"
        raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])


def is_id(text: str) -> bool:
    """Whether `text` may be an id: 1 to 128 letters, digits, dots, underscores, dashes, the first a letter or digit."""
    return _ID.fullmatch(text) is not None


def json_of(payload: types_pb2.Payload, where: str) -> bytes:
    """The JSON text of a payload; empty for no value. What it holds is not read.

    Arguments:
        where: the payload's field, for the message.
    Raises:
        InvalidArgument: (PAYLOAD_UNSUPPORTED) it is of another media type, encoded, or a reference; (NOT_JSON) it is a
            value of zero bytes, and not none.
    """
    if (media_type := payload.media_type) not in _JSON and not _SAID_JSON.fullmatch(media_type):
        raise _unsupported(where, f"has the media type {media_type[:80]!r}; only application/json is supported")
    if encoding := payload.encoding:
        raise _unsupported(where, f"has the encoding {encoding[:80]!r}; this node supports no encodings")
    data = payload.data
    if not data and (content := payload.WhichOneof("content")) is not None:
        if content == "ref":
            raise _unsupported(
                where, "is a reference to a file, but this node does not list PAYLOAD_REFS; send the bytes"
            )
        reason = "has zero bytes, which is not JSON; for no value, leave the payload empty"
        raise InvalidArgument(f"{where} {reason}", code="NOT_JSON", details=[Violation(where, reason)])
    return data


def json_payload(text: bytes) -> types_pb2.Payload:
    """JSON text as a payload."""
    return types_pb2.Payload(data=text)


def _none(kind: str, field: str, value: Timestamp | Duration) -> InvalidArgument:
    reason = f"is not a valid {kind}: {value.seconds} s and {value.nanos} ns"
    return InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])


def _unsupported(where: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{where} {reason}", code="PAYLOAD_UNSUPPORTED", details=[Violation(where, reason)])
