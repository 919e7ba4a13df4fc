"""What tasks need: the contracts of each skill that this node knows, and which of them accept a task's params."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from holon.domain.matching import ANY_CONTRACT, Need
from holon.engine.contracts import Contracts
from holon.engine.payloads import decode
from holon.ports import Leases

PAGE = 500


class Needs:
    """Computes the need of each task once, before it is written.

    Arguments:
        contracts: the compiled schemas.
        store: whose waiting tasks get a new need when a new contract appears.
    """

    def __init__(self, contracts: Contracts, store: Leases) -> None:
        self._contracts = contracts
        self._store = store
        self._by_skill: dict[str, list[str]] = defaultdict(list)

    def of(self, skill: str, params: Any, version: str = "", kind: str = "") -> Need:
        """The need of a task with these params."""
        known = self._by_skill.get(skill, ())
        accepted = tuple(contract for contract in known if self._contracts.accepts(contract, params))
        return _need(skill, version, kind, accepted)

    async def learn(self, skill: str, schema: Mapping[str, Any] | None) -> tuple[str, bool]:
        """Know a contract of a skill; answers with its id, and whether waiting tasks were tried on it.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) the schema cannot be used.
        """
        contract = self._contracts.add(dict(schema) if schema else None)
        if contract == ANY_CONTRACT or contract in self._by_skill[skill]:
            return contract, False
        self._by_skill[skill] = sorted([*self._by_skill[skill], contract])
        for key, (need, _) in (await self._store.queued(skill)).items():
            if contract not in need.contracts:
                await self._try_on(key, need, contract)
        return contract, True

    async def _try_on(self, key: str, need: Need, contract: str) -> None:
        """Move the waiting tasks of one match key that the new contract accepts; those that come later know it."""
        wider = _need(need.skill, need.version, need.type, tuple(sorted((*need.contracts, contract))))
        after = ""
        while page := await self._store.queued_tasks(key, after, PAGE):
            fitting = [
                (task.id, wider) for task in page if self._contracts.accepts(contract, decode(task.params, task.id))
            ]
            if fitting:
                await self._store.rekey(fitting)
            after = page[-1].id


@lru_cache(maxsize=4096)
def _need(skill: str, version: str, kind: str, contracts: tuple[str, ...]) -> Need:
    return Need(skill, version, kind, contracts)
