"""The bench: what a store in Redis had to do, as its server tells."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

# Questions of ours, and what every connection says first: no work of the store's.
_NOT_WORK = frozenset(
    {"info", "ping", "hello", "auth", "select", "client|setinfo", "client|setname", "config|resetstat"}
)
_CALLS = frozenset({"fcall"})


@dataclass(frozen=True, slots=True)
class StoreUse:
    """What a server did in one stretch.

    Attributes:
        calls: how many scripts it was asked to run.
        commands: how many commands those ran.
        cpu: the CPU seconds that it used.
    """

    calls: int
    commands: int
    cpu: float

    def __add__(self, other: StoreUse) -> StoreUse:
        return StoreUse(self.calls + other.calls, self.commands + other.commands, self.cpu + other.cpu)

    def __sub__(self, other: StoreUse) -> StoreUse:
        return StoreUse(self.calls - other.calls, self.commands - other.commands, self.cpu - other.cpu)


async def server_version(server: str) -> str:
    """Return the name and version of a server: `Redis 8.0.2`, `Valkey 8.1.1`."""
    async with Redis.from_url(server) as redis:
        told = await redis.info("server")
    valkey = told.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {told['redis_version']}"


async def store_use(server: str) -> StoreUse:
    """What a server did since it started.

    Arguments:
        server: where it is, as the client library takes it.
    """
    async with Redis.from_url(server) as redis:
        stats = await redis.info("commandstats")
        cpu = await redis.info("cpu")
    counts = {name.removeprefix("cmdstat_").lower(): int(one["calls"]) for name, one in stats.items()}
    return StoreUse(
        sum(count for name, count in counts.items() if name in _CALLS),
        sum(count for name, count in counts.items() if name not in _CALLS | _NOT_WORK),
        float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]),
    )
