"""What workers offer: the contracts of their skills are known while somebody offers them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from holon.domain.fleet import Catalog, Skill
from holon.domain.matching import ANY_CONTRACT, Offering
from holon.domain.value import replace
from holon.engine.contracts import Contracts
from holon.engine.members import Joining
from holon.engine.needs import Needs
from holon.engine.rekeying import Rekeying
from holon.engine.schema_work import unusable
from holon.engine.session import Events, Machines, Offered, Session
from holon.errors import InvalidArgument, Violation

log = logging.getLogger(__name__)

# Compiled patterns are the dearest part of a catalog.
MAX_PATTERNS = 256
# Of a session: those that are not offered any more.
MAX_EARLIER = 256


class Catalogs:
    """Learns what workers offer."""

    def __init__(self, needs: Needs, contracts: Contracts, rekeying: Rekeying) -> None:
        self._needs = needs
        self._contracts = contracts
        self._rekeying = rekeying

    async def learn(self, skills: Sequence[Skill], held: ExitStack, keeps: Joining | Session) -> dict[Offering, str]:
        """Know the contracts of a worker's skills. What waits is tried on those that are new, also after this.

        Arguments:
            held: when it is closed, all that was learned is known no more; also what was before an error or a cancel.
            keeps: says whether the worker keeps limits and budgets.

        Returns:
            what it offers, and the contract of the results of each.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) a schema cannot be used; it is named.
        """
        offerings: dict[Offering, str] = {}
        patterns, some_new = 0, False
        for index, skill in enumerate(skills):
            with _naming(f"catalog.offerings.{index}.input_schema", skill.name):
                contract, new = self._needs.learn(skill.name, skill.input_schema)
            held.callback(self._needs.release, skill.name, contract)
            if new:
                log.debug("skill %s: a new contract %s", skill.name, contract)
                self._rekeying.skill(skill.name)
                some_new = True
            price = skill.price if keeps.keeps_budgets else None
            offering = Offering(
                skill.name, skill.version, skill.type, contract, keeps.keeps_limits, price, frozenset(skill.statuses)
            )
            with _naming(f"catalog.offerings.{index}.output_schema", skill.name):
                output = self._contracts.add(dict(skill.output_schema) if skill.output_schema else None)
            self._contracts.hold(output)
            held.callback(self._contracts.release, output)
            offerings[offering] = output
            patterns += self._contracts.patterns(contract) + self._contracts.patterns(output)
            if patterns > MAX_PATTERNS:
                raise unusable(f"the schemas of the catalog have over {MAX_PATTERNS} patterns in total; use fewer")
            if new or output:
                # A catalog can bring a thousand, each of which takes a tenth of a second: others run between them.
                await asyncio.sleep(0)
        if some_new:
            await self._rekeying.settled()
        return offerings

    async def learn_events(self, skills: Sequence[Skill], held: ExitStack) -> Events:
        """Know the contracts of the events that a worker's skills declare.

        Arguments:
            held: as for `learn`.
        Raises:
            InvalidArgument: (SCHEMA_INVALID) a schema cannot be used; it is named.
        """
        declared: dict[Offered, Mapping[str, str]] = {}
        patterns = 0
        for index, skill in enumerate(skills):
            contracts: dict[str, str] = {}
            for place, (kind, schema) in enumerate((skill.events or {}).items()):
                with _naming(f"catalog.offerings.{index}.events.{place}.schema", skill.name):
                    contract = self._contracts.add(dict(schema) if schema else None)
                self._contracts.hold(contract)
                held.callback(self._contracts.release, contract)
                contracts[kind] = contract
                patterns += self._contracts.patterns(contract)
                if patterns > MAX_PATTERNS:
                    raise unusable(
                        f"the schemas of the catalog's events have over {MAX_PATTERNS} patterns in total; use fewer"
                    )
                if contract:
                    await asyncio.sleep(0)
            if contracts:
                declared[skill.name, skill.version, skill.type] = contracts
        return declared

    def keep(self, session: Session, offerings: Mapping[Offering, str], held: ExitStack) -> None:
        """Know the contracts that what a session holds was offered under, though they are offered no more.

        Who changes what it offers again and again while it holds tasks has only the newest kept, so many and with so
        many patterns: a result is not checked by the others.

        Arguments:
            offerings: those that it offers now, as `learn` answered.
            held: as there.
        """
        known, kept, patterns = {ANY_CONTRACT, *offerings.values()}, 0, 0
        for lease_id, terms in reversed(session.terms.items()):
            if terms.output in known:
                continue
            kept, patterns = kept + 1, patterns + self._contracts.patterns(terms.output)
            if kept > MAX_EARLIER or patterns > MAX_PATTERNS:
                session.terms[lease_id] = replace(terms, output=ANY_CONTRACT)
                continue
            known.add(terms.output)
            self._contracts.hold(terms.output)
            held.callback(self._contracts.release, terms.output)


def machines_of(catalog: Catalog, keeps: Joining | Session) -> Machines:
    """The machines that provide each offering; none of who has what is required done by whatever machine."""
    if not catalog.machines or not keeps.keeps_resources:
        return {}
    return {
        (skill.name, skill.version, skill.type): catalog.machines
        if skill.machines is None
        else [catalog.machines[place] for place in skill.machines]
        for skill in catalog.skills
    }


def limits_of(catalog: Catalog) -> dict[Offered, int | None]:
    """How many tasks of each offering its worker takes; None: as many as of all."""
    return {(skill.name, skill.version, skill.type): skill.credits for skill in catalog.skills}


@contextmanager
def _naming(field: str, skill: str) -> Iterator[None]:
    """Say of an error in a schema where it is: a catalog has up to a thousand skills."""
    try:
        yield
    except InvalidArgument as error:
        message = f"{field} of skill {skill!r}: {error.message}"
        raise InvalidArgument(message, code=error.code, details=[Violation(field, error.message)]) from error
