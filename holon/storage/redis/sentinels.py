"""A Redis that sentinels watch: its master is whichever server they name."""

from __future__ import annotations

from typing import Any

from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from holon.storage.redis.server import Connection, ask, connected, pool_of

SENTINELS = ("redis+sentinel://", "rediss+sentinel://")


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
            pool_of(self._at(host))

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
        said: object = "nothing"
        for host in self._hosts:
            try:
                found = await self._named_by(host)
            except (RedisError, OSError) as error:
                said = error
                continue
            if isinstance(found, list):
                name, port = (part.decode() for part in found)
                return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
            said = found or f"no master is known as {self._service}"
        raise RedisConnectionError(f"no sentinel names a master: {said}")

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
