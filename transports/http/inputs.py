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

JOB_ID = Parameter("job_id", "path", "The id of the job.", {"type": "string"})
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Makes the call repeatable: the same key and body return the same job.",
    {"type": "string", "minLength": 1, "maxLength": MAX_REQUEST_ID, "pattern": "^[ -~]*$"},
)
CANCEL_KEY = Parameter(
    IDEMPOTENCY_KEY.name,
    "header",
    "Makes the call repeatable: the same key is the same cancel, and gets the same answer after the job has ended.",
    IDEMPOTENCY_KEY.schema,
)
APPROVAL_KEY = Parameter(
    IDEMPOTENCY_KEY.name,
    "header",
    "Makes the call repeatable: the same key and decision get the same answer.",
    IDEMPOTENCY_KEY.schema,
)
SIGNAL_KEY = Parameter(
    IDEMPOTENCY_KEY.name,
    "header",
    "Makes the call repeatable: the same key is the same signal, and gets the same answer after the job has ended.",
    IDEMPOTENCY_KEY.schema,
)
TRACEPARENT = Parameter(
    "traceparent", "header", "The W3C trace of the job; an invalid value is ignored.", {"type": "string"}
)
PAGE_SIZE = Parameter(
    "page_size",
    "query",
    "The most items on the page. `limit` is another name for it.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
)
PAGE_TOKEN = Parameter(
    "page_token",
    "query",
    "The `next_page_token` of the page before, with the same parameters. Leave it out for the first page.",
    {"type": "string", "pattern": "^[0-9A-Za-z_-]*$", "maxLength": MAX_TOKEN},
)
FIELDS = Parameter(
    "fields",
    "query",
    "Return only these fields. By default: all but `initial_data` and `state_history`; in lists also without `result`.",
    {"type": "array", "items": {"type": "string", "enum": list(ALL_FIELDS)}, "minItems": 1},
)
_SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0}
WAIT = Parameter(
    "wait",
    "query",
    "Seconds to wait for the end of the job. The answer comes when the job ends, or shows its status after this "
    "time. It comes earlier if the node shuts down, or if the connection ends or carries another request.",
    _SECONDS,
)
WAIT_CREATED = Parameter(
    "wait",
    "query",
    "Seconds to wait for the end of the job: 200 with the job when it has ended, else 202 after this time. The "
    "answer comes earlier if the node shuts down, or if the connection ends or carries another request.",
    _SECONDS,
)
FIELDS_CREATED = replace(FIELDS, about="With `wait`: return only these fields of the job.")
STATUS = Parameter(
    "status",
    "query",
    "Only jobs in these statuses.",
    {"type": "array", "items": {"type": "string", "enum": JOB_STATUSES}, "minItems": 1},
)
BLUEPRINT = Parameter("blueprint", "query", "Only jobs of this blueprint.", {"type": "string"})
PARENT = Parameter("parent_job_id", "query", "Only the child jobs of this job.", {"type": "string"})

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
    "How many levels below the job to show; by default all.",
    {"type": "integer", "minimum": 0, "maximum": 999_999_999},
)
TREE_SIZE = Parameter(
    "page_size",
    "query",
    "The most nodes on the page.",
    {"type": "integer", "minimum": 1, "maximum": MAX_NODES, "default": MAX_NODES},
)
DIGESTS = Parameter(
    "digests",
    "query",
    "Also return the fingerprint of each job's history.",
    {"type": "boolean", "default": False},
)

# A part of a name is anything but `.` and `..`, of anything but slashes, backslashes and control characters.
_ANY, _BUT_DOT = r"[^/\\\x00-\x1f\x7f]", r"[^./\\\x00-\x1f\x7f]"
_PART = rf"({_BUT_DOT}{_ANY}*|\.{_BUT_DOT}{_ANY}*|\.\.{_ANY}+)"
_FILE_NAME: Schema = {"type": "string", "pattern": f"^{_PART}(/{_PART})*$"}
FILE_NAME = Parameter(
    "filename",
    "path",
    "The name of the file: the rest of the path. It may have parts (`pages/1.png`), but no part `..`.",
    _FILE_NAME,
)
NEW_FILE_NAME = Parameter(
    "filename", "query", "The name of the file, such as `pages/1.png`.", _FILE_NAME, required=True
)
EXPIRES_IN = Parameter(
    "expires_in",
    "query",
    "How many seconds the URL is valid.",
    {"type": "integer", "minimum": 1, "maximum": MAX_EXPIRES_S, "default": DEFAULT_EXPIRES_S},
)

BLUEPRINT_NAME = Parameter("name", "path", "The name of the blueprint.", {"type": "string"})
SKILL = Parameter("skill", "query", "Only workers with this skill; an empty value means no filter.", {"type": "string"})
CONNECTED = Parameter(
    "connected",
    "query",
    "Only workers with a live session (true), or without one (false); by default both. This node lists only workers "
    "with one.",
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
        "description": "the input of the job; default `{}`",
    },
    "dispatch_timeout": {
        **_TIMEOUT,
        "description": "seconds that each task may wait for a worker, unless the task has its own value",
    },
    "result_timeout": {
        **_TIMEOUT,
        "description": "seconds that each task may take in total, unless the task has its own value",
    },
    "webhook_url": {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": MAX_URL,
        "default": None,
        "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$",
        "description": "the URL that gets the job's events and its end, each by POST. It must be https, unless "
        "WEBHOOK_ALLOWED_HOSTS lists its host; default: none",
    },
    "allowed_skills": {
        "type": ["array", "null"],
        "items": {"type": "string", "minLength": 1, "maxLength": LONGEST_SKILL},
        "maxItems": MOST_SKILLS,
        "description": "the only skills that the job may use, here and in the holons below; default: all",
    },
    "budget": {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": MOST_COST,
        "description": "the most that the tasks may cost together, in millionths of the cost unit; default: no limit",
    },
    "priority": {
        "type": ["number", "null"],
        "minimum": -MOST_PRIORITY,
        "maximum": MOST_PRIORITY,
        "description": "the priority of tasks that have none of their own; higher goes first; default 0",
    },
    "max_transitions": {
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "the most transitions that the job may make; default and maximum: the limit of the node",
    },
}
CANCEL_FIELDS: Mapping[str, Schema] = {
    "reason": {"type": ["string", "null"], "maxLength": MAX_REASON, "description": "the reason, for the job's history"}
}
# What is brought to a job that waits for it.
_DATA: Schema = {
    "type": ["object", "null"],
    "additionalProperties": ANYTHING,
    "description": "data that is merged into the job's state; default: none",
}
SIGNAL_FIELDS: Mapping[str, Schema] = {
    "name": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_SIGNAL_NAME,
        "pattern": SIGNAL_NAME,
        "not": {"enum": sorted(CHOSEN_BY_NOBODY)},
        "description": "the name of the signal, without control characters",
    },
    "data": _DATA,
    "to_job_id": {
        "type": ["string", "null"],
        "description": "the job below that gets the signal, of the event `worker_event:signal_awaited`; default: this",
    },
}
APPROVAL_FIELDS: Mapping[str, Schema] = {
    "decision": {"type": "string", "minLength": 1, "description": "one of the `decisions` of the job's `approval`"},
    "data": _DATA,
    "comment": {
        "type": ["string", "null"],
        "maxLength": MAX_COMMENT,
        "description": "a comment, for the job's history",
    },
    "approval_id": {
        "type": ["string", "null"],
        "description": "the id of the approval, also of a job below; default: the open one",
    },
    "approval_token": {
        "type": ["string", "null"],
        "description": "the right to make this decision, for a person without the owner's token",
    },
}
# Where nobody is told of ends.
RELOAD_FIELDS: Mapping[str, Schema] = {
    "targets": {
        "type": "array",
        "items": {"type": "string", "enum": list(TARGETS)},
        "description": "the files to reload; by default all that the node has",
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
