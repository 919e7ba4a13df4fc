"""The HTTP door: the table of what can be called: how each call is served, and all that a client must know of it.

The application finds its routes here, and the OpenAPI document is written from here: what is served is what is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

from holon.domain import paths
from holon.domain.blueprint import Blueprint
from holon.domain.client import ADMIN
from holon.security.sts.access_tokens import ALGORITHM
from holon.transports.http.admin import AdminRoutes
from holon.transports.http.answer_shapes import constant, object_of
from holon.transports.http.approvals import ApprovalRoutes
from holon.transports.http.asgi import Reply
from holon.transports.http.inputs import (
    APPROVAL_FIELDS,
    APPROVAL_KEY,
    CANCEL_FIELDS,
    CANCEL_KEY,
    IDEMPOTENCY_KEY,
    JOB_ID,
    OF_CREATE,
    OF_GET,
    OF_LIST,
    OF_PAGES,
    OF_TREE,
    RELOAD_FIELDS,
    SIGNAL_FIELDS,
    SIGNAL_KEY,
    TRACEPARENT,
    Parameter,
)
from holon.transports.http.keys import KeyRoutes
from holon.transports.http.request import Request
from holon.transports.http.routes import JobRoutes
from holon.transports.http.shapes import Schema
from holon.transports.http.tree import TreeRoutes

Serve: TypeAlias = Callable[[Request], Awaitable[Reply]]

PUBLIC = "/_public"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call answers when all is well: an object with a schema of its own, or one of `SHAPES` by its name.

    `headers` are what it always has beside the usual ones, and what they say.
    """

    status: int
    about: str
    schema: Schema | str
    media_types: tuple[str, ...] = ("application/json",)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        name: unique, for programs that are generated from the document.
        path: as OpenAPI writes it; it has two variables at most, the second for all that is left of the path.
        refusals: the codes of what can be the matter, beside those that every call has.
        public: needs no token.
        otherwise: what may stand in the place of a client's token, as its body proves it; empty: nothing.
        role: what a client must have, to call it; empty: nothing.
        tag: what it is listed under.
        creates: what a draining node refuses.
        blueprint: the one that it creates jobs of.
        takes_body: whether its body is read.
        takes_file: whether that is a file, and no JSON.
        fields: what its body may hold.
        required: which of these it must hold.
    """

    name: str
    method: Literal["GET", "POST", "PUT"]
    path: str
    serve: Serve
    summary: str
    about: str
    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[str, ...] = ()
    public: bool = False
    otherwise: str = ""
    role: str = ""
    tag: str = "jobs"
    creates: bool = False
    blueprint: Blueprint | None = None
    takes_body: bool = False
    takes_file: bool = False
    fields: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()


_OF_BODY = ("INVALID_JSON", "PAYLOAD_TOO_LARGE", "REQUEST_TIMEOUT", "REQUESTS_FULL")
# Of one job that does not open; lists leave it out.
_OF_SEALS = ("SEAL_BROKEN", "ENCRYPTION_KEY_UNKNOWN")
OF_ONE_JOB = (*_OF_SEALS, "STORE_UNAVAILABLE", "HISTORY_UNAVAILABLE")


def of_jobs(routes: JobRoutes, trees: TreeRoutes) -> list[Operation]:
    """The calls that look at jobs, tell them something, and end them."""
    return [
        Operation(
            "list_jobs",
            "GET",
            paths.JOBS,
            routes.list,
            "List jobs",
            "The newest job first. `result` is only returned if `fields` names it. Pages stay correct while jobs "
            "are created.",
            (Answer(200, "A page of jobs", "JobPage"),),
            OF_LIST,
            ("STORE_UNAVAILABLE", "HISTORY_UNAVAILABLE"),
        ),
        Operation(
            "get_job",
            "GET",
            paths.JOB,
            routes.get,
            "Show a job",
            "The status of the job, and its result or error after its end. With `wait`, the answer comes when the "
            "job ends.",
            (Answer(200, "The job", "Job"),),
            (JOB_ID, *OF_GET),
            ("JOB_NOT_FOUND", "ROUTE_NOT_FOUND", "WATCHES_FULL", *OF_ONE_JOB),
        ),
        Operation(
            "get_job_history",
            "GET",
            paths.JOB_HISTORY,
            routes.history,
            "Show the history of a job",
            "The oldest event first.",
            (Answer(200, "A page of events", "EventPage"),),
            (JOB_ID, *OF_PAGES),
            ("JOB_NOT_FOUND", "ROUTE_NOT_FOUND", *OF_ONE_JOB),
        ),
        Operation(
            "get_job_tree",
            "GET",
            paths.JOB_TREE,
            trees.get,
            "Show the tree of a job: its tasks, and the jobs below it",
            "The tree across holons. Holons that are linked are queried, for up to two seconds. Others are shown as "
            "last reported, with `offline` and `as_of`. Each node comes after the node above it, which may be on an "
            "earlier page.",
            (Answer(200, "A page of the tree", "NodePage"),),
            (JOB_ID, *OF_TREE),
            ("JOB_NOT_FOUND", "ROUTE_NOT_FOUND", *OF_ONE_JOB),
        ),
        Operation(
            "cancel_job",
            "POST",
            paths.JOB_CANCEL,
            routes.cancel,
            "Cancel a job",
            "The job may clean up first; a second cancel ends the clean-up. The body may be empty.",
            (Answer(200, "The cancel was accepted", "CancelAccepted"),),
            (JOB_ID, CANCEL_KEY),
            (*_OF_BODY, "JOB_NOT_FOUND", "ROUTE_NOT_FOUND", "JOB_TERMINATED", "INBOX_FULL", *OF_ONE_JOB),
            takes_body=True,
            fields=CANCEL_FIELDS,
        ),
        Operation(
            "send_signal",
            "POST",
            paths.JOB_SIGNALS,
            routes.signal,
            "Send a signal to a job",
            "If the job waits for a signal of this name, it continues. Otherwise it keeps the signal until it waits "
            "for one.",
            (Answer(200, "The signal is stored", "SignalReceived"),),
            (JOB_ID, SIGNAL_KEY),
            (
                *_OF_BODY,
                "LIMIT_EXCEEDED",
                "JOB_NOT_FOUND",
                "ROUTE_NOT_FOUND",
                "JOB_TERMINATED",
                "SIGNAL_NOT_AWAITED",
                "REQUEST_ID_REUSED",
                "SIGNALS_FULL",
                "INBOX_FULL",
                "HOLON_AWAY",
                "UNIMPLEMENTED",
                *OF_ONE_JOB,
            ),
            takes_body=True,
            fields=SIGNAL_FIELDS,
            required=("name",),
        ),
    ]


def of_approvals(routes: ApprovalRoutes) -> Operation:
    """The call that brings people's decisions."""
    return Operation(
        "resolve_approval",
        "POST",
        paths.JOB_APPROVAL,
        routes.resolve,
        "Decide an approval",
        "Each approval is decided once. The call needs the token of the job's owner, or the `approval_token` that "
        "the owner gets.",
        (Answer(200, "The decision is stored", "ApprovalReceived"),),
        (JOB_ID, APPROVAL_KEY),
        (
            *_OF_BODY,
            "LIMIT_EXCEEDED",
            "JOB_NOT_FOUND",
            "APPROVAL_NOT_OPEN",
            "REQUEST_ID_REUSED",
            "INBOX_FULL",
            "APPROVAL_PENDING",
            "HOLON_AWAY",
            "UNIMPLEMENTED",
            *OF_ONE_JOB,
        ),
        otherwise="approval_token",
        takes_body=True,
        fields=APPROVAL_FIELDS,
        required=("decision",),
    )


def of_admins(routes: AdminRoutes) -> list[Operation]:
    """The calls that change something of the node itself."""
    refusals = (*_OF_BODY, "PERMISSION_DENIED", "CONFIG_INVALID", "NOT_CONFIGURED", "STORE_UNAVAILABLE")
    return [
        Operation(
            "reload_node",
            "POST",
            paths.RELOAD,
            routes.reload,
            "Reload configuration files",
            "Reloads all files of this node, or those in `targets`. If one is invalid, nothing changes.",
            (Answer(200, "The files are in force", "NodeReloaded"),),
            (),
            refusals,
            role=ADMIN,
            tag="admin",
            takes_body=True,
            fields=RELOAD_FIELDS,
        ),
        Operation(
            "reload_workers",
            "POST",
            paths.RELOAD_WORKERS,
            routes.reload_workers,
            "Reload the file of workers",
            "The same as `reload` with the target `workers`. The body is empty, or `{}`.",
            (Answer(200, "The file is in force", "WorkersReloaded"),),
            (),
            refusals,
            role=ADMIN,
            tag="admin",
            takes_body=True,
        ),
    ]


def creation(routes: JobRoutes, blueprint: Blueprint) -> Operation:
    """The call that creates jobs of a blueprint, which has a path."""
    return Operation(
        f"create_{blueprint.name}",
        "POST",
        blueprint.path or "",
        partial(routes.create, blueprint.name),
        f"Create a job of {blueprint.name}",
        "The answer comes when the job is stored; with `wait`, when it has ended.",
        (Answer(202, "The job is created", "Accepted"), Answer(200, "The job has ended within `wait`", "Job")),
        (*OF_CREATE, IDEMPOTENCY_KEY, TRACEPARENT),
        (
            *_OF_BODY,
            "INPUT_INVALID",
            "LIMIT_EXCEEDED",
            "REQUEST_ID_REUSED",
            "QUOTA_EXCEEDED",
            "HISTORY_BACKLOG",
            *_OF_SEALS,
            "STORE_UNAVAILABLE",
            "DRAINING",
        ),
        tag="create",
        creates=True,
        blueprint=blueprint,
        takes_body=True,
        fields=routes.create_fields,
    )


def status(serve: Serve) -> Operation:
    """The call by which load balancers ask."""
    up, draining = (object_of(status=constant(word)) for word in ("ok", "draining"))
    return Operation(
        "get_status",
        "GET",
        f"{PUBLIC}/status",
        serve,
        "Say whether the node accepts jobs",
        "For load balancers.",
        (Answer(200, "The node accepts jobs", up), Answer(503, "The node is shutting down", draining)),
        public=True,
    )


def metrics(serve: Serve) -> Operation:
    """The call by which Prometheus asks."""
    return Operation(
        "get_metrics",
        "GET",
        f"{PUBLIC}/metrics",
        serve,
        "Show the node's metrics",
        "For Prometheus.",
        (Answer(200, "Metrics in the text format of Prometheus", {"type": "string"}, ("text/plain",)),),
        public=True,
    )


def keys(routes: KeyRoutes) -> Operation:
    """The call by which others learn to check workers' access tokens."""
    members = {name: constant(word) for name, word in (("kty", "OKP"), ("crv", "Ed25519"), ("use", "sig"))}
    key = object_of(**members, alg=constant(ALGORITHM), kid={"type": "string"}, x={"type": "string"})
    return Operation(
        "get_jwks",
        "GET",
        f"{PUBLIC}/jwks.json",
        routes.show,
        "Show the public keys of workers' access tokens",
        "A JWK set, for programs that verify these tokens. Keep it as long as `Cache-Control` says. A token names "
        "its key by `kid`; if the set does not have it, get the set again.",
        (Answer(200, "The keys", object_of(keys={"type": "array", "items": key})),),
        refusals=("STORE_UNAVAILABLE",),
        public=True,
    )


def document(name: str, path: str, serve: Serve, summary: str, *media_types: str) -> Operation:
    """A call that answers with what is the same for as long as the node runs."""
    schema: dict[str, Any] = (
        {"type": "object", "additionalProperties": {}} if media_types == ("application/json",) else {"type": "string"}
    )
    return Operation(name, "GET", path, serve, summary, "", (Answer(200, "It", schema, media_types),), public=True)
