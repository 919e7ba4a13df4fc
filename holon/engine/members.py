"""What the engine knows of a worker while it has a session: what it said when it came, and what it holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from holon.domain.fleet import Catalog, Proof
from holon.domain.holarchy import HolonIdentity
from holon.domain.value import Value, field
from holon.engine.session import Session
from holon.ports import Offer, Opened, Superseded


class Joining(Value, gc=True):
    """What a worker says when it opens a session.

    `resumed` are the (task, lease) pairs that it still holds. `instance_id` names its process, if it likes: a process
    that moves to a new stream does not replace itself. `sdk` and `labels` are for people.
    `lease` and `execution` are as in `Opening`. `holon` is the holon that it is; None: a plain worker.
    `keeps_limits` is as in `Offering`; `keeps_budgets`: all that it has done for a task costs no more than that may.
    `keeps_resources`: what a task requires of a machine, the one that does it has, here and below. `proof` is what
    proved the worker's id.
    """

    worker_id: str
    credits: int
    catalog: Catalog
    resumed: Sequence[tuple[str, str]] = ()
    instance_id: str = ""
    sdk: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    lease: int | None = None
    execution: int | None = None
    holon: HolonIdentity | None = None
    keeps_limits: bool = True
    keeps_budgets: bool = True
    keeps_resources: bool = True
    proof: Proof = Proof.SHARED_TOKEN


@dataclasses.dataclass(slots=True)
class Member:
    """A worker's open session, for its door. `held` gives back all contracts, `warnings` are of its first catalog."""

    session: Session
    opened: Opened
    held: ExitStack = dataclasses.field(default_factory=ExitStack)
    warnings: Sequence[str] = ()

    @property
    def resumed(self) -> Sequence[Offer]:
        """The leases that go on."""
        return self.opened.kept

    @property
    def dropped(self) -> Sequence[tuple[str, str, Superseded]]:
        """The leases that do not, and why."""
        return self.opened.dropped
