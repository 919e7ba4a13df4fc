"""Calls of operations, about the keys of one slot."""

from __future__ import annotations

from typing import Any, Protocol

from holon.clock import Clock
from holon.ports import Hint
from holon.randomness import random_id
from holon.storage.hints import Hints
from holon.storage.redis.arguments import Argument
from holon.storage.redis.channel import hint_of
from holon.storage.redis.keys import Keys
from holon.storage.redis.lane import Lane
from holon.storage.redis.presence import ServersTime


class Ears(Protocol):
    """Who hears what is said with a reply, and by other nodes."""

    def heard(self, hint: Hint) -> None:
        """Something may be worth a call."""
        ...

    def looked(self, hint: Hint) -> None:
        """The same, of all that waits in the partition now."""
        ...

    def kept_back(self) -> None:
        """A suspect waits in the partition, which was not handed over."""
        ...

    def counted(self, session_id: str, held: int) -> None:
        """So many leases a session holds in the partition."""
        ...


class Calls:
    """Calls that go over one lane.

    Arguments:
        lane: which.
        keys: what they are about.
        node: who calls.
        settings: the durations and limits that operations go by.
        clock: what says the time, for tests; None: the server's clock.
        time: the server's.
        ears: who hears what is said.
        hints: what is watched.
    """

    def __init__(
        self,
        lane: Lane,
        keys: Keys,
        node: str,
        settings: str,
        clock: Clock | None,
        time: ServersTime,
        ears: Ears,
        hints: Hints,
    ) -> None:
        self._lane = lane
        self._keys = keys
        self._node = node
        self._settings = settings
        self._clock = clock
        self._time = time
        self._ears = ears
        self._hints = hints

    def __repr__(self) -> str:
        return f"Calls({self._keys.prefix}, {self._lane})"

    def about(self, keys: Keys) -> Calls:
        """Calls over the same lane about other keys, which are on the same server."""
        return Calls(self._lane, keys, self._node, self._settings, self._clock, self._time, self._ears, self._hints)

    async def call(self, name: str, *given: Argument, new_work: bool = False) -> Any:
        """Call an operation that writes; what it says of what waits is left as a hint.

        Arguments:
            new_work: whether it only adds work, and is the first to be refused.
        Raises:
            StoreUnavailable: it did not happen, or its reply was lost.
        """
        return self._said(await self._lane.submit(self._command(given), name, new_work=new_work))

    def _said(self, reply: Any) -> Any:
        """The answer in a reply; what comes with it is heard."""
        time, words, answer, *holdings = reply
        self._time.heard(time)
        if holdings:
            for at in range(0, len(holdings[0]), 3):
                _, session_id, held = holdings[0][at : at + 3]
                self._ears.counted(session_id.decode(), held)
        if words:
            text = words.decode()
            if "x" in text.split(" "):
                self._ears.kept_back()
            self._heard(text)
        return answer

    def tell(self, name: str, *given: Argument) -> None:
        """Call an operation that writes, soon, and hear nothing of it."""
        self._lane.send(self._command(given), name)

    def _command(self, given: tuple[Argument, ...]) -> tuple[Any, ...]:
        now = "" if self._clock is None else self._clock.now_ms()
        return (*self._keys.declared, now, self._node, random_id(), self._settings, *given)

    async def read(self, name: str, *given: Argument) -> Any:
        """Call an operation that only reads; raises as `call`."""
        return await self._lane.submit((*self._keys.declared, *given), name)

    async def ask(self, command: str, key: str, *given: Argument) -> Any:
        """Send a command that only reads, about one key; raises as `call`."""
        return await self._lane.submit((command, f"{self._keys.prefix}{key}", *given))

    def now(self) -> int:
        """The server's time, epoch milliseconds."""
        return self._time.now_ms() if self._clock is None else self._clock.now_ms()

    def _heard(self, words: str) -> None:
        hint = hint_of(words, self._hints.watched)
        if hint is not None:
            self._ears.heard(hint)
