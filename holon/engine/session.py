"""A worker's live session, as the engine knows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from holon.domain.matching import Offering
from holon.ports import Offer, WorkerConnection

# The name, version and type of an offering.
Offered: TypeAlias = tuple[str, str, str]


class Session:
    """A worker's live session, as the dispatcher knows it.

    `leases` are those that count against its credits, `accepted` those of them that it took; `promised` is what calls
    to the store under way may add, in all and of skills that have limits of their own. `prices` are those that are
    declared, by skill, and `output_contracts` what a success must keep. `past` are the leases that a newer session of
    the same process took over.
    """

    def __init__(
        self,
        worker_id: str,
        session_id: str,
        granted: int,
        offerings: Sequence[Offering],
        connection: WorkerConnection,
    ) -> None:
        self.worker_id = worker_id
        self.session_id = session_id
        self.credits = granted
        self.offers(offerings)
        self.connection = connection
        self.output_contracts: Mapping[str, str] = {}
        self.leases: dict[str, Offer] = {}
        self.past: dict[str, Offer] = {}
        self.accepted: set[str] = set()
        self.instance_id = ""
        self.moved_to = ""
        self.is_holon = False
        self.keeps_limits = True
        self.keeps_budgets = True
        self.promised = 0
        self.taking = True
        self.fits: set[str] = set()
        self.limits: dict[str, int] = {}
        self.promised_of: Counter[str] = Counter()
        self._granted: dict[Offered, int | None] = {}

    def __repr__(self) -> str:
        return f"Session({self.worker_id}, held={len(self.leases)}, credits={self.credits}, taking={self.taking})"

    def offers(self, offerings: Sequence[Offering]) -> None:
        """What it offers from now on."""
        self.offerings = tuple(offerings)
        self.prices: dict[str, int] = {}
        for one in self.offerings:
            if one.price is not None:
                self.prices[one.skill] = max(one.price, self.prices.get(one.skill, 0))

    def offered(self, lease_id: str) -> Offer | None:
        """What its worker was offered under a lease, that a result of it is judged by; None: it is not known here."""
        return self.leases.get(lease_id) or self.past.get(lease_id)

    @property
    def free(self) -> int:
        """How many more tasks it can be given."""
        return self.credits - len(self.leases) - self.promised if self.taking else 0

    def left(self, skill: str) -> int | None:
        """How many more tasks the limit of a skill allows, however few there may be in all; None: it has no limit."""
        limit = self.limits.get(skill)
        if limit is None:
            return None
        held = sum(offer.skill == skill for offer in self.leases.values())
        return limit - held - self.promised_of[skill]

    def room(self, skill: str) -> int:
        """How many more tasks of a skill it can be given."""
        free = self.free
        if not self.limits or free <= 0:
            return free
        left = self.left(skill)
        return free if left is None else min(free, left)

    def grant(self, granted: Mapping[Offered, int | None], *, anew: bool = False) -> bool:
        """How many tasks of single offerings it may hold from now on; answers whether that is something else.

        Arguments:
            granted: None is without a limit; what is no offering of its is passed over.
            anew: these are all of its offerings.
        """
        known = dict(granted) if anew else {one: granted.get(one, self._granted[one]) for one in self._granted}
        if known == self._granted:
            return False
        self._granted, self.limits = known, {}
        free = {skill for (skill, _, _), limit in known.items() if limit is None}
        for (skill, _, _), limit in known.items():
            if limit is not None and skill not in free:
                self.limits[skill] = self.limits.get(skill, 0) + limit
        return True


def business(session: Session) -> float:
    """How much of its credits a session has in use; at 1 it has no room."""
    return (len(session.leases) + session.promised) / max(1, session.credits)
