"""The store in Redis: quotas, kept exactly though the jobs that count against one are in several partitions.

A job is counted where it is made, by the same script. How many jobs a partition may make is drawn from what the quota
has left, ahead of need; when nothing is left, it is recalled from partitions that have not made use of it. Only when
that brings nothing either is the quota used up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from holon.domain.value import Value
from holon.errors import StoreUnavailable
from holon.ports import NewJob, Quota
from holon.storage.redis.answers import ALL_CREATED
from holon.storage.redis.arguments import Allowance, quota_name
from holon.storage.redis.calls import Calls
from holon.storage.waiting import RETRY_AFTER_S

# So many quotas are known at a time; of another one it is asked.
MAX_KNOWN = 10_000
# Each try fails only because others made jobs, or drew, in the meantime.
MAX_TRIES = 50

Allowances: TypeAlias = Mapping[Quota, Allowance]


class _Short(Value):
    """A partition may not make as many jobs as are wanted: how many it has made, and under which generation."""

    made: int
    generation: int


class Quotas:
    """The quotas of the jobs of one partition, as one node knows them.

    Arguments:
        shared: where quotas are drawn on.
        partition: which one, by its number among `all_of_them`.
        all_of_them: where each partition of the store is.
    """

    def __init__(self, shared: Calls, partition: int, all_of_them: Sequence[Calls]) -> None:
        self._shared = shared
        self._partition = partition
        self._all = tuple(all_of_them)
        self._known: dict[tuple[str, int], Allowance] = {}

    def __repr__(self) -> str:
        return f"Quotas(partition={self._partition}, known={len(self._known)})"

    async def create(self, items: Sequence[NewJob], call: Callable[[Allowances], Awaitable[Any]]) -> Any:
        """Create jobs by a call that is told what it may make of each quota; its answer.

        Raises:
            StoreUnavailable: as the call; or others drew on the same quota again and again.
        """
        wanted = Counter(item.quota for item in items if item.quota is not None)
        if not wanted:
            return await call({})
        for _ in range(MAX_TRIES):
            for quota, n in wanted.items():
                if _key(quota) not in self._known:
                    await self._draw(quota, n, _Short(0, 0))
            answer = await call({quota: self._known[_key(quota)] for quota in wanted})
            if answer == ALL_CREATED or answer[0] != b"short":
                return answer
            short = {name.decode(): _Short(made, generation) for name, made, generation in answer[1]}
            for quota, n in wanted.items():
                if (found := short.get(quota_name(quota))) is not None:
                    await self._draw(quota, n, found)
        raise StoreUnavailable("too many create jobs of the same quota at once", retry_after=RETRY_AFTER_S)

    async def _draw(self, quota: Quota, n: int, short: _Short) -> None:
        """Have it that this partition may make `n` jobs more, or know that the quota has no more."""
        recalled: list[Any] = []
        while True:
            allowed, generation, others = await self._shared.call(
                "draw",
                quota_name(quota),
                quota.limit,
                quota.expires_at,
                self._partition,
                short.made,
                short.generation,
                n,
                len(self._all),
                len(recalled) // 3,
                *recalled,
            )
            if not others or recalled:
                break
            recalled = await self._recalled(quota, map(int, others))
        self._known.pop(_key(quota), None)
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        # Where others drew again after they were recalled, the next try recalls them again.
        last = allowed < short.made + n and not others
        self._known[_key(quota)] = Allowance(allowed, generation, last)

    async def _recalled(self, quota: Quota, others: Iterable[int]) -> list[Any]:
        found: list[Any] = []
        for other in others:
            made, generation = await self._all[other].call("recall", quota_name(quota), quota.expires_at)
            found += (other, made, generation)
        return found


def _key(quota: Quota) -> tuple[str, int]:
    return quota_name(quota), quota.limit
