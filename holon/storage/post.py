"""The post: calls from node to node, carried as mail through the store.

Mail may be lost, and a node may end before it answers. So a call without an answer in time raises StoreUnavailable, and
every call may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import IntEnum
from itertools import count
from typing import Any

from holon import errors
from holon.clock import Clock
from holon.core.messages import MalformedMessage, pack, unpack
from holon.domain.value import Value, replace
from holon.errors import HolonError, SealBroken, StoreBroken, StoreUnavailable
from holon.randomness import random_id
from holon.storage.waiting import RETRY_AFTER_S
from holon.stores.port import RowStore
from holon.stores.sealing import Seal
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# A call is answered in this time (seconds), or it counts as lost.
PATIENCE_S = 5.0
# Mail is looked for again after this time (seconds), if the store could not be asked.
PAUSE_S = 0.5
# At most this many calls of other nodes run at once; more are refused.
MOST_SERVED = 10_000
# Nodes that follow the store's clock differ by less than this (milliseconds).
SKEW_MS = 2_000
# The name of tasks that send.
SENDING = "store-send"


class _Kind(IntEnum):
    CALL = 1
    REPLY = 2
    FAILURE = 3
    # A call without a reply.
    WORD = 4


class _Letter(Value):
    """One message.

    Attributes:
        node, process: who sent it; of a reply, `process` is whose call it answers.
        number: of the call, at the process that made it.
        name: what is called.
        time: the sender's time, epoch milliseconds.
        body: arguments, or the reply.
    """

    kind: int
    node: str
    process: str
    number: int
    name: str
    body: bytes
    time: int = 0


class _Failure(Value):
    """An error, as it is sent back."""

    error: str
    message: str
    code: str
    retry_after: float | None
    details: tuple[tuple[str, str], ...] = ()
    metadata: dict[str, str] = {}  # noqa: RUF012  a value's default, never changed


class Post:
    """Calls other nodes, and serves their calls.

    Arguments:
        store: carries the mail.
        node: the name of this node.
        seal: seals what is in a letter.
        clock: the store's time as this node knows it. It is never behind a letter that came, by up to `SKEW_MS`.
        serve: carries out a call of another node: its name, its arguments and the caller's node; gives the reply.
        hear: hears of a word of another node: its name, its content and the sender. It must not raise.
    """

    def __init__(
        self,
        store: RowStore,
        node: str,
        seal: Seal,
        clock: Clock,
        serve: Callable[[str, bytes, str], Awaitable[bytes]],
        hear: Callable[[str, bytes, str], object],
    ) -> None:
        self._store = store
        self._node = node
        self._seal = seal
        self._clock = clock
        self._serve = serve
        self._hear = hear
        self._process = random_id()
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._out: defaultdict[str, list[bytes]] = defaultdict(list)
        self._sending: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._served = 0
        self._away = Seldom(log)

    def __repr__(self) -> str:
        return f"Post({self._node}, asked={len(self._asked)}, served={self._served})"

    async def run(self) -> None:
        """Read the mail of this node, until cancelled."""
        while True:
            try:
                mail = await self._store.receive(self._node)
            except StoreBroken:
                raise
            except StoreUnavailable as error:
                self._away.warn("mail of other nodes cannot be read", why=error.message)
                await asyncio.sleep(PAUSE_S)
                continue
            for sealed in mail:
                self._read(sealed)

    async def close(self) -> None:
        """End all calls that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Calls -----------------------------------------------------------------------------------------------------

    async def ask(self, node: str, name: str, body: bytes, patience: float = PATIENCE_S) -> bytes:
        """Call another node.

        Arguments:
            patience: how long its reply is waited for (seconds).
        Raises:
            StoreUnavailable: there was no reply in time; the call may have been carried out.
            HolonError: what the other node raised.
        """
        number = next(self._numbers)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = reply
        try:
            self._send(node, _Letter(_Kind.CALL, self._node, self._process, number, name, body))
            async with asyncio.timeout(patience):
                return await reply
        except TimeoutError:
            raise StoreUnavailable(
                f"node {node!r}, which has this part of the store, does not answer: the call may have been carried "
                "out; repeat it",
                retry_after=RETRY_AFTER_S,
            ) from None
        finally:
            del self._asked[number]

    def tell(self, node: str, name: str, body: bytes) -> None:
        """Send a word to another node; it may be lost."""
        self._send(node, _Letter(_Kind.WORD, self._node, self._process, 0, name, body))

    async def sent(self) -> None:
        """Wait until what was to be sent so far is sent, or lost."""
        while self._sending:
            await asyncio.gather(*[task for task in self._tasks if task.get_name() == SENDING])

    def _send(self, node: str, letter: _Letter) -> None:
        letter = replace(letter, time=self._clock.now_ms())
        self._out[node].append(self._seal.seal("mail", node, "", pack(letter)))
        if node not in self._sending:
            self._sending.add(node)
            self._start(self._send_all(node), SENDING)

    async def _send_all(self, node: str) -> None:
        """Send what waits for a node, all that came meanwhile together."""
        try:
            while bodies := self._out.pop(node, None):
                try:
                    await self._store.send(node, bodies)
                except StoreUnavailable as error:
                    # Who waits for an answer asks again.
                    self._away.warn("mail to other nodes cannot be sent", why=error.message)
        finally:
            self._sending.discard(node)

    def _start(self, work: Coroutine[Any, Any, None], name: str = "store-post") -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Mail ------------------------------------------------------------------------------------------------------

    def _read(self, sealed: bytes) -> None:
        try:
            letter = unpack(_Letter, self._seal.open("mail", self._node, "", sealed))
        except (MalformedMessage, SealBroken) as error:
            self._away.warn("a message of another node cannot be read", why=str(error))
            return
        # What this node writes because of it is not older than it.
        if letter.time - self._clock.now_ms() <= SKEW_MS:
            self._clock.not_before(letter.time)
        if letter.kind == _Kind.CALL:
            self._start(self._answer(letter))
        elif letter.kind == _Kind.WORD:
            self._hear(letter.name, letter.body, letter.node)
        elif letter.process == self._process and (asked := self._asked.get(letter.number)) and not asked.done():
            if letter.kind == _Kind.REPLY:
                asked.set_result(letter.body)
            else:
                asked.set_exception(_error(letter.body))

    async def _answer(self, call: _Letter) -> None:
        kind = _Kind.REPLY
        try:
            if self._served >= MOST_SERVED:
                raise StoreUnavailable(f"node {self._node!r} has too many calls of other nodes; try again")
            self._served += 1
            try:
                body = await self._serve(call.name, call.body, call.node)
            finally:
                self._served -= 1
        except HolonError as error:
            kind, body = _Kind.FAILURE, _packed(error)
        except MalformedMessage as error:
            kind, body = _Kind.FAILURE, _packed(HolonError(f"a call of node {call.node!r} cannot be read: {error}"))
        except Exception as error:
            log.exception("a call of node %r failed", call.node)
            kind, body = _Kind.FAILURE, _packed(HolonError(f"a call at node {self._node!r} failed: {error!r}"))
        self._send(call.node, _Letter(kind, self._node, call.process, call.number, call.name, body))


def _packed(error: HolonError) -> bytes:
    details = tuple((one.field, one.reason) for one in error.details)
    kind = StoreUnavailable if isinstance(error, StoreBroken) else type(error)
    failure = _Failure(kind.__name__, error.message, error.code, error.retry_after, details, dict(error.metadata))
    return pack(failure)


def _error(body: bytes) -> HolonError:
    """The error that another node raised."""
    try:
        failure = unpack(_Failure, body)
    except MalformedMessage as malformed:
        return StoreUnavailable(f"the answer of another node cannot be read: {malformed}")
    kind = getattr(errors, failure.error, HolonError)
    known = isinstance(kind, type) and issubclass(kind, HolonError) and kind is not errors.QuotaExceeded
    made = kind if known else HolonError
    details: Sequence[errors.Violation] = [errors.Violation(*one) for one in failure.details]
    return made(
        failure.message,
        code=failure.code,
        details=details,
        retry_after=failure.retry_after,
        metadata=failure.metadata,
    )
