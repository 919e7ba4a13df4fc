"""What tasks need: the contracts of each skill that this node knows, and which of them accept a task's params."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from holon.domain.matching import ANY_CONTRACT, Need
from holon.engine.contracts import Contracts
from holon.engine.payloads import decode
from holon.errors import StoreUnavailable
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
        return self._with(_need(skill, version, kind, (), ()), self._by_skill.get(skill, ()), params)

    async def learn(self, skill: str, schema: Mapping[str, Any] | None) -> tuple[str, bool]:
        """Know a contract of a skill; answers with its id, and whether it is new here.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) the schema cannot be used.
            StoreUnavailable: waiting tasks were not tried on it; it is not known then.
        """
        contract = self._contracts.add(dict(schema) if schema else None)
        if contract == ANY_CONTRACT or contract in self._by_skill[skill]:
            return contract, False
        # Known first, so that a task that is decided upon meanwhile is tried on it too.
        self._by_skill[skill].append(contract)
        try:
            await self.renew([need for need, _ in (await self._store.queued(skill)).values()])
        except StoreUnavailable:
            self._by_skill[skill].remove(contract)
            raise
        return contract, True

    async def renew(self, needs: Iterable[Need]) -> None:
        """Try waiting tasks with these needs on the contracts that their needs do not speak of yet.

        A need can be older than a contract: its task waited already, or was decided upon while the contract came.
        """
        for need in needs:
            untried = [one for one in self._by_skill.get(need.skill, ()) if one not in (*need.contracts, *need.refused)]
            after = ""
            while untried and (page := await self._store.queued_tasks(need.key, after, PAGE)):
                after = page[-1].id
                await self._store.rekey(
                    [(task.id, self._with(need, untried, decode(task.params, task.id))) for task in page]
                )

    def _with(self, need: Need, untried: Sequence[str], params: Any) -> Need:
        accepted = [contract for contract in untried if self._contracts.accepts(contract, params)]
        refused = [contract for contract in untried if contract not in accepted]
        if not untried:
            return need
        return _need(
            need.skill,
            need.version,
            need.type,
            tuple(sorted((*need.contracts, *accepted))),
            tuple(sorted((*need.refused, *refused))),
        )


@lru_cache(maxsize=4096)
def _need(skill: str, version: str, kind: str, contracts: tuple[str, ...], refused: tuple[str, ...]) -> Need:
    return Need(skill, version, kind, contracts, refused)
