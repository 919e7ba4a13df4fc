"""The HTTP door: what requests may carry beside their path: parameters, headers, and the fields of bodies.

The routes read by these tables, and the OpenAPI document is written from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from holon.domain.costs import MOST_COST
from holon.domain.job import CHOSEN_BY_NOBODY
from holon.domain.policy import LONGEST_SKILL, MOST_SKILLS
from holon.domain.signals import MAX_SIGNAL_NAME, SIGNAL_NAME
from holon.domain.tree import MAX_NODES
from holon.domain.webhook import MAX_URL, Receivers
from holon.engine.approvals import MAX_COMMENT
from holon.engine.client_files import MAX_EXPIRES_S
from holon.engine.page_tokens import MAX_TOKEN
from holon.engine.paging import DEFAULT_PAGE, MAX_PAGE
from holon.engine.reloading import TARGETS
from holon.engine.requests import LATEST_S, MAX_REASON, MAX_REQUEST_ID, MAX_TIMEOUT_S, MOST_PRIORITY
from holon.transports.http.shapes import ALL_FIELDS, ANYTHING, JOB_STATUSES, Schema


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. A list is text with commas between its items, or is repeated; what is in the path is required."""

    name: str
    place: Literal["query", "path", "header"]
    about: str
    schema: Schema
    required: bool = False


DEFAULT_EXPIRES_S = 3_600
# Proxies on the way give up on what takes longer.
MAX_WAIT_S = 30

JOB_ID = Parameter("job_id", "path", "The job's id, as its creation answered it.", {"type": "string"})
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Makes the call repeatable: the same key and body answer with the same job.",
    {"type": "string", "minLength": 1, "maxLength": MAX_REQUEST_ID, "pattern": "^[ -~]*$"},
)
CANCEL_KEY = Parameter(
    IDEMPOTENCY_KEY.name,
    "header",
    "Makes the call repeatable: the same key is the same cancel, and is answered though the job is over.",
    IDEMPOTENCY_KEY.schema,
)
APPROVAL_KEY = Parameter(
    IDEMPOTENCY_KEY.name,
    "header",
    "Makes the call repeatable: the same key and decision answer as the first time.",
    IDEMPOTENCY_KEY.schema,
)
SIGNAL_KEY = Parameter(
    IDEMPOTENCY_KEY.name,
    "header",
    "Makes the call repeatable: the same key is the same signal, and is answered though the job is over.",
    IDEMPOTENCY_KEY.schema,
)
TRACEPARENT = Parameter(
    "traceparent", "header", "The W3C trace that the job belongs to; nonsense is ignored.", {"type": "string"}
)
PAGE_SIZE = Parameter(
    "page_size",
    "query",
    "How many to answer with at most. `limit` is another name for it.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
)
PAGE_TOKEN = Parameter(
    "page_token",
    "query",
    "The `next_page_token` of the page before, with the same parameters; the first page has none.",
    {"type": "string", "pattern": "^[0-9A-Za-z_-]*$", "maxLength": MAX_TOKEN},
)
FIELDS = Parameter(
    "fields",
    "query",
    "Show only these fields. Without it all are but `initial_data` and `state_history`, and in lists `result`.",
    {"type": "array", "items": {"type": "string", "enum": list(ALL_FIELDS)}, "minItems": 1},
)
_SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0}
WAIT = Parameter(
    "wait",
    "query",
    "How many seconds to wait for its end: the answer comes once it is over, and shows where it stands when it is not "
    "by then, when the node shuts down, or when something else is sent on the connection, or it ends.",
    _SECONDS,
)
WAIT_CREATED = Parameter(
    "wait",
    "query",
    "How many seconds to wait for its end: 200 with the job once it is over, and 202 when it is not by then, when the "
    "node shuts down, when something else is sent on the connection, or it ends.",
    _SECONDS,
)
FIELDS_CREATED = replace(FIELDS, about="Show only these fields of the job that was waited for.")
STATUS = Parameter(
    "status",
    "query",
    "Only jobs of these statuses.",
    {"type": "array", "items": {"type": "string", "enum": JOB_STATUSES}, "minItems": 1},
)
BLUEPRINT = Parameter("blueprint", "query", "Only jobs of this blueprint.", {"type": "string"})
PARENT = Parameter("parent_job_id", "query", "Only the jobs that are parts of this one.", {"type": "string"})

_TIME: Schema = {"type": "number", "minimum": 0, "maximum": LATEST_S}
CREATED_AFTER = Parameter(
    "created_after", "query", "Only jobs created at this time or later; seconds since the epoch.", _TIME
)
CREATED_BEFORE = Parameter(
    "created_before", "query", "Only jobs created before this time; seconds since the epoch.", _TIME
)

MAX_DEPTH = Parameter(
    "max_depth",
    "query",
    "How many levels below the job to show; all by default.",
    {"type": "integer", "minimum": 0, "maximum": 999_999_999},
)
TREE_SIZE = Parameter(
    "page_size",
    "query",
    "How many nodes to answer with at most.",
    {"type": "integer", "minimum": 1, "maximum": MAX_NODES, "default": MAX_NODES},
)
DIGESTS = Parameter(
    "digests",
    "query",
    "Whether the fingerprint of each job's history is wanted.",
    {"type": "boolean", "default": False},
)

# A part of a name is anything but `.` and `..`, of anything but slashes, backslashes and control characters.
_ANY, _BUT_DOT = r"[^/\\\x00-\x1f\x7f]", r"[^./\\\x00-\x1f\x7f]"
_PART = rf"({_BUT_DOT}{_ANY}*|\.{_BUT_DOT}{_ANY}*|\.\.{_ANY}+)"
_FILE_NAME: Schema = {"type": "string", "pattern": f"^{_PART}(/{_PART})*$"}
FILE_NAME = Parameter(
    "filename",
    "path",
    "What the file is called: the rest of the path, which may have parts (`pages/1.png`), none of them `..`.",
    _FILE_NAME,
)
NEW_FILE_NAME = Parameter(
    "filename", "query", "What the file is to be called, such as `pages/1.png`.", _FILE_NAME, required=True
)
EXPIRES_IN = Parameter(
    "expires_in",
    "query",
    "For how many seconds the URL lasts.",
    {"type": "integer", "minimum": 1, "maximum": MAX_EXPIRES_S, "default": DEFAULT_EXPIRES_S},
)

BLUEPRINT_NAME = Parameter("name", "path", "The blueprint's name.", {"type": "string"})
SKILL = Parameter("skill", "query", "Only workers that offer this skill; an empty one is none.", {"type": "string"})
CONNECTED = Parameter(
    "connected",
    "query",
    "Only workers with, or without, a live session; both by default. This node knows nobody without one.",
    {"type": "boolean"},
)

OF_CREATE = (FIELDS_CREATED, WAIT_CREATED)
OF_GET = (FIELDS, WAIT)
OF_TREE = (MAX_DEPTH, TREE_SIZE, PAGE_TOKEN, DIGESTS)
OF_PAGES = (PAGE_SIZE, PAGE_TOKEN)
OF_FILES = OF_PAGES
OF_UPLOAD = (NEW_FILE_NAME, EXPIRES_IN)
OF_WORKERS = (*OF_PAGES, SKILL, CONNECTED)
OF_LIST = (PAGE_SIZE, PAGE_TOKEN, STATUS, BLUEPRINT, PARENT, CREATED_AFTER, CREATED_BEFORE, FIELDS)

_TIMEOUT: Schema = {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_S}
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PUBLIC_URL = (
    rf"^[Hh][Tt][Tt][Pp][Ss]://({_LABEL}\.)*[A-Za-z]([A-Za-z0-9_-]{{0,61}}[A-Za-z0-9_])?(:[1-9][0-9]{{0,3}})?"
    r"([/?][A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*)?$"
)
CREATE_FIELDS: Mapping[str, Schema] = {
    "initial_data": {
        "type": "object",
        "additionalProperties": ANYTHING,
        "description": "what the job begins with; `{}` when left out",
    },
    "dispatch_timeout": {
        **_TIMEOUT,
        "description": "seconds that each of its tasks may wait for a worker, where the task does not say",
    },
    "result_timeout": {
        **_TIMEOUT,
        "description": "seconds that each of its tasks may take in all, where the task does not say",
    },
    "webhook_url": {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": MAX_URL,
        "default": None,
        "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$",
        "description": "the address that is told of its events and its end, each by a POST: https, but for what "
        "WEBHOOK_ALLOWED_HOSTS lists; nobody is when left out",
    },
    "allowed_skills": {
        "type": ["array", "null"],
        "items": {"type": "string", "minLength": 1, "maxLength": LONGEST_SKILL},
        "maxItems": MOST_SKILLS,
        "description": "all the skills that it may use, here and in holons below; whatever there is when left out",
    },
    "budget": {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": MOST_COST,
        "description": "what its tasks may cost together, in millionths of the cost unit; no limit when left out",
    },
    "priority": {
        "type": ["number", "null"],
        "minimum": -MOST_PRIORITY,
        "maximum": MOST_PRIORITY,
        "description": "of its tasks that do not say one: higher goes first; 0 when left out",
    },
    "max_transitions": {
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "how many changes of state it may make, at most as many as the node lets it make, which is what "
        "it may when left out",
    },
}
CANCEL_FIELDS: Mapping[str, Schema] = {
    "reason": {"type": ["string", "null"], "maxLength": MAX_REASON, "description": "why, for its history"}
}
# What is brought to a job that waits for it.
_DATA: Schema = {
    "type": ["object", "null"],
    "additionalProperties": ANYTHING,
    "description": "what comes with it, merged into the job's state; nothing when left out",
}
SIGNAL_FIELDS: Mapping[str, Schema] = {
    "name": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_SIGNAL_NAME,
        "pattern": SIGNAL_NAME,
        "not": {"enum": sorted(CHOSEN_BY_NOBODY)},
        "description": "what has happened, by the name that the job waits for, or will; no control characters",
    },
    "data": _DATA,
    "to_job_id": {
        "type": ["string", "null"],
        "description": "the job below that is to have it, as the event `worker_event:signal_awaited` told it; the job "
        "itself when left out",
    },
}
APPROVAL_FIELDS: Mapping[str, Schema] = {
    "decision": {"type": "string", "minLength": 1, "description": "one of the `decisions` of the job's `approval`"},
    "data": _DATA,
    "comment": {"type": ["string", "null"], "maxLength": MAX_COMMENT, "description": "why, for its history"},
    "approval_id": {
        "type": ["string", "null"],
        "description": "the question that is answered, which may be of a job below; the one that is open when left out",
    },
    "approval_token": {
        "type": ["string", "null"],
        "description": "the right to decide this question, from whoever has no token of the job's owner",
    },
}
# Where nobody is told of ends.
RELOAD_FIELDS: Mapping[str, Schema] = {
    "targets": {
        "type": "array",
        "items": {"type": "string", "enum": list(TARGETS)},
        "description": "what to read again; all that the node has files of when left out, or empty",
    }
}


def create_fields(max_transitions: int, receivers: Receivers) -> Mapping[str, Schema]:
    """What a job may be created with at a node.

    Arguments:
        max_transitions: how many changes of state the node lets it make.
        receivers: who may be told of it; without exceptions, only a URL with https and a name is sure to be taken.
    """
    bounded = {**CREATE_FIELDS["max_transitions"], "maximum": max_transitions}
    told = CREATE_FIELDS["webhook_url"]
    if receivers == Receivers():
        told = {**told, "pattern": _PUBLIC_URL}
    return {**CREATE_FIELDS, "max_transitions": bounded, "webhook_url": told}


def names(parameters: Iterable[Parameter]) -> frozenset[str]:
    """The names of parameters."""
    return frozenset(parameter.name for parameter in parameters)


def repeatable(parameters: Iterable[Parameter]) -> frozenset[str]:
    """The names of those that are lists."""
    return frozenset(parameter.name for parameter in parameters if parameter.schema["type"] == "array")
