"""The HTTP door: the one table of errors to statuses, and the one shape of every refusal."""

from __future__ import annotations

import math

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
from transports.http.asgi import Reply

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
_RETRIED = frozenset({429, 503})


def refusal(error: HolonError) -> Reply | None:
    """Return the answer that tells a client of an error; None when it is none of the client's business."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), None)
    if status is None:
        return None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if status in _RETRIED:
        headers = ((b"retry-after", b"%d" % math.ceil(error.retry_after or 1)),)
    details = [{"field": violation.field, "reason": violation.reason} for violation in error.details]
    return Reply.of(status, {"error": error.message, "code": error.code, "details": details}, headers)


def unexpected() -> Reply:
    """Return the answer to a call that failed by a fault of ours."""
    message = "the node failed to answer; the cause is in its log"
    return Reply.of(500, {"error": message, "code": HolonError.code, "details": []})


def no_such_method(method: str, path: str, allowed: tuple[str, ...]) -> Reply:
    """Return the answer to a known path with a method that it does not take."""
    message = f"{path[:256]} does not take {method[:32]}; it takes {', '.join(allowed)}"
    headers = ((b"allow", ", ".join(allowed).encode()),)
    return Reply.of(405, {"error": message, "code": "METHOD_NOT_ALLOWED", "details": []}, headers)
