"""A Redis that sentinels watch: its master is whichever server they name."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from holon.storage.redis.server import Connection, ask, connected, pool_of

SENTINELS = ("redis+sentinel://", "rediss+sentinel://")
# When nothing more came for so long, what was told counts.
ANSWER_S = 1.0


class Sentinels:
    """Where the master of a service is, as its sentinels say; as `Server`.

    Arguments:
        uri: `redis+sentinel://[USER:PASSWORD@]HOST:PORT,.../SERVICE[/DATABASE]`, or `rediss+sentinel://...` with what
            the client library takes in its query, for sentinels and servers alike.
    Raises:
        ConfigError: the URI is none of these.
    """

    clustered = False

    def __init__(self, uri: str) -> None:
        self._scheme, _, rest = uri.partition("+sentinel://")
        place, question, query = rest.partition("?")
        credentials, at, named = place.rpartition("@")
        hosts, _, path = named.partition("/")
        self._credentials = f"{credentials}{at}"
        self._service, _, database = path.partition("/")
        self._database = f"/{database or 0}"
        self._options = f"{question}{query}"
        self._hosts = hosts.split(",")
        for host in self._hosts:
            pool_of(self._at(f"{self._credentials}{host}{self._database}"))

    def __repr__(self) -> str:
        return f"Sentinels({self._service}, {', '.join(self._hosts)})"

    async def connect(self) -> Connection:
        """A new connection to the master; raises RedisError or OSError when there is none to be had."""
        connection = await connected(pool_of(self._at(f"{self._credentials}{await self._master()}{self._database}")))
        # A master that was replaced may not know it yet, and its sentinels may.
        [role] = await ask(connection, ("ROLE",))
        if isinstance(role, RedisError) or role[0] != b"master":
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(f"the server that the sentinels name for {self._service} is no master: {role}")
        return connection

    def _at(self, place: str) -> str:
        return f"{self._scheme}://{place}{self._options}"

    async def _master(self) -> str:
        """The server that most sentinels name, the first of them where as many name another.

        One that was cut off still names the master of before, and that takes itself for one.
        """
        asked = [asyncio.create_task(self._place_by(host), name="store-sentinel") for host in self._hosts]
        waiting = set(asked)
        place, votes = "", 0
        try:
            while waiting and 2 * votes <= len(asked):
                told, waiting = await asyncio.wait(waiting, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
                answers = [one.result() for one in asked if one.done()]
                named = Counter(answer for answer in answers if isinstance(answer, str))
                [(place, votes)] = named.most_common(1) or [("", 0)]
                if votes and not told:
                    break
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if not votes:
            raise RedisConnectionError(f"no sentinel names a master: {asked[-1].result()}")
        return place

    async def _place_by(self, host: str) -> str | Exception:
        """Where a sentinel says that the master is, or why it does not."""
        try:
            found = await self._named_by(host)
        except (RedisError, OSError) as error:
            return error
        if not isinstance(found, list):
            unknown = RedisConnectionError(f"no master is known as {self._service}")
            return found if isinstance(found, RedisError) else unknown
        name, port = (part.decode() for part in found)
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    async def _named_by(self, host: str) -> Any:
        """What a sentinel answers; one that asks for a password is given the servers'."""
        try:
            return await self._asked(host)
        except AuthenticationError:
            if not self._credentials:
                raise
            return await self._asked(f"{self._credentials}{host}")

    async def _asked(self, place: str) -> Any:
        connection = await connected(pool_of(self._at(place)))
        try:
            [found] = await ask(connection, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
        finally:
            await connection.disconnect(nowait=True)
        return found
