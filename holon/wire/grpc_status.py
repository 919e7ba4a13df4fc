"""The wire: one table of errors to gRPC status codes, with their details, for the end of a call and in band."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from holon import errors
from holon.domain.texts import clipped
from holon.errors import HolonError, Violation
from holon.rxon.v1 import types_pb2
from holon.wire.values import duration, time_limit

log = logging.getLogger(__name__)

DOMAIN = "holon"
DETAILS_KEY = "grpc-status-details-bin"

# The nearest of an error's classes counts.
CODES: Mapping[type[HolonError], grpc.StatusCode] = {
    HolonError: grpc.StatusCode.INTERNAL,
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Unreachable: grpc.StatusCode.UNAVAILABLE,
}

# All of a status travels in trailers, which clients read up to 8 KiB of: here the message, once percent-encoded and
# once in the details, and the violations stay below that whatever their alphabet.
MAX_MESSAGE_BYTES = 1024
MAX_VIOLATION_BYTES = 2048


def code_of(error: HolonError) -> grpc.StatusCode:
    """The status code of an error's kind."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def told(error: Exception, where: str) -> HolonError:
    """What a caller is told of an exception: an expected error as it is, of any other only that there was one.

    Arguments:
        where: what failed, for the log, which gets what the caller does not.
    """
    if isinstance(error, HolonError) and code_of(error) is not grpc.StatusCode.INTERNAL:
        return error
    log.error("%s failed unexpectedly", where, exc_info=error)
    return HolonError("the node failed to answer; its log has the cause")


def status_of(error: HolonError) -> status_pb2.Status:
    """An error as google.rpc.Status: ErrorInfo, and BadRequest, QuotaFailure and RetryInfo where they apply."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=error.metadata)]
    if error.details:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=one.field, description=one.reason)
            for one in _as_many_as_fit(error.details)
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, errors.QuotaExceeded):
        failed = error_details_pb2.QuotaFailure.Violation(
            subject=clipped(f"client:{error.subject}", 512), description=clipped(error.message, MAX_MESSAGE_BYTES)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[failed]))
    if error.retry_after is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration(round(error.retry_after * 1000))))
    number: int = code_of(error).value[0]
    return status_pb2.Status(
        code=number, message=clipped(error.message, MAX_MESSAGE_BYTES), details=[_packed(one) for one in details]
    )


def error_of(error: HolonError) -> types_pb2.Error:
    """An error as it travels inside a stream, complete by itself."""
    message = types_pb2.Error(
        code=code_of(error).value[0],
        reason=error.code,
        message=clipped(error.message, MAX_MESSAGE_BYTES),
        field_violations=[
            types_pb2.FieldViolation(field=one.field, reason=one.reason) for one in _as_many_as_fit(error.details)
        ],
        metadata=error.metadata,
    )
    if error.retry_after is not None:
        message.retry_after.CopyFrom(time_limit(round(error.retry_after * 1000)))
    return message


def info_of(status: bytes) -> tuple[str, Mapping[str, str]]:
    """The reason and the metadata of a node's error, out of its status as it travels in trailers.

    Both are empty where the status cannot be read, or has none.
    """
    read, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
    try:
        read.ParseFromString(status)
        for detail in read.details:
            if detail.Unpack(info):
                return info.reason, dict(info.metadata)
    except DecodeError:
        pass
    return "", {}


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: HolonError) -> NoReturn:
    """End a call with the status of an error; only the call's own handler may.

    Raises:
        grpc.aio.AbortError: always; it must reach grpc.
    """
    trailers = ((DETAILS_KEY, status_of(error).SerializeToString()),)
    await context.abort(code_of(error), clipped(error.message, MAX_MESSAGE_BYTES), trailing_metadata=trailers)


def _as_many_as_fit(violations: tuple[Violation, ...]) -> Iterator[Violation]:
    left = MAX_VIOLATION_BYTES
    for one in violations:
        one = Violation(clipped(one.field, 512), clipped(one.reason, 1024))
        left -= len(one.field.encode()) + len(one.reason.encode()) + 16
        if left < 0:
            return
        yield one


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
