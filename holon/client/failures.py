"""The client: failed calls, turned back into the errors that the node raised."""

from __future__ import annotations

import grpc
import grpc.aio

from holon.client.channel import DEFAULT_PORT
from holon.errors import HolonError, Unavailable, Unreachable, Violation
from holon.rxon.v1 import types_pb2
from holon.wire.address import parse_url

_DETAILS_KEY = "grpc-status-details-bin"
_HINTS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "the node may be busy; try again, or allow more time",
    grpc.StatusCode.CANCELLED: "the call was reset before its answer, for example because the node ended; try again",
    grpc.StatusCode.UNIMPLEMENTED: "check that this is the client port of a node, and check the node's version",
}
_PORT = f"clients use CLIENT_GRPC_PORT, by default {DEFAULT_PORT}"
# What gRPC's words for a failed connection have in them, and what that means; the first that is there counts.
_UNREACHABLE = {
    "Connection refused": "nothing listens there; check that the node runs, and check the port",
    "http1.x server": f"an HTTP server listens there, for example that of API_PORT; {_PORT}",
    "WRONG_VERSION_NUMBER": f"the server there does not speak TLS; {_PORT}. Without TLS the address begins with grpc://",
    "CERTIFICATE_VERIFY_FAILED": "the node's certificate is not trusted; check the CA (HOLON_CA)",
    "Hostname Verification Check failed": "the node's certificate has other host names; check the address",
}
# What a connection looks like that is closed in the handshake, or right behind it, by whether it was to have TLS.
_CLOSED = {
    True: f"the worker port (GRPC_PORT) closes connections without a client certificate; {_PORT}",
    False: "check that a node without TLS listens there; with TLS the address begins with grpcs://",
}
# Of a name with several addresses gRPC tells of one: nobody listens there, and at another the node may not be trusted.
_PERHAPS_ANOTHER = (
    "if the node runs, the TLS handshake at another address of this host may have failed: check the CA (HOLON_CA), "
    "and that the port is CLIENT_GRPC_PORT"
)
_OPERATORS = (
    "the operator's socket can look, cancel, decide, send signals and drain, but not create jobs; for other calls, "
    "check the version of the node"
)
# Without a status of the node's own. A cancel of the caller's own is none of these: it is no failure of the call.
_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def error_of(error: grpc.aio.AioRpcError, url: str) -> HolonError:
    """Return what a failed call means: the node's own error with its code and details, or why there was no node.

    Arguments:
        url: the address called, for the message.
    """
    status = _status_of(error)
    if status is not None:
        return _told(error, status)
    code, details = error.code(), error.details() or "no reason given"
    message = f"{url}: {details}"
    operators = url.startswith("unix:") and code is grpc.StatusCode.UNIMPLEMENTED
    if hint := _OPERATORS if operators else _hint(code, details, url):
        message = f"{message}; {hint}"
    if url.startswith("grpcs://") and "Connection refused" in details and not parse_url(url, DEFAULT_PORT).is_address:
        message = f"{message}; {_PERHAPS_ANOTHER}"
    if code in _NO_ANSWER:
        return Unreachable(message)
    return _kind(code)(message, code=code.name)


def _hint(code: grpc.StatusCode, details: str, url: str) -> str | None:
    """What to check after a failure that the node has said nothing of."""
    if code is not grpc.StatusCode.UNAVAILABLE:
        return _HINTS.get(code)
    known = (hint for words, hint in _UNREACHABLE.items() if words in details)
    if hint := next(known, None):
        return hint
    if "Socket closed" in details and not url.startswith("unix:"):
        return _CLOSED[url.startswith("grpcs://")]
    return "check the address, and that the node runs"


def is_of_node(error: grpc.aio.AioRpcError) -> bool:
    """Whether the node itself ended the call, and not what lies between."""
    return _status_of(error) is not None


def error_in_band(error: types_pb2.Error) -> HolonError:
    """What an error that is part of an answer means."""
    code = next((one for one in grpc.StatusCode if one.value[0] == error.code), grpc.StatusCode.UNKNOWN)
    retry = error.retry_after
    return _kind(code)(
        error.message,
        code=error.reason or code.name,
        details=[Violation(one.field, one.reason) for one in error.field_violations],
        retry_after=retry.seconds + retry.nanos / 1e9 if error.HasField("retry_after") else None,
    )


def _status_of(error: grpc.aio.AioRpcError) -> bytes | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return value
    return None


def _told(error: grpc.aio.AioRpcError, status: bytes) -> HolonError:
    # Imported when something failed: a client whose calls succeed does not wait for it.
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry, retry_after = error_details_pb2.RetryInfo(), None
    try:
        for detail in status_pb2.Status.FromString(status).details:
            detail.Unpack(info)
            detail.Unpack(bad)
            if detail.Unpack(retry):
                retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    except DecodeError:
        pass
    return _kind(error.code())(
        error.details() or "",
        code=info.reason or error.code().name,
        details=[Violation(one.field, one.description) for one in bad.field_violations],
        retry_after=retry_after,
    )


def _kind(code: grpc.StatusCode) -> type[HolonError]:
    from holon.wire.grpc_status import CODES

    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable
    return next((kind for kind, own in CODES.items() if own is code), HolonError)
