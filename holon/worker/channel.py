"""The worker SDK: one connection to a node, and what its failures mean."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc.aio

from holon.rxon.v1 import worker_pb2
from holon.wire.address import NodeUrl
from holon.wire.stream import MOST_MESSAGE_BYTES
from holon.worker.certificate import Certificate, read_key, read_pem
from holon.worker.hints import Hints
from holon.worker.settings import Credentials

if TYPE_CHECKING:
    # What is written is encoded already.
    Call = grpc.aio.StreamStreamCall[bytes, worker_pb2.SessionResponse]

Metadata: TypeAlias = tuple[tuple[str, str], ...]

SESSION = f"/{worker_pb2.DESCRIPTOR.services_by_name['WorkerService'].full_name}/Session"

_OPTIONS = (
    # A connection of its own: channels to one address would share one, and a fresh channel would not be fresh.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 25_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
)
# A machine's proxy has no business on its loopback.
_NO_PROXY = (("grpc.enable_http_proxy", 0),)

_REFUSED = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# Before the Welcome: of a holon that has no place where it comes, until somebody makes room for it.
_NO_PLACE = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED})
# Of all workers of an authority at once, until the operator has put its new list there: it is no worker's to mend.
_PASSING = "REVOCATION_UNKNOWN"
_DETAILS = "grpc-status-details-bin"
_NO_TOKENS = "this node issues no access tokens; unset WORKER_STS"


class Ended(Exception):
    """A stream ended, or did not come to be. Raised within the SDK alone.

    Attributes:
        refused: whether trying again soon is no use.
        replaced: whether a newer process has our id, so that trying again is wrong.
        too_large: whether the node ended it because of a message that it could not read.
        status: the node's own status, encoded; empty where it said none.
    """

    def __init__(
        self,
        message: str,
        *,
        refused: bool = False,
        replaced: bool = False,
        too_large: bool = False,
        status: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.refused = refused
        self.replaced = replaced
        self.too_large = too_large


def open_channel(url: NodeUrl, credentials: Credentials) -> tuple[grpc.aio.Channel, Certificate]:
    """Make a channel of its own to a node; the files are read now, so that renewed certificates are used.

    Blocks for the reads.

    Returns:
        the channel, and the certificate that it shows.
    Raises:
        OSError: a file cannot be read, or is empty, as while it is being written; or others can open the key.
    """
    options = _OPTIONS + (_NO_PROXY if url.is_loopback else ())
    if not url.secure:
        return grpc.aio.insecure_channel(url.target, options=options), Certificate(None)
    certificate = Certificate(credentials.certificate)
    ca, key = read_pem(credentials.ca), read_key(credentials.key, mounted=credentials.mounted)
    tls = grpc.ssl_channel_credentials(ca or None, key or None, certificate.pem or None)
    return grpc.aio.secure_channel(url.target, tls, options=options), certificate


def open_stream(channel: grpc.aio.Channel, metadata: Metadata) -> Call:
    """Begin a session's stream; the first write or read says whether it came to be.

    Arguments:
        metadata: what proves who we are, beside the connection.
    """
    session: grpc.aio.StreamStreamMultiCallable[bytes, worker_pb2.SessionResponse] = channel.stream_stream(
        SESSION, response_deserializer=worker_pb2.SessionResponse.FromString
    )
    return session(metadata=metadata, wait_for_ready=False)


async def write(call: Call, frame: bytes) -> None:
    """Write a frame to a stream that is connected.

    `call.write` does not do: where the write fails because the node has ended the stream, it puts INTERNAL in the place
    of the status that the node gave, and the reason of a refusal is lost (`set_internal_error` in grpc.aio's `_write`).

    Raises:
        grpc.aio.InternalError: the stream is over; its status says why.
    """
    below: Any = call
    await below._cython_call.send_serialized_message(frame)  # noqa: SLF001


async def end_of(call: Call, url: NodeUrl, hints: Hints, *, welcomed: bool) -> Ended:
    """What the end of a stream means. It must have ended, or be about to.

    A local cancel and a reset by the node look the same here, so who cancelled must know.

    Arguments:
        hints: say what to check.
        welcomed: whether the node had spoken, so that the connection itself is in order.
    """
    try:
        code, details = await call.code(), await call.details() or ""
        trailers = await call.trailing_metadata() or ()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        return Ended(f"{url}: the stream was reset")
    if code is grpc.StatusCode.OK:
        return Ended(f"{url}: the node ended the stream")
    message = f"{url}: {code.name}: {details}"
    # A node that ends a stream says more than a status.
    told = welcomed or any(key == _DETAILS for key, _ in trailers)
    reasons = details + " ".join(str(value) for _, value in trailers)
    if hint := hints.of(code, reasons, url, told=told):
        message = f"{message} ({hint})"
    return Ended(
        message,
        refused=_is_refused(code, reasons) or (not welcomed and code in _NO_PLACE),
        replaced=code is grpc.StatusCode.ABORTED and "REPLACED" in reasons,
        too_large=code is grpc.StatusCode.RESOURCE_EXHAUSTED
        and "larger than max" in details
        and not details.startswith("CLIENT"),
        status=b"".join(value for key, value in trailers if key == _DETAILS and isinstance(value, bytes)),
    )


def sent_away(url: NodeUrl, going: worker_pb2.GoAway) -> Ended:
    """What a GoAway means where it comes in the place of a Welcome."""
    if going.reason == "REPLACED":
        return replaced_by(url, going)
    return Ended(f"{url}: the node accepts no session now: {going.reason}: {going.message}")


def replaced_by(url: NodeUrl, going: worker_pb2.GoAway) -> Ended:
    """The end that GoAway(REPLACED) is."""
    return Ended(f"{url}: a newer process has this worker's id: {going.message or going.reason}", replaced=True)


def refusal_of(error: grpc.aio.AioRpcError, url: NodeUrl, hints: Hints) -> Ended:
    """What the failure of a call for a token means for the session that needs it."""
    code, details, trailers = error.code(), error.details() or "", error.trailing_metadata() or ()
    told = any(key == _DETAILS for key, _ in trailers)
    reasons = details + " ".join(str(value) for _, value in trailers)
    unserved = code is grpc.StatusCode.UNIMPLEMENTED
    hint = _NO_TOKENS if unserved else hints.of(code, reasons, url, told=told)
    message = f"{url}: no access token was issued: {code.name}: {details}"
    return Ended(f"{message} ({hint})" if hint else message, refused=_is_refused(code, reasons))


def _is_refused(code: grpc.StatusCode, reasons: str) -> bool:
    """Whether a status, with what was said with it, is of what does not pass soon."""
    return code in _REFUSED and _PASSING not in reasons
