"""What tasks need: the contracts of each skill that this node knows, and which of them accept a task's params."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from holon.domain.costs import Cost
from holon.domain.matching import ANY_CONTRACT, Need
from holon.domain.policy import Allowed
from holon.domain.wants import NOTHING, Wants
from holon.engine.contracts import Contracts
from holon.engine.unused import Unused
from holon.errors import Violation
from holon.json_in import parse

log = logging.getLogger(__name__)

# Match keys of tasks that no contract accepts, of which it was said what is wrong with one.
MAX_MISFITS = 256
# Contracts that nobody offers now, and that waiting tasks are tried on: who comes back soon finds them tried.
MAX_UNUSED = 256


class Needs:
    """Computes the need of each task once, before it is written.

    Arguments:
        contracts: the compiled schemas.
    """

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        # By skill, its contracts, and how many offers hold each.
        self._by_skill: dict[str, dict[str, int]] = {}
        self._unused: Unused[tuple[str, str], None] = Unused(MAX_UNUSED)
        self._misfits: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"Needs(skills={len(self._by_skill)}, unused={len(self._unused)})"

    def of(
        self,
        skill: str,
        params: Any,
        allowed: Allowed = None,
        max_cost: Cost = None,
        statuses: tuple[str, ...] = (),
        wants: Wants | None = None,
    ) -> Need:
        """The need of a task with these params."""
        # Thousands of times for a large fan-out: none is made only to be made again with what is known of contracts.
        among = self._by_skill.get(skill)
        if not among:
            return _need(skill, (), (), allowed, max_cost, statuses, wants)
        accepted = self._contracts.accepting(among, params)
        refused = among.keys() - accepted
        need = _need(skill, tuple(sorted(accepted)), tuple(sorted(refused)), allowed, max_cost, statuses, wants)
        if refused and not accepted:
            self._tell_misfit(need, params)
        return need

    def learn(self, skill: str, schema: Mapping[str, Any] | None) -> tuple[str, bool]:
        """Know a contract of a skill until `release`; answers with its id, and whether it is new here.

        Tasks that are decided upon from now on are tried on it; where it is new, those that wait are to be tried.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) the schema cannot be used.
        """
        contract = self._contracts.add(dict(schema) if schema else None)
        if contract == ANY_CONTRACT:
            return contract, False
        holders = self._by_skill.setdefault(skill, {})
        new = contract not in holders
        if new:
            self._contracts.hold(contract)
        holders[contract] = holders.get(contract, 0) + 1
        if (skill, contract) in self._unused:
            self._unused.take((skill, contract))
        return contract, new

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
        self._contracts.release(contract)

    def untried(self, need: Need) -> Sequence[str]:
        """The contracts that a need does not speak of, though they are known."""
        return [one for one in self._by_skill.get(need.skill, ()) if one not in (*need.contracts, *need.refused)]

    def tried(self, need: Need, text: bytes) -> Need:
        """The need of a waiting task, its params as JSON text, tried on all contracts that are known."""
        untried = self.untried(need)
        if not untried:
            return need
        # Nobody else's bounds count here: it was encoded by a node.
        params = parse(text) if text else None
        accepted = self._contracts.accepting(untried, params)
        refused = [contract for contract in untried if contract not in accepted]
        known = _need(
            need.skill,
            tuple(sorted((*need.contracts, *accepted))),
            tuple(sorted((*need.refused, *refused))),
            need.allowed_skills,
            need.max_cost,
            need.statuses,
            Wants(need.version, need.type, need.resources, need.strategy, need.hint),
        )
        if not known.contracts:
            self._tell_misfit(known, params)
        return known

    def misfit(self, need: Need, text: bytes) -> Violation:
        """What is wrong with the params of a task, as JSON text, for the first known contract that refuses them.

        It tells of names and types alone, and of no values.
        """
        return self._misfit(self._offered(need), parse(text) if text else None)

    def _offered(self, need: Need) -> Sequence[str]:
        """The contracts that a need is refused by and workers of this node offer."""
        holders = self._by_skill.get(need.skill, {})
        return [one for one in need.refused if holders.get(one)]

    def _misfit(self, offered: Sequence[str], params: Any) -> Violation:
        found = self._contracts.violations(offered[0], params, "params") if offered else ()
        # It may well fit one that it was not tried on.
        return (
            found[0] if found else Violation("params", "is too large to be checked against all contracts of the skill")
        )

    def _tell_misfit(self, need: Need, params: Any) -> None:
        """Say of one task with this need why the workers that are here do not get it; its author looks at the log."""
        # Another node may have refused what is not known here.
        offered = self._offered(need)
        if not offered or need.key in self._misfits:
            return
        if len(self._misfits) == MAX_MISFITS:
            del self._misfits[next(iter(self._misfits))]
        self._misfits[need.key] = None
        wrong = self._misfit(offered, params)
        log.warning(
            "a task of skill %r matches no contract of its workers: %s %s",
            need.skill,
            wrong.field,
            wrong.reason,
            extra={"match_key": need.key},
        )


@lru_cache(maxsize=1024)
def _need(
    skill: str,
    contracts: tuple[str, ...],
    refused: tuple[str, ...],
    allowed: Allowed,
    max_cost: Cost,
    statuses: tuple[str, ...],
    wants: Wants | None,
) -> Need:
    more = wants or NOTHING
    tried, said = (contracts, refused), (more.resources, more.strategy, more.hint)
    return Need(skill, more.version, more.type, *tried, allowed, max_cost, statuses, *said)
