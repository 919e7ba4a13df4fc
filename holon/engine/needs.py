"""What tasks need: the contracts of each skill that this node knows, and which of them accept a task's params."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from holon.domain.costs import Cost
from holon.domain.matching import ANY_CONTRACT, Need
from holon.domain.policy import Allowed
from holon.engine.contracts import Contracts
from holon.engine.payloads import decode
from holon.engine.unused import Unused
from holon.ports import Leases

PAGE = 500
# Contracts that nobody offers now, and that waiting tasks were tried on: who comes back soon finds them tried.
MAX_UNUSED = 256


class Needs:
    """Computes the need of each task once, before it is written.

    Arguments:
        contracts: the compiled schemas.
        store: whose waiting tasks get a new need when a new contract appears.
    """

    def __init__(self, contracts: Contracts, store: Leases) -> None:
        self._contracts = contracts
        self._store = store
        # By skill, its contracts, and how many offers hold each.
        self._by_skill: dict[str, dict[str, int]] = {}
        self._unused: Unused[tuple[str, str], None] = Unused(MAX_UNUSED)
        self._untried: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"Needs(skills={len(self._by_skill)}, unused={len(self._unused)})"

    def of(
        self,
        skill: str,
        params: Any,
        version: str = "",
        kind: str = "",
        allowed: Allowed = None,
        max_cost: Cost = None,
    ) -> Need:
        """The need of a task with these params."""
        # Thousands of times for a large fan-out: none is made only to be made again with what is known of contracts.
        accepted: list[str] = []
        refused: list[str] = []
        for contract in self._by_skill.get(skill, ()):
            (accepted if self._contracts.accepts(contract, params) else refused).append(contract)
        return _need(skill, version, kind, tuple(sorted(accepted)), tuple(sorted(refused)), allowed, max_cost)

    async def learn(self, skill: str, schema: Mapping[str, Any] | None) -> tuple[str, bool]:
        """Know a contract of a skill until `release`; answers with its id, and whether it is new here.

        On any error, and on cancel, it is released.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) the schema cannot be used.
            StoreUnavailable: waiting tasks were not tried on it; it is not known then.
        """
        contract = self._contracts.add(dict(schema) if schema else None)
        if contract == ANY_CONTRACT:
            return contract, False
        # Known first, so that a task that is decided upon meanwhile is tried on it too.
        self._hold(skill, contract)
        try:
            new = (skill, contract) in self._untried
            if new:
                await self.renew([need for need, _ in (await self._store.queued(skill)).values()])
                self._untried.discard((skill, contract))
        except BaseException:
            self.release(skill, contract)
            raise
        return contract, new

    def _hold(self, skill: str, contract: str) -> None:
        holders = self._by_skill.setdefault(skill, {})
        if contract not in holders:
            self._contracts.hold(contract)
            self._untried.add((skill, contract))
        holders[contract] = holders.get(contract, 0) + 1
        if (skill, contract) in self._unused:
            self._unused.take((skill, contract))

    def release(self, skill: str, contract: str) -> None:
        """One offer less of a contract that `learn` answered with."""
        if contract == ANY_CONTRACT:
            return
        self._by_skill[skill][contract] -= 1
        if not self._by_skill[skill][contract]:
            for oldest in self._unused.put((skill, contract), None, self._contracts.patterns(contract)):
                self._forget(*oldest)

    def _forget(self, skill: str, contract: str) -> None:
        del self._by_skill[skill][contract]
        if not self._by_skill[skill]:
            del self._by_skill[skill]
        self._untried.discard((skill, contract))
        self._contracts.release(contract)

    async def renew(self, needs: Iterable[Need]) -> None:
        """Try waiting tasks with these needs on the contracts that their needs do not speak of yet.

        A need can be older than a contract: its task waited already, or was decided upon while the contract came.
        """
        for need in needs:
            after = ""
            while self._untried_by(need) and (page := await self._store.queued_tasks(need.key, after, PAGE)):
                after = page[-1].id
                untried = self._untried_by(need)
                await self._store.rekey(
                    [(task.id, self._with(need, untried, decode(task.params, task.id))) for task in page]
                )

    def _untried_by(self, need: Need) -> Sequence[str]:
        return [one for one in self._by_skill.get(need.skill, ()) if one not in (*need.contracts, *need.refused)]

    def _with(self, need: Need, untried: Sequence[str], params: Any) -> Need:
        if not untried:
            return need
        accepted = [contract for contract in untried if self._contracts.accepts(contract, params)]
        refused = [contract for contract in untried if contract not in accepted]
        return _need(
            need.skill,
            need.version,
            need.type,
            tuple(sorted((*need.contracts, *accepted))),
            tuple(sorted((*need.refused, *refused))),
            need.allowed_skills,
            need.max_cost,
        )


@lru_cache(maxsize=1024)
def _need(
    skill: str,
    version: str,
    kind: str,
    contracts: tuple[str, ...],
    refused: tuple[str, ...],
    allowed: Allowed,
    max_cost: Cost,
) -> Need:
    return Need(skill, version, kind, contracts, refused, allowed, max_cost)
