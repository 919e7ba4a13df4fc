"""The uplink: what a holon offers its parent: its blueprints as skills, while somebody can do their work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import orjson

from holon.domain.integrity import skills_of
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError, InvalidArgument
from holon.rxon.v1 import types_pb2, worker_pb2

# What nobody has been able to do for so long is offered no more.
WITHDRAWN_AFTER_S = 30.0


@dataclass(slots=True)
class _Offered:
    """One offering. `since` is when somebody whom it needs was found missing, on the loop's clock; None: nobody is."""

    message: worker_pb2.Offering
    needs: frozenset[str]
    since: float | None = None
    withdrawn: bool = False


class Offerings:
    """The blueprints that a parent may have done. `look` finds which of them can be done now.

    Arguments:
        contracts: where their outputs are checked before they leave.
        most: how many tasks of one may be held.
    Raises:
        BlueprintError: what one says that it returns cannot be used.
    """

    def __init__(self, blueprints: Blueprints, contracts: Contracts, most: int) -> None:
        self._outputs: dict[str, str] = {}
        self._blueprints = blueprints
        self._contracts = contracts
        self._most = most
        self._offered: dict[str, _Offered] = {}
        self._sequence = 1
        for blueprint in sorted(blueprints, key=lambda one: one.name):
            if blueprint.internal:
                continue
            try:
                output = contracts.add(blueprint.output_schema)
            except InvalidArgument as error:
                raise BlueprintError(f"blueprint {blueprint.name!r}: output: {error.message}") from error
            contracts.hold(output)
            self._outputs[blueprint.name] = output
            offering = worker_pb2.Offering(skill=blueprint.name)
            if blueprint.input_schema is not None:
                offering.input_schema.CopyFrom(_payload(blueprint.input_schema))
            if blueprint.output_schema is not None:
                offering.output_schema.CopyFrom(_payload(blueprint.output_schema))
            self._offered[blueprint.name] = _Offered(offering, skills_of(blueprint))

    def __repr__(self) -> str:
        return f"Offerings({', '.join(self._offered)})"

    def look(self, have: Callable[[Iterable[str]], bool], now: float) -> bool:
        """Find out whose work can be done.

        Arguments:
            have: whether there is somebody for each of these skills.
            now: on the loop's clock.
        Returns:
            whether the catalog has become another.
        """
        changed = False
        for one in self._offered.values():
            if have(one.needs):
                one.since = None
            elif one.since is None:
                one.since = now
            withdrawn = one.since is not None and now - one.since >= WITHDRAWN_AFTER_S
            changed |= withdrawn != one.withdrawn
            one.withdrawn = withdrawn
        if changed:
            self._sequence += 1
        return changed

    def credits(self) -> Mapping[str, int]:
        """How many tasks of each offering may be held; none of what nobody can do."""
        return {name: self._most if one.since is None else 0 for name, one in self._shown()}

    def catalog(self) -> worker_pb2.Catalog:
        """All of it, as the parent is told."""
        catalog = worker_pb2.Catalog(sequence=self._sequence)
        granted = self.credits()
        for name, one in self._shown():
            catalog.offerings.add().CopyFrom(one.message)
            catalog.offerings[-1].credits = granted[name]
        return catalog

    def _shown(self) -> list[tuple[str, _Offered]]:
        return [(name, one) for name, one in self._offered.items() if not one.withdrawn]

    def may_repeat(self, blueprint: str, state: str) -> bool:
        """Whether a job that failed in this state may be tried again by the parent, as its blueprint says."""
        found = self._blueprints.get(blueprint)
        return found is not None and state in found.states and found.states[state].retry

    def violation(self, blueprint: str, result: object) -> str:
        """What a result breaks of what its blueprint says that it returns; empty when it keeps it."""
        found = self._contracts.violations(self._outputs.get(blueprint, ""), result, "result")
        return f"{found[0].field} {found[0].reason}" if found else ""


def _payload(schema: dict[str, object]) -> types_pb2.Payload:
    return types_pb2.Payload(data=orjson.dumps(schema))
