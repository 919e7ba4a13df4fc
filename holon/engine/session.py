"""A worker's live session, as the engine knows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import TypeAlias

from holon.domain.costs import Cost
from holon.domain.fleet import Machine, SkillReputation
from holon.domain.matching import ANY_CONTRACT, Asking, Need, Offering, fits
from holon.domain.reputation import BEST
from holon.domain.value import Value, replace
from holon.ports import Offer, WorkerConnection

# The name, version and type of an offering.
Offered: TypeAlias = tuple[str, str, str]
# The machines that provide each offering; those of which that is not said have none that is known.
Machines: TypeAlias = Mapping[Offered, Sequence[Machine]]
UNKNOWN: Machines = MappingProxyType({})
# By offering, of those that declare events, the contracts of these by type.
Events: TypeAlias = Mapping[Offered, Mapping[str, str]]
NO_EVENTS: Events = MappingProxyType({})


class Terms(Value):
    """What a task is offered under: one offering of its worker; a result is judged and charged by it.

    `output` is the contract of its results.
    """

    version: str = ""
    type: str = ""
    price: Cost = None
    output: str = ANY_CONTRACT


class Session:
    """A worker's live session, as the dispatcher knows it.

    `leases` are those that count against its credits, changed by its own methods alone, `accepted` those of them that
    it took; `promised` is what calls to the store under way may add, in all and of offerings that have limits of
    their own. `skills` are the names of those that it offers, in whatever version and type. `past` are the leases
    that a newer session of the same process took over. `terms` are, by lease, those that cannot be told from what is
    offered now. `fits` are the match keys of what it can do, `fits_of` the same by skill. `hot` are the skills that it
    has loaded, `cached` what else is, as tasks may hint at it. `events` are those that it declares now, also for what
    it holds.
    `reputations` are its worker's by skill, where they are below the best; of the `distrusted` skills it gets no tasks.
    """

    def __init__(
        self,
        worker_id: str,
        session_id: str,
        granted: int,
        offerings: Mapping[Offering, str],
        connection: WorkerConnection,
        machines: Machines = UNKNOWN,
    ) -> None:
        self.worker_id = worker_id
        self.session_id = session_id
        self.credits = granted
        self.connection = connection
        self.leases: dict[str, Offer] = {}
        self.terms: dict[str, Terms] = {}
        self.offers(offerings, machines)
        self.past: dict[str, Offer] = {}
        self.accepted: set[str] = set()
        self.instance_id = ""
        self.moved_to = ""
        self.is_holon = False
        self.keeps_limits = True
        self.keeps_budgets = True
        self.keeps_resources = True
        self.promised = 0
        self.taking = True
        self.stands({})
        self.hot: frozenset[str] = frozenset()
        self.cached: frozenset[str] = frozenset()
        self.events = NO_EVENTS
        self.fits: set[str] = set()
        self.fits_of: dict[str, set[str]] = {}
        self.shut: set[str] = set()
        self.limits: dict[Offered, int] = {}
        self.promised_of: Counter[Offered] = Counter()
        # By offering, how many of the leases are made under it, where there are limits.
        self._held: Counter[Offered] = Counter()
        self._granted: dict[Offered, int | None] = {}
        # By the match key and the size of a promise, under which offerings: these may be others when it is over.
        self._promises: dict[tuple[str, int], list[Offered]] = {}

    def __repr__(self) -> str:
        return f"Session({self.worker_id}, held={len(self.leases)}, credits={self.credits}, taking={self.taking})"

    def offers(self, offerings: Mapping[Offering, str], machines: Machines = UNKNOWN) -> None:
        """What it offers from now on, with the contract of the results of each, and on which machines.

        What it holds stays under the terms that it had.
        """
        for offer in self.leases.values():
            self._note(offer)
        self.offerings = tuple(offerings)
        self._machines = machines
        # By skill; the terms of those that are offered once are all that most tasks ever need.
        self._offered: dict[str, list[tuple[Offering, Terms]]] = {}
        for one, output in offerings.items():
            terms = Terms(one.version, one.type, one.price, output)
            self._offered.setdefault(one.skill, []).append((one, terms))
        self.skills = frozenset(self._offered)
        self._sole = {skill: of_skill[0][1] for skill, of_skill in self._offered.items() if len(of_skill) == 1}
        # Nearly every worker: what a task is offered under is told by its skill, and need not be named to it.
        self._plain = len(self._sole) == len(self.offerings) and not any(
            one.version or one.type for one in self.offerings
        )

    def can(self, need: Asking) -> bool:
        """Whether it may do a task with this need, as far as its reputation and what it offers go."""
        return need.skill not in self.distrusted and self.could(need)

    def could(self, need: Asking) -> bool:
        """The same, whatever its reputation."""
        return any(fits(need, one, self.machines_of(one)) for one, _ in self._offered.get(need.skill, ()))

    def price_of(self, need: Asking) -> Cost:
        """What a task with this need costs, that it can do."""
        if (sole := self._sole.get(need.skill)) is not None:
            return sole.price
        fitting = (one for one, _ in self._offered.get(need.skill, ()) if fits(need, one, self.machines_of(one)))
        return next((one.price for one in fitting), None)

    def machines_of(self, offering: Offering) -> Sequence[Machine]:
        """The machines that provide an offering of its."""
        return self._machines.get((offering.skill, offering.version, offering.type), ()) if self._machines else ()

    def offers_of(self, skill: str) -> list[Offering]:
        """What it offers of a skill."""
        return [one for one, _ in self._offered.get(skill, ())]

    def fit(self, key: str, skill: str) -> None:
        """It can do what is behind a match key."""
        self.fits.add(key)
        self.fits_of.setdefault(skill, set()).add(key)

    def fit_not(self, key: str, skill: str) -> None:
        """Nobody asks for that any more."""
        self.fits.discard(key)
        of_skill = self.fits_of[skill]
        of_skill.discard(key)
        if not of_skill:
            del self.fits_of[skill]

    def fit_none(self) -> None:
        """What it can do is not known, or it is not there any more."""
        self.fits, self.fits_of = set(), {}

    def take(self, offers: Sequence[Offer]) -> Sequence[Offer]:
        """Hold these; answers with what its worker is told: each names the offering that it is made under."""
        if not self._plain:
            offers = [self._named(offer) for offer in offers]
        if self.limits:
            self._held.update([self._made_under(offer) for offer in offers if offer.lease_id not in self.leases])
        self.leases.update({offer.lease_id: offer for offer in offers})
        return offers

    def let_go(self, lease_id: str) -> None:
        """Hold this one no more."""
        offer = self.leases.pop(lease_id, None)
        if offer is not None and self.limits:
            self._held[self._made_under(offer)] -= 1

    def let_go_all(self) -> dict[str, Offer]:
        """Hold nothing any more; answers with what it held."""
        held, self.leases = self.leases, {}
        self._held.clear()
        return held

    def _count(self) -> None:
        """Count anew what it holds of each offering: one with limits may hold thousands, and is asked with each."""
        self._held = Counter(map(self._made_under, self.leases.values())) if self.limits else Counter()

    def _named(self, offer: Offer) -> Offer:
        terms = self._note(offer)
        if terms is None:
            return offer
        return replace(offer, version=terms.version, type=terms.type, asked=(offer.version, offer.type))

    def _note(self, offer: Offer) -> Terms | None:
        terms = self.terms_of(offer)
        if terms is not None:
            self.terms[offer.lease_id] = terms
        return terms

    def terms_of(self, offer: Offer) -> Terms | None:
        """What a task was offered under; None: it does not offer such a skill, nor is known to have."""
        if self.terms and (noted := self.terms.get(offer.lease_id)) is not None:
            return noted
        return self._terms(offer)

    def _terms(self, asking: Asking) -> Terms | None:
        """The first that fit are what a task is offered under, so what is promised to it is what it will have."""
        if (sole := self._sole.get(asking.skill)) is not None:
            return sole
        of_skill = self._offered.get(asking.skill, [])
        fitting = (terms for one, terms in of_skill if fits(asking, one, self.machines_of(one)))
        return next(fitting, of_skill[0][1] if of_skill else None)

    def offering_for(self, asking: Asking) -> Offered:
        """The offering that a task with this need is made under: the limit of that is its own."""
        return _offered(asking.skill, self._terms(asking))

    def _made_under(self, offer: Offer) -> Offered:
        return _offered(offer.skill, self.terms_of(offer))

    def resume(self, kept: Iterable[Offer], older: Session | None) -> None:
        """Go on with these leases, under the terms that they have in an older session, if that is still here."""
        self.leases = {offer.lease_id: offer for offer in kept}
        self.accepted = set(self.leases)
        self._count()
        if older is not None:
            before = {one: older.terms_of(offer) for one, offer in self.leases.items()}
            self.terms = {one: terms for one, terms in before.items() if terms is not None}

    def events_of(self, offer: Offer) -> Mapping[str, str]:
        """The contracts of the events that a task may send, by type; none: it may send any."""
        terms = self.terms_of(offer) if self.events else None
        return {} if terms is None else self.events.get((offer.skill, terms.version, terms.type), {})

    def has_hot(self, skill: str) -> bool:
        """Whether it has a skill loaded."""
        return skill in self.hot

    def has_cached(self, hint: str) -> bool:
        """Whether it has loaded what a task hints at, if that does."""
        return bool(hint) and hint in self.cached

    def offered(self, lease_id: str) -> Offer | None:
        """What its worker was offered under a lease, that a result of it is judged by; None: it is not known here."""
        return self.leases.get(lease_id) or self.past.get(lease_id)

    def stands(self, reputations: Mapping[str, SkillReputation]) -> None:
        """Its worker has these reputations by skill from now on; of other skills it has the best."""
        self.reputations = reputations
        self.distrusted = frozenset([skill for skill, one in reputations.items() if not one.trusted])

    def reputation_of(self, skill: str) -> float:
        """Its worker's reputation for a skill."""
        known = self.reputations.get(skill)
        return BEST if known is None else known.value

    @property
    def shown_reputations(self) -> tuple[SkillReputation, ...]:
        """Those of the skills that it offers, the lowest first."""
        offered = [one for skill, one in self.reputations.items() if skill in self.skills]
        return tuple(sorted(offered, key=lambda one: (one.value, one.skill)))

    @property
    def eligible(self) -> Sequence[Offering]:
        """What it gets tasks of, once it has room."""
        if not self.taking:
            return ()
        if not self.distrusted:
            return self.offerings
        return [one for one in self.offerings if one.skill not in self.distrusted]

    @property
    def free(self) -> int:
        """How many more tasks it can be given."""
        return self.credits - len(self.leases) - self.promised if self.taking else 0

    def left(self, offered: Offered) -> int | None:
        """How many more tasks the limit of an offering allows, however few there may be in all; None: it has none."""
        limit = self.limits.get(offered)
        if limit is None:
            return None
        return limit - self._held[offered] - self.promised_of[offered]

    def left_of(self, skill: str, *, promised: bool) -> int | None:
        """The same of all offerings of a skill together; None: one has no limit.

        Arguments:
            promised: whether what is promised is left too.
        """
        every = [(skill, terms.version, terms.type) for _, terms in self._offered.get(skill, ())]
        lefts = [left for one in every if (left := self.left(one)) is not None]
        if len(lefts) < len(every):
            return None
        return sum(lefts) + (sum([self.promised_of[one] for one in every]) if promised else 0)

    def full(self) -> AbstractSet[Offered]:
        """The offerings whose limit leaves no room."""
        return {one for one in self.limits if (left := self.left(one)) is not None and left <= 0}

    def room(self, need: Asking) -> int:
        """How many more tasks with this need it can be given."""
        free = self.free
        if not self.limits or free <= 0:
            return free
        left = self.left(self.offering_for(need))
        return free if left is None else min(free, left)

    def promise(self, n: int, need: Need) -> None:
        """A call to the store may add so many tasks with this need, or others that are made under the same offering."""
        self.promised += n
        if self.limits:
            offered = self.offering_for(need)
            self.promised_of[offered] += n
            self._promises.setdefault((need.key, n), []).append(offered)

    def unpromise(self, n: int, key: str) -> None:
        """That call is over; the match key is that of the need."""
        self.promised -= n
        if (under := self._promises.get((key, n))) is not None:
            self.promised_of -= Counter({under.pop(): n})
            if not under:
                del self._promises[key, n]

    def grant(self, granted: Mapping[Offered, int | None], *, anew: bool = False) -> bool:
        """How many tasks of single offerings it may hold from now on; answers whether that is something else.

        Arguments:
            granted: None is without a limit; what is no offering of its is passed over.
            anew: these are all of its offerings.
        """
        known = dict(granted) if anew else {one: granted.get(one, self._granted[one]) for one in self._granted}
        if known == self._granted:
            return False
        self._granted, self.limits = known, {one: limit for one, limit in known.items() if limit is not None}
        self._count()
        return True


def _offered(skill: str, terms: Terms | None) -> Offered:
    return (skill, "", "") if terms is None else (skill, terms.version, terms.type)


def business(session: Session) -> float:
    """How much of its credits a session has in use; at 1 it has no room."""
    return (len(session.leases) + session.promised) / max(1, session.credits)
