"""What callers ask for of jobs, and the checks of it that do not depend on the door."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from holon.domain.costs import Cost
from holon.domain.job import Status
from holon.domain.json_words import kind
from holon.domain.policy import Allowed
from holon.domain.texts import meant
from holon.domain.value import Value
from holon.domain.wants import Wants
from holon.engine.paging import DEFAULT_PAGE
from holon.engine.payloads import check_depth, encode, may_be_deep
from holon.errors import InvalidArgument, Violation, invalid
from holon.json_in import parse
from holon.ports import JobFilter, Note

MAX_REQUEST_ID = 128
# What is said of a cancel is in the job's error, beside other words.
MAX_REASON = 1_024
# What blueprints and operators put first, or last, no client comes before, or behind.
MOST_PRIORITY = 100.0
# No list asks for later times than this, in epoch seconds: the year 2286.
LATEST_S = 10_000_000_000.0
# A task waits at most this long where a timeout is given: ten years, so that no sum of times overflows anywhere.
MAX_TIMEOUT_S = 10 * 366 * 86_400.0


class Creating(Value, gc=True):
    """A job to create, as a client asked for it. Timeouts are seconds and apply to each of its tasks.

    `trace` is the trace that it belongs to, see `holon.domain.trace`. `priority` is the highest that its tasks may
    have; None: they have their own. `job_id` is the id that it is to have, from `new_job_id` of the store for the same
    owner and request id; empty: a new one. `allowed_skills` are all that it may use, here and below.
    `budget` is what its tasks may cost together, in millionths of the cost unit; None: whatever they do.
    `note` is a document that is to be written with it, also where the job is there already.
    `source` is what had it made where that was no call; its history tells it.
    `webhook_url` is the address that is told of its events and its end, as it was given; None: nobody is.
    `default_priority` is that of its tasks that do not say one, `max_transitions` how many changes of state it may
    make, as they were given; None: 0, and as many as the node lets it make.
    `deadline` is until when its tasks have time at most, in epoch milliseconds of the store's clock; None: as they say.
    `parent_job_id` and `depth` are as in `Job`.
    `wants` is as in `Job`.
    """

    blueprint: str
    initial_data: Any
    request_id: str | None = None
    dispatch_timeout: float | None = None
    result_timeout: float | None = None
    trace: str = ""
    priority: float | None = None
    job_id: str = ""
    allowed_skills: Allowed = None
    budget: Cost = None
    note: Note | None = None
    deadline: int | None = None
    source: str = ""
    parent_job_id: str = ""
    depth: int = 0
    wants: Wants | None = None
    webhook_url: Any = None
    default_priority: Any = None
    max_transitions: Any = None


class Accepted(Value, gc=True):
    """A job that exists. `existing` says that an earlier call with the same request id made it.

    `noted` is the new version of its note.
    """

    job_id: str
    existing: bool
    noted: int | None = None


class Listing(Value):
    """Which jobs to list; the page token is from the page before.

    Those created at `created_after` or later, and before `created_before`: epoch seconds, None is no bound.
    `terminal` lists only those that are over, or only those that are not; None: both. `parent_job_id` lists only those
    that are parts of this job; empty: all. `fields` are what is shown of each, by name: a page has room for it.
    """

    statuses: Sequence[Status] = ()
    blueprint: str | None = None
    page_size: int = DEFAULT_PAGE
    page_token: str = ""
    created_after: float | None = None
    created_before: float | None = None
    terminal: bool | None = None
    parent_job_id: str = ""
    fields: Collection[str] = ()


def check_input(data: Any) -> None:
    """Check what a job is given: a JSON object; raises InvalidArgument."""
    if not isinstance(data, dict):
        reason = f"is {kind(data)}, but must be a JSON object"
        raise InvalidArgument(
            f"initial_data {reason}", code="INPUT_INVALID", details=[Violation("initial_data", reason)]
        )


def input_of(asked: Creating, limit: int) -> tuple[Any, bytes]:
    """What a job is given, and that as JSON text.

    Raises:
        InvalidArgument: (INPUT_INVALID, NOT_JSON) it is no JSON object, or nested deeper than 64.
        TooLarge: (LIMIT_EXCEEDED) its text has more bytes than the limit.
    """
    data = asked.initial_data
    check_input(data)
    text = encode(data, limit, "initial_data")
    if may_be_deep(text):
        check_depth(data, "initial_data")
    return data, text


def request_id_of(request_id: str | None, name: str = "request_id") -> str | None:
    """The request id, None for none; raises InvalidArgument, by its `name`, for one that cannot be stored."""
    if not request_id:
        return None
    if len(request_id) > MAX_REQUEST_ID or not request_id.isprintable() or not request_id.isascii():
        reason = f"must be at most {MAX_REQUEST_ID} printable ASCII characters"
        raise InvalidArgument(f"{name} {reason}", details=[Violation(name, reason)])
    return request_id


def timeout_ms(field: str, seconds: Any) -> int | None:
    """A timeout in milliseconds; raises InvalidArgument for one that is none."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TIMEOUT_S:
        reason = f"must be a number of seconds above 0 and at most {MAX_TIMEOUT_S:.0f}"
        raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
    return max(1, round(seconds * 1000))


def digest_of(
    asked: Creating,
    initial_data: bytes,
    blueprint: str,
    dispatch_timeout: int | None,
    result_timeout: int | None,
    budget: Cost,
) -> bytes:
    """What makes two requests the same: all that was asked for, but the request id itself; 30 s are 30.0 s."""
    if not asked.request_id:
        return b""
    canonical = orjson.dumps(parse(initial_data), option=orjson.OPT_SORT_KEYS)
    terms: list[Any] = [blueprint, dispatch_timeout, result_timeout]
    if asked.allowed_skills is not None:
        terms.append(asked.allowed_skills)
    if budget is not None:
        terms.append({"budget": budget})
    if asked.webhook_url is not None:
        terms.append({"webhook_url": asked.webhook_url})
    if asked.default_priority is not None:
        terms.append({"priority": priority_of(asked.default_priority)})
    if asked.max_transitions is not None:
        terms.append({"max_transitions": int(asked.max_transitions)})
    return hashlib.sha256(canonical + orjson.dumps(terms)).digest()


def priority_of(priority: Any) -> float:
    """The priority of tasks that do not say one; raises InvalidArgument for what is none."""
    if priority is None:
        return 0.0
    if isinstance(priority, bool) or not isinstance(priority, int | float) or not abs(priority) <= MOST_PRIORITY:
        raise invalid("priority", f"must be a number from -{MOST_PRIORITY:g} to {MOST_PRIORITY:g}")
    return float(priority)


def transitions_of(asked: Any, most: int) -> int | None:
    """How many changes of state a job may make; raises InvalidArgument for what is none, or over the node's limit.

    In JSON a whole number may be written with a point.
    """
    if asked is None:
        return None
    if type(asked) is float and asked.is_integer():
        asked = int(asked)
    if type(asked) is not int or not 1 <= asked <= most:
        raise invalid("max_transitions", f"must be a whole number from 1 to {most}, the limit of the node")
    return asked


def check_reason(reason: str) -> None:
    """Check what somebody says of a cancel; raises InvalidArgument."""
    if len(reason) > MAX_REASON:
        raise invalid("reason", f"has over {MAX_REASON} characters")


def filter_of(owner: str, listing: Listing) -> JobFilter | None:
    """Which of an owner's jobs a list shows; None: there can be none.

    Raises:
        InvalidArgument: a time that is none.
    """
    statuses = tuple(listing.statuses)
    if listing.terminal is not None:
        statuses = tuple(one for one in statuses or Status if one.terminal is listing.terminal)
        if not statuses:
            return None
    return JobFilter(
        owner,
        statuses,
        listing.blueprint,
        created_after=time_ms("created_after", listing.created_after),
        created_before=time_ms("created_before", listing.created_before),
    )


def time_ms(field: str, seconds: float | None) -> int | None:
    """A time in epoch milliseconds, not before it; raises InvalidArgument for one that is none."""
    if seconds is None:
        return None
    if not 0 <= seconds <= LATEST_S:
        reason = f"must be a time in seconds since the epoch, from 0 to {LATEST_S:.0f}"
        raise InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
    return math.ceil(round(seconds * 1000, 3))


def statuses_of(names: Sequence[str], field: str) -> tuple[Status, ...]:
    """The statuses of these names, each once; raises InvalidArgument, by their `field`, for one that is none."""
    known = {status.value: status for status in Status}
    # A message has room for half a million of them, and each that is kept is compared with every job.
    each = tuple(dict.fromkeys(names))
    for name in each:
        if name not in known:
            hint = meant(name, known) or f"; use {', '.join(known)}"
            reason = f"{name[:64]!r} is not a status{hint}"
            raise InvalidArgument(f"{field}: {reason}", details=[Violation(field, reason)])
    return tuple(known[name] for name in each)
