"""The domain: what a task needs of a worker, what a worker offers, and whether the two fit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import force_setattr

from holon.domain.costs import Cost
from holon.domain.fleet import Machine
from holon.domain.policy import Allowed
from holon.domain.resources import has_all
from holon.domain.value import Value

ANY_CONTRACT = ""


class Need(Value):
    """What a task needs: a skill, a version and type of it if it says so, and a contract that accepts its params.

    `contracts` are the ids, in order, of the contracts of the skill that accept the params, `refused` of those that do
    not: a contract in neither has not been tried yet. `ANY_CONTRACT`, the contract of a skill without an input schema,
    accepts everything and is not listed. `allowed_skills` are what may be used to do it: only who keeps to such a limit
    can. `max_cost` is what it may cost: only who declares a price, and none above it, can. `statuses` are the words, in
    order, that its job goes on by beside those that every worker has: who declares words of its own has to declare all
    of these. `resources` are what the machine must have that does it, as `requirement` of the resources says it; empty:
    nothing. `strategy` is how one is chosen among those that have room, and `hint` what it is good to have there
    already; empty: nothing is said. `key` is the match key, made of all these, whatever is given: equal only for tasks
    that the same workers can do.
    """

    skill: str
    version: str = ""
    type: str = ""
    contracts: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    allowed_skills: Allowed = None
    max_cost: Cost = None
    statuses: tuple[str, ...] = ()
    resources: str = ""
    strategy: str = ""
    hint: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        text = "\x1f".join((self.skill, self.version, self.type, *self.contracts, "", *self.refused))
        if self.allowed_skills is not None:
            # Names of any characters, escaped, so that they do not run into each other.
            text += "\x1e" + ascii(self.allowed_skills)
        if self.max_cost is not None:
            text += f"\x1d{self.max_cost}"
        if self.statuses:
            text += "\x1c" + ascii(self.statuses)
        if self.resources:
            text += "\x1b" + self.resources
        if self.strategy or self.hint:
            text += "\x1a" + ascii((self.strategy, self.hint))
        force_setattr(self, "key", hashlib.blake2b(text.encode(), digest_size=12).hexdigest())


class Asking(Protocol):
    """What asks for a worker: a need, or a task that is offered for one, with the fields of `Need`."""

    @property
    def skill(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def contracts(self) -> tuple[str, ...]: ...

    @property
    def allowed_skills(self) -> Allowed: ...

    @property
    def max_cost(self) -> Cost: ...

    @property
    def statuses(self) -> tuple[str, ...]: ...

    @property
    def resources(self) -> str: ...


class Offering(Value, array_like=False):
    """One skill that a worker offers, as far as matching is concerned. `contract` is the id of its input schema.

    `keeps_limits`: whoever does a task for it uses no other skills than the task allows; a plain worker uses none.
    `price` is what a task of it costs; None: that is not declared, or whoever does it keeps to no budget. `statuses`
    are the words of its own that it may end with; none: it does not say.
    """

    skill: str
    version: str = ""
    type: str = ""
    contract: str = ANY_CONTRACT
    keeps_limits: bool = True
    price: Cost = None
    statuses: frozenset[str] = frozenset()


def fits(need: Asking, offering: Offering, machines: Sequence[Machine] = ()) -> bool:
    """Whether a worker with this offering, on one of these machines, may do a task with this need."""
    return (
        need.skill == offering.skill
        and need.version in ("", offering.version)
        and need.type in ("", offering.type)
        and (need.allowed_skills is None or offering.keeps_limits)
        and (need.max_cost is None or (offering.price is not None and offering.price <= need.max_cost))
        and (offering.contract == ANY_CONTRACT or offering.contract in need.contracts)
        and (not need.statuses or not undeclared(need, offering))
        and (not need.resources or has_all(machines, need.resources))
    )


def undeclared(need: Asking, offering: Offering) -> list[str]:
    """The statuses that a task's job goes on by, and that a worker with this offering never says."""
    declared = offering.statuses
    return [one for one in need.statuses if one not in declared] if declared else []
