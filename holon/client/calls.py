"""The client: one call, from a request to its answer or to the error that it means."""

from __future__ import annotations

import asyncio
import reprlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from holon.client.failures import error_of
from holon.errors import FailedPrecondition, InvalidArgument, Unreachable, Violation
from holon.wire.trace import current_trace

A = TypeVar("A")
P = ParamSpec("P")

Metadata = tuple[tuple[str, str], ...]
CLOSED = "{}: the client was closed before the answer came"
# In seconds; a node takes less of either, and says how much.
_LONGEST_S = 10**12


class Calls:
    """Makes the unary calls of one client.

    Arguments:
        url: the address, for messages.
        metadata: what goes with every call, beside the trace that the caller is in.
        timeout: seconds that a call may take, its repeats included.

    Attributes:
        reached: whether the node has answered the client, by a call or by a stream.
        closed: whether the client is not entered: nothing begins, and what was under way then gets no answer.
    """

    def __init__(self, url: str, metadata: Metadata, timeout: float) -> None:
        self.url = url
        self.metadata = metadata
        self.reached = False
        self.closed = True
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"Calls({self.url})"

    async def call(self, method: Callable[..., Awaitable[A]], request: object) -> A:
        """Call a method.

        Raises:
            HolonError: what the node answered with, or Unreachable when no answer came.
            FailedPrecondition: the client is closed.
        """
        self.check_open()
        try:
            answer = await method(request, timeout=self._timeout, metadata=(*self.metadata, *current_trace()))
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self.url) from error
        except asyncio.CancelledError as error:
            raise self.meant_by(error) from error
        self.reached = True
        return answer

    def check_open(self) -> None:
        """Return where the client can be used.

        Raises:
            FailedPrecondition: it is closed.
        """
        if self.closed:
            raise FailedPrecondition(f"the client of {self.url} is not open; use it within `async with`")

    def meant_by(self, cancelled: asyncio.CancelledError) -> BaseException:
        """What a cancel of a call means: that is how gRPC ends those of a channel that is closed.

        A task that nobody has cancelled must not end as if somebody had: its group would take that for its wish.
        """
        task = asyncio.current_task()
        if not self.closed or task is None or task.cancelling():
            return cancelled
        return Unreachable(CLOSED.format(self.url))


def request_of(kind: Callable[P, A], *args: P.args, **fields: P.kwargs) -> A:
    """A message of these fields, as a caller gave them.

    Raises:
        InvalidArgument: one of them is of another type than its field, text that UTF-8 cannot write, or a number that
            is too large.
    """
    try:
        return kind(*args, **fields)
    except (TypeError, ValueError) as error:
        name, value = next((name, value) for name, value in fields.items() if not _takes(kind, name, value))
        if isinstance(error, TypeError):
            raise InvalidArgument(
                f"{name} is {reprlib.repr(value)}, and a value of this type cannot be sent"
            ) from error
        raise InvalidArgument(f"{name} is {reprlib.repr(value)}, which cannot be sent: {error}") from error


def names_of(field: str, given: Sequence[str]) -> Sequence[str]:
    """The texts of a list.

    Raises:
        InvalidArgument: it is one text, which is a sequence of texts too: of its letters.
    """
    if isinstance(given, str):
        raise InvalidArgument(f"{field} is {given!r}; give a list of names")
    return given


def repeatable(request_id: str | None) -> str:
    """The request id of a call: the caller's, or a new one for None.

    Raises:
        InvalidArgument: it is empty: who gives that means to have one, and the call could not be repeated.
    """
    if request_id == "":
        raise InvalidArgument(
            "request_id is empty; give it a value, or leave it out", details=[Violation("request_id", "is empty")]
        )
    return uuid.uuid4().hex if request_id is None else request_id


def _takes(kind: Callable[..., object], name: str, value: object) -> bool:
    try:
        kind(**{name: value})
    except (TypeError, ValueError):
        return False
    return True


def timestamp_of(name: str, seconds: float | None) -> Timestamp | None:
    """Epoch seconds as a Timestamp, to the microsecond.

    Raises:
        InvalidArgument: they are none that a Timestamp can be.
    """
    if seconds is None:
        return None
    micros = _whole(name, seconds, 1e6)
    return Timestamp(seconds=micros // 10**6, nanos=micros % 10**6 * 1000)


def duration_of(name: str, seconds: float | None) -> Duration | None:
    """Seconds as a Duration.

    Raises:
        InvalidArgument: they are none that a Duration can be.
    """
    if seconds is None:
        return None
    nanos = _whole(name, seconds, 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def _whole(name: str, seconds: object, parts: float) -> int:
    if not isinstance(seconds, int | float) or not -_LONGEST_S <= seconds <= _LONGEST_S:
        raise InvalidArgument(f"{name} is {seconds!r}, which is not a number of seconds that can be sent")
    return round(seconds * parts)
