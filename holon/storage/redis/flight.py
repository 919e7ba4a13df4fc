"""Calls that go to the server together, and come back together.

Those of one operation that many ask for at the same moment are one run of it: a run begins and ends with work of its
own, and that is most of what a small one costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from time import perf_counter
from typing import Any

from redis.exceptions import RedisError

from holon.storage.promises import Promise
from holon.storage.redis.packing import Packed, packed
from holon.storage.redis.scripts import functions, is_unknown
from holon.stores.redis_servers import Connection, Strictness, ask

# How many words come first: keys, time, node, token and settings; where nothing is written, keys alone.
_WRITING, _READING = 7, 3
# Operations that do what several callers ask for, and with how many words each begins; how many callers they are comes
# next.
JOINED = {"create_jobs": _WRITING, "put_document": _WRITING, "watch": _WRITING, "history": _READING, "job": _READING}
# Operations that may hand jobs over.
_HANDING_OVER = frozenset({"append", "claim", "commit", "complete", "create_jobs", "fire"})
_TOKEN = 5
# What words are of that may be long.
_LONG = frozenset({bytes, Packed})
# One run is given so much at most: the server does nothing else meanwhile.
_MOST_WORDS, _MOST_BYTES = 2_000, 1_000_000


class NotSafeYet(RedisError):
    """What was asked for in STORAGE_URI did not come to pass in time."""


class Call:
    """A command that waits for its turn.

    Arguments:
        command: its words; those after the name of its operation, if it has one.
        operation: the operation that it calls, if any.
        promise: its reply to come.
        deadline: how long it may wait, by the loop's clock.

    Attributes:
        size: how many bytes those of its words have that may be long.
    """

    __slots__ = ("command", "deadline", "handed_over", "operation", "promise", "size")

    def __init__(self, command: tuple[Any, ...], operation: str, promise: Promise[Any], deadline: float) -> None:
        self.command = command
        self.operation = operation
        self.promise = promise
        self.deadline = deadline
        self.handed_over = perf_counter()
        self.size = sum([len(word) for word in command if type(word) in _LONG])


def marks_of(calls: Iterable[Call], number: bytes) -> list[str]:
    """By what claims begin that these calls were given, sent on the connection of this number."""
    return [f"{call.command[_TOKEN]}.{number.decode()}" for call in calls if call.operation in _HANDING_OVER]


class _Run:
    """One command: for one call, or for several of the same operation about the same keys."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._words, self._bytes = _MOST_WORDS, _MOST_BYTES

    def takes(self, call: Call) -> bool:
        """Whether there is room for one more call, which is then one of its calls."""
        self._words -= len(call.command)
        self._bytes -= call.size
        if self.calls and (self._words < 0 or self._bytes < 0):
            return False
        self.calls.append(call)
        return True

    def words(self, number: bytes) -> tuple[Any, ...]:
        first = self.calls[0]
        if not first.operation:
            return first.command
        if len(self.calls) == 1:
            return (*functions().call(first.operation), *first.command, number)
        header = JOINED[first.operation]
        given = chain.from_iterable(call.command[header + 1 :] for call in self.calls)
        return (*functions().call(first.operation), *first.command[:header], len(self.calls), *given, number)

    def replies(self, reply: Any) -> Iterator[tuple[Call, Any]]:
        """What each of its calls is answered: its own part, and the first of them what is said to all."""
        header = JOINED.get(self.calls[0].operation)
        if header is None or isinstance(reply, Exception):
            yield from ((call, reply) for call in self.calls)
            return
        if header == _READING:
            yield from zip(self.calls, reply, strict=True)
            return
        time, hint, answers, *rest = reply
        for call, answer in zip(self.calls, answers, strict=True):
            yield call, [time, hint, answer, *rest]
            hint, rest = b"", []


def _runs(calls: Sequence[Call]) -> list[_Run]:
    """The calls as few commands, in their order; those that are joined go with the first of them."""
    runs: list[_Run] = []
    joining: dict[tuple[Any, ...], _Run] = {}
    for call in calls:
        about = (call.operation, call.command[1]) if call.operation in JOINED else None
        if about is None or about not in joining or not joining[about].takes(call):
            run = _Run()
            run.takes(call)
            runs.append(run)
            if about is not None:
                joining[about] = run
    return runs


async def there_and_back(
    connection: Connection, number: bytes, strictness: Strictness, calls: Sequence[Call]
) -> list[tuple[Call, Any]]:
    """The calls' replies; an error of one of them is its reply.

    Arguments:
        connection, number: the connection, and which of this node's it is.
        strictness: what must have become of the calls before they are answered.
        calls: in the order in which they are to be carried out.
    Raises:
        NotSafeYet: they were carried out, and are not safe; to be asked again.
        RedisError, OSError: the connection is lost.
    """
    runs = _runs(calls)
    replies = await ask(connection, *(packed(run.words(number)) for run in runs))
    unknown = [at for at, reply in enumerate(replies) if is_unknown(reply)]
    if unknown:
        # The server has lost the library. None of these calls were carried out.
        await functions().load(connection)
        again = (packed(runs[at].words(number)) for at in unknown)
        for at, reply in zip(unknown, await ask(connection, *again), strict=True):
            replies[at] = reply
    if (question := strictness.question()) is not None:
        [kept] = await ask(connection, question)
        if isinstance(kept, RedisError):
            raise kept
        if not strictness.met(kept):
            # Nobody may hear of them before they are safe.
            raise NotSafeYet(f"not as many replicas or disks have the calls as STORAGE_URI asks for: {kept}")
    return [pair for run, reply in zip(runs, replies, strict=True) for pair in run.replies(reply)]
