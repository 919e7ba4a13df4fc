"""The HTTP door: the one table of errors to statuses, the one shape of every refusal, and the codes in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from holon.errors import (
    AlreadyExists,
    FailedPrecondition,
    HolonError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from holon.transports.http.asgi import Reply

# Read from the top: the first kind that fits. What is not here is a fault of ours, and nothing of it is told.
STATUSES: tuple[tuple[type[HolonError], int], ...] = (
    (TooLarge, 413),
    (InvalidArgument, 400),
    (Unauthenticated, 401),
    (PermissionDenied, 403),
    (NotFound, 404),
    (AlreadyExists, 409),
    (FailedPrecondition, 409),
    (ResourceExhausted, 429),
    (Unavailable, 503),
    (Unimplemented, 501),
)
RETRIED = frozenset({429, 503})

# What the routes answer with: the kind of error, or the status where only HTTP knows it, and what is the matter.
CODES: Mapping[str, tuple[type[HolonError] | int, str]] = {
    "MALFORMED_REQUEST": (400, "the request is not valid HTTP/1.1, or its method is unknown; the connection is closed"),
    "INVALID_ARGUMENT": (
        InvalidArgument,
        "a field, parameter or header is unknown or has an invalid value",
    ),
    "INVALID_JSON": (InvalidArgument, "the body is not a valid JSON object"),
    "INPUT_INVALID": (InvalidArgument, "`initial_data` violates the blueprint's contract"),
    "FILE_NAME_INVALID": (
        InvalidArgument,
        "`filename` is not a valid name of a file, or points outside the job's files",
    ),
    "TOKEN_INVALID": (Unauthenticated, "no token, a wrong one, or several in one call; or the node has no clients"),
    "PERMISSION_DENIED": (PermissionDenied, "the call needs a role that the client does not have"),
    "JOB_NOT_FOUND": (NotFound, "there is no such job, or it belongs to another client"),
    "FILE_NOT_FOUND": (NotFound, "the job has no such file"),
    "BLUEPRINT_NOT_FOUND": (NotFound, "the node has no such blueprint"),
    "ROUTE_NOT_FOUND": (NotFound, "no route has this path"),
    "METHOD_NOT_ALLOWED": (405, "the path does not take this method; `allow` lists the methods that it takes"),
    "REQUEST_TIMEOUT": (408, "the request arrived too slowly; the connection is closed"),
    "REQUEST_ID_REUSED": (AlreadyExists, "the `Idempotency-Key` was used for another job, decision or signal"),
    "JOB_TERMINATED": (FailedPrecondition, "the job has ended"),
    "FILES_GONE": (FailedPrecondition, "the job has ended, and its files were deleted"),
    "APPROVAL_NOT_OPEN": (
        FailedPrecondition,
        "the job has no open approval, or not this one, or it is already decided",
    ),
    "SIGNAL_NOT_AWAITED": (FailedPrecondition, "no job below with this id has reported that it waits for a signal"),
    "CONFIG_INVALID": (FailedPrecondition, "a file to reload is invalid; nothing has changed"),
    "NOT_CONFIGURED": (FailedPrecondition, "the node has no file for a reload target"),
    "PAYLOAD_TOO_LARGE": (TooLarge, "the body is over its limit (HTTP_BODY_MAX_BYTES)"),
    "LIMIT_EXCEEDED": (
        TooLarge,
        "`initial_data` or `data` is over its limit (INLINE_PAYLOAD_MAX_BYTES or STATE_MAX_BYTES; for a signal 64 KiB)",
    ),
    "FILE_TOO_LARGE": (TooLarge, "the file is over 5 GiB"),
    "REQUESTS_FULL": (
        ResourceExhausted,
        "too many requests of this client arrived at the same time, and this one was slow",
    ),
    "WATCHES_FULL": (ResourceExhausted, "too many calls wait for jobs on this node or for this client"),
    "UPLOADS_FULL": (ResourceExhausted, "too many uploads are in progress on this node or for this client"),
    "SIGNALS_FULL": (ResourceExhausted, "the job keeps as many unused signals as it can"),
    "INBOX_FULL": (ResourceExhausted, "too many events wait to be processed by the job"),
    "HISTORY_BACKLOG": (ResourceExhausted, "too much history waits for the history database"),
    "QUOTA_EXCEEDED": (ResourceExhausted, "the client's jobs for this month are used up"),
    "RATE_LIMITED": (ResourceExhausted, "the client made too many calls in this period"),
    "HEAD_TOO_LARGE": (431, "the path and headers are over 64 KiB, or over 100 headers; the connection is closed"),
    "INTERNAL": (500, "a fault of the node; its log has the cause"),
    "UNIMPLEMENTED": (Unimplemented, "the call is for a job in a holon below, which accepts none from above"),
    "FILES_OFF": (Unimplemented, "the node stores no files of jobs (S3_ENDPOINT_URL)"),
    "FILES_UNAVAILABLE": (Unavailable, "the S3 of the node is not available; the node's log has the cause"),
    "STORE_UNAVAILABLE": (Unavailable, "the store is not available; repeat the call"),
    "HISTORY_UNAVAILABLE": (Unavailable, "the history database, which has this job, is not available"),
    "SEAL_BROKEN": (Unavailable, "stored data was changed or moved, and cannot be decrypted"),
    "ENCRYPTION_KEY_UNKNOWN": (Unavailable, "stored data is encrypted with a key that the node does not have"),
    "APPROVAL_PENDING": (Unavailable, "the job is processing a decision, this one or another"),
    "HOLON_AWAY": (Unavailable, "the call is for a job in a holon below, which is not connected or did not answer"),
    "DRAINING": (Unavailable, "the node is shutting down and takes no new jobs"),
    "CONNECTIONS_FULL": (Unavailable, "the node has its maximum of HTTP connections, in total or from this address"),
}
ERROR: dict[str, Any] = {
    "type": "object",
    "description": "Every error has this shape",
    "properties": {
        "error": {"type": "string", "description": "a sentence for people; its wording may change"},
        "code": {"type": "string", "description": "a stable name for programs"},
        "details": {
            "type": "array",
            "description": "the fields that are wrong",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
                "required": ["field", "reason"],
            },
        },
    },
    "required": ["error", "code", "details"],
}


def status_of(code: str) -> int:
    """The status of a code of the table."""
    what = CODES[code][0]
    return what if isinstance(what, int) else dict(STATUSES)[what]


def refusal(error: HolonError) -> Reply | None:
    """Return the answer that tells a client of an error; None when it is none of the client's business."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), None)
    if status is None:
        return None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if status in RETRIED:
        headers = ((b"retry-after", b"%d" % math.ceil(error.again_after)),)
    details = [{"field": violation.field, "reason": violation.reason} for violation in error.details]
    return Reply.of(status, {"error": error.message, "code": error.code, "details": details}, headers)


def unexpected() -> Reply:
    """Return the answer to a call that failed by a fault of ours."""
    return _of_http("INTERNAL", "the node failed to answer; its log has the cause")


def no_such_method(method: str, path: str, allowed: tuple[str, ...], hint: str = "") -> Reply:
    """Return the answer to a known path with a method that it does not take; `hint` says what may be the matter."""
    message = "; ".join(filter(None, (f"{path[:256]} does not take {method[:32]}", f"use {', '.join(allowed)}", hint)))
    return _of_http("METHOD_NOT_ALLOWED", message, ((b"allow", ", ".join(allowed).encode()),))


def malformed(message: str = "the request is not valid HTTP/1.1; the connection is closed") -> Reply:
    """Return the answer to bytes that are no request."""
    return _of_http("MALFORMED_REQUEST", message)


def head_too_large(what: str) -> Reply:
    """Return the answer to a request whose path and headers are over a limit, such as `has over 100 headers`."""
    return _of_http("HEAD_TOO_LARGE", f"the head of the request {what}; send less")


def too_slow(what: str) -> Reply:
    """Return the answer to a request that did not come in within the time; `what` says what of it."""
    return _of_http("REQUEST_TIMEOUT", f"the request arrived too slowly: {what}; send it again")


def full(most: int) -> Reply:
    """Return the answer to a connection that is one too many."""
    message = (
        f"the node has its maximum of {most} HTTP connections, or this address has its share of them; close some, or "
        "retry later"
    )
    return _of_http("CONNECTIONS_FULL", message, ((b"retry-after", b"1"),))


def _of_http(code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    return Reply.of(status_of(code), {"error": message, "code": code, "details": []}, headers)
