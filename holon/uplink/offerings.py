"""The uplink: what a holon offers its parent: blueprints, and skills of workers, while somebody can do the work."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from types import MappingProxyType

import orjson

from holon.domain.fleet import Machine
from holon.domain.integrity import is_parallel, skills_of
from holon.domain.states import State
from holon.domain.task import SUCCESS
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.uplink.fitting import MAX_PROFILES, Room
from holon.uplink.passing import offering_of
from holon.uplink.provided import Provided
from holon.uplink.providers import Providers
from holon.wire.resources import resources_message
from holon.wire.values import json_payload

log = logging.getLogger(__name__)

# What nobody has been able to do for so long is offered no more.
WITHDRAWN_AFTER_S = 30.0
# The id of no profile: what is offered on no machine that is told is not offered on all of them.
_NO_MACHINE = "none"


@dataclass(slots=True)
class _Offered:
    """One offering, as it was found last; None: it was not yet.

    `places` are those of the machines on which it can be done; None: whichever. `patterns` are those of its schemas.
    `left_out`: the catalog has no room for it.
    `since` is when somebody whom it needs was found missing, on the loop's clock; None: nobody is.
    """

    message: worker_pb2.Offering | None
    needs: frozenset[str]
    passed: bool = False
    wide: bool = False
    places: frozenset[int] | None = None
    since: float | None = None
    withdrawn: bool = False
    patterns: int = 0
    left_out: bool = False


class Offerings:
    """The blueprints that a parent may have done, and the skills of workers that are passed on to it as they are.

    `look` finds which of them can be done now.

    Arguments:
        blueprints: those of the skills that are passed on among them.
        contracts: knows how many patterns their schemas have.
        providers: who has which skills, how they offer those that are passed on, and on which machines.
        passed: the names of those that are passed on.
    """

    def __init__(
        self,
        blueprints: Blueprints,
        contracts: Contracts,
        providers: Providers,
        passed: Collection[str] = (),
    ) -> None:
        self._blueprints = blueprints
        self._contracts = contracts
        self._providers = providers
        self._machines: list[Machine] = []
        self._resources: list[types_pb2.Resources] = []
        self._told: dict[int, types_pb2.Resources] = {}
        self._nodes: Sequence[Provided] = ()
        self._said = False
        self._offered: dict[str, _Offered] = {}
        self._sequence = 1
        for blueprint in sorted(blueprints, key=lambda one: one.name):
            if blueprint.internal:
                continue
            if blueprint.name in passed:
                self._offered[blueprint.name] = _Offered(None, frozenset((blueprint.name,)), passed=True)
                continue
            statuses = sorted({state.status for state in blueprint.states.values() if state.status})
            offering = worker_pb2.Offering(skill=blueprint.name, statuses=statuses, price=blueprint.price)
            if blueprint.input_schema is not None:
                offering.input_schema.CopyFrom(json_payload(orjson.dumps(blueprint.input_schema)))
            output = blueprint.output_schema
            # The data of a result is an object: the parent is given anything else as a part of one.
            if output is not None and output.get("type") == "object":
                offering.output_schema.CopyFrom(json_payload(orjson.dumps(output)))
            self._offered[blueprint.name] = _Offered(
                offering,
                skills_of(blueprint, blueprints.get),
                wide=is_parallel(blueprint, blueprints.get),
                patterns=self._patterns(offering),
            )
        self._fit()

    def __repr__(self) -> str:
        return f"Offerings({', '.join(self._offered)})"

    def look(self, now: float) -> bool:
        """Find out whose work can be done.

        Arguments:
            now: on the loop's clock.
        Returns:
            whether the catalog has become another.
        """
        changed = self._look_at_machines()
        for name, one in self._offered.items():
            if one.passed:
                changed |= self._look_at_workers(name, one)
            if self._providers.have(one.needs):
                one.since = None
            elif one.since is None:
                one.since = now
            withdrawn = one.since is not None and now - one.since >= WITHDRAWN_AFTER_S
            changed |= withdrawn != one.withdrawn
            one.withdrawn = withdrawn
        if changed:
            self._fit()
            self._sequence += 1
        return changed

    def _look_at_workers(self, name: str, one: _Offered) -> bool:
        found = offering_of(name, self._providers.passed(name))
        if found is None or found == one.message:
            return False
        one.message, one.patterns = found, self._patterns(found)
        return True

    def _look_at_machines(self) -> bool:
        nodes = self._providers.nodes()
        if len(nodes) == len(self._nodes) and all(map(is_, nodes, self._nodes)):
            return False
        self._nodes = nodes
        found: dict[str, Machine] = {}
        for node in nodes:
            for machine in node.machines:
                found.setdefault(repr(machine), machine)
        machines = list(found.values())[:MAX_PROFILES]
        changed = machines != self._machines
        if changed:
            self._machines = machines
            self._resources = [resources_message(machine) for machine in machines]
        places = self._places(nodes)
        for one in self._offered.values():
            its = frozenset(place for skill in one.needs for place in places.get(skill, ())) if one.needs else None
            changed |= its != one.places
            one.places = its
        return changed

    def _places(self, nodes: Sequence[Provided]) -> Mapping[str, set[int]]:
        """By skill, on which of the machines it is offered."""
        known = {repr(machine): place for place, machine in enumerate(self._machines)}
        found: dict[str, set[int]] = {}
        for node in nodes:
            for equipped in node.equipped:
                its = {known[text] for text in map(repr, node.machines_of(equipped)) if text in known}
                for offer in equipped.offers:
                    found.setdefault(offer.skill, set()).update(its)
        return found

    def _patterns(self, offering: worker_pb2.Offering) -> int:
        schemas = [orjson.loads(one.data) for one in (offering.input_schema, offering.output_schema) if one.data]
        return sum(self._contracts.patterns(self._contracts.add(schema)) for schema in schemas)

    def _fit(self) -> None:
        """Leave out what would make the catalog one that the parent does not take."""
        room = Room()
        there = [one for one in self._offered.values() if one.message is not None and not one.withdrawn]
        for one in sorted(there, key=lambda one: one.passed):
            takes = room.takes_passed if one.passed else room.takes_own
            one.left_out = one.message is not None and not takes(one.message, one.patterns)
        self._told = {place: one for place, one in enumerate(self._resources) if room.takes_machine(one)}
        left_out, machines = sum(one.left_out for one in there), len(self._resources) - len(self._told)
        if (left_out or machines) and not self._said:
            self._said = True
            log.warning(
                "the catalog for the parent would be too large, so %d skills and %d machines are left out; make "
                "their schemas, descriptions and properties smaller",
                left_out,
                machines,
            )

    @property
    def names(self) -> Collection[str]:
        """All of them, whether the parent is told of them or not."""
        return self._offered.keys()

    def able(self) -> Mapping[str, bool]:
        """Each offering that the parent is told of, and whether it can be done now."""
        told = {name: one for name, one in self._offered.items() if one.message and not one.withdrawn}
        return {name: one.since is None for name, one in told.items() if not one.left_out}

    def lacks(self, name: str) -> bool:
        """Whether this is offered, and somebody whom it needs is missing now."""
        return name in self._offered and not self._providers.have(self._offered[name].needs)

    def is_wide(self, name: str) -> bool:
        """Whether a job of it may have several tasks at a time."""
        return name in self._offered and self._offered[name].wide

    def needs(self, name: str) -> frozenset[str]:
        """The skills of workers that it names; none where it does not say."""
        return self._offered[name].needs if name in self._offered else frozenset()

    def share(self, name: str, other: str) -> bool:
        """Whether two may take each other's places."""
        one, two = self.needs(name), self.needs(other)
        return not one or not two or not one.isdisjoint(two)

    def passes(self, name: str) -> bool:
        """Whether this is a skill of workers, and passed on as it is."""
        return name in self._offered and self._offered[name].passed

    def catalog(self, granted: Mapping[str, int] = MappingProxyType({})) -> worker_pb2.Catalog:
        """All of it that fits, as the parent is told.

        Arguments:
            granted: how many tasks of each offering may be held.
        """
        catalog = worker_pb2.Catalog(sequence=self._sequence)
        for place, resources in self._told.items():
            catalog.profiles.add(profile_id=f"m{place}", resources=resources)
        for name in self.able():
            message = self._offered[name].message
            if message is not None:
                catalog.offerings.add().CopyFrom(message)
                catalog.offerings[-1].credits = granted.get(name, 0)
                catalog.offerings[-1].profile_ids[:] = self._profiles(self._offered[name])
        return catalog

    def _profiles(self, one: _Offered) -> Sequence[str]:
        """The machines that provide an offering, by their names in the catalog; all of them where none is named."""
        if one.places is None or one.places.issuperset(self._told):
            return ()
        return [f"m{place}" for place in sorted(one.places) if place in self._told] or (_NO_MACHINE,)

    def may_repeat(self, blueprint: str, state: str) -> bool:
        """Whether a job that failed in this state may be tried again by the parent, as its blueprint says."""
        found = self._state(blueprint, state)
        return found is not None and found.retry

    def status_of(self, blueprint: str, state: str) -> str:
        """What the parent is answered of a job that ended well in this state."""
        found = self._state(blueprint, state)
        return found.status or SUCCESS if found is not None else SUCCESS

    def _state(self, blueprint: str, state: str) -> State | None:
        found = self._blueprints.get(blueprint)
        return found.states.get(state) if found is not None else None
