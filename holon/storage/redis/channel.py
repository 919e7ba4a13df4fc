"""The connection on which nodes wake each other up, and the words that they say. What is said can be lost."""

from __future__ import annotations

import asyncio
import logging
import random
from base64 import b64decode
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet

from redis.exceptions import RedisError

from holon.errors import StoreUnavailable
from holon.ports import Hint
from holon.stores.redis_servers import Connection, Place, say

log = logging.getLogger(__name__)

# Something that was said may have been lost: this often a node looks whether anything waits for it (seconds).
LOOK_EVERY_S = 1.0
SILENCE_S = 10.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 2.0


def hint_of(text: str, watched: AbstractSet[str]) -> Hint | None:
    """The hint that words say; None when they say nothing to this node. A word that cannot be read says nothing.

    `r` jobs are ready, `s` a stop is due, `d`TIME a timer, `k`KEY a match key has tasks, `f`JOB-STEP a chunk is to be
    spawned, `j`JOB a watched job changed, `n` history waits to be moved, `e` an end is to be told, `o` events are,
    `c`KIND a document of this kind changed, `l`JOB:WORDS another node passes words on of a watched job, in Base64.
    (`x`, a suspect was kept back, is no hint.)
    """
    ready = stops = notices = ends = events = False
    due: int | None = None
    keys: set[str] = set()
    spawns: set[tuple[str, int]] = set()
    jobs: set[str] = set()
    kinds: set[str] = set()
    said: list[tuple[str, bytes]] = []
    for word in text.split():
        kind, rest = word[0], word[1:]
        if kind == "r":
            ready = True
        elif kind == "s":
            stops = True
        elif kind == "n":
            notices = True
        elif kind == "e":
            ends = True
        elif kind == "o":
            events = True
        elif kind == "d" and rest.isdecimal():
            due = int(rest) if due is None else min(due, int(rest))
        elif kind == "k":
            keys.add(rest)
        elif kind == "f":
            job_id, _, step = rest.rpartition("-")
            if step.isdecimal():
                spawns.add((job_id, int(step)))
        elif kind == "j" and rest in watched:
            jobs.add(rest)
        elif kind == "c":
            kinds.add(rest)
        elif kind == "l":
            job_id, _, words = rest.partition(":")
            if job_id in watched:
                said.append((job_id, _words(words)))
    some = ready or stops or notices or ends or events or keys or spawns or jobs or kinds or said
    if not some and due is None:
        return None
    many = frozenset(keys), frozenset(spawns), frozenset(jobs)
    return Hint(ready, stops, due, *many, notices, frozenset(kinds), ends, tuple(said), events)


def _words(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


class Channel:
    """Listens to what other nodes say.

    Arguments:
        server: where.
        names: the channels.
        heard: called with each message: who sent it, and the words.
        look: asks the store what waits, for the first time (True) on a connection, and every now and then.
    """

    def __init__(
        self,
        server: Place,
        names: tuple[str, ...],
        heard: Callable[[str], None],
        look: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._server = server
        self._names = names
        self._heard = heard
        self._look = look
        self.listening = asyncio.Event()
        # Why it does not listen, if it does not.
        self.failure: Exception | None = None

    def __repr__(self) -> str:
        return f"Channel({', '.join(self._names)}, {'listening' if self.listening.is_set() else 'away'})"

    async def run(self) -> None:
        """Listen until cancelled, on one connection after the other."""
        wait = FIRST_WAIT_S
        while True:
            connection: Connection | None = None
            try:
                connection = await self._server.connect()
                await say(connection, ("SUBSCRIBE", *self._names))
                for _ in self._names:
                    await connection.read_response()
                wait = FIRST_WAIT_S
                self.listening.set()
                await self._look_around(first=True)
                await self._listen(connection)
            except (RedisError, OSError, EOFError) as error:
                self.failure = error
                if self.listening.is_set():
                    log.warning("no word from other nodes: %s", error)
            finally:
                self.listening.clear()
                if connection is not None:
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  no secret
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _listen(self, connection: Connection) -> None:
        looking = asyncio.create_task(self._keep_looking(connection), name="store-look")
        try:
            # Each look is answered here too, so that a connection that nobody is at is found out.
            while (message := await connection.read_response(timeout=SILENCE_S)) is not None:
                if looking.done():
                    looking.result()
                if message[0] == b"message":
                    self._heard(message[2].decode(errors="replace"))
            raise ConnectionError(f"nothing was heard for {SILENCE_S:g} s")
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _keep_looking(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S * random.uniform(0.75, 1.25))  # noqa: S311  no secret
            await say(connection, ("PING",))
            await self._look_around(first=False)

    async def _look_around(self, *, first: bool) -> None:
        try:
            await self._look(first)
        except StoreUnavailable as error:
            log.debug("cannot look what waits: %s", error.message)
