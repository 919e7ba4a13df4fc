"""Fleets: the workers of the other nodes, as these told of them last: for lists, and for what is said of what waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from holon.domain.fleet import Catalog, Machine, SkillView, WorkerView
from holon.domain.matching import ANY_CONTRACT, Asking, Need, Offering, fits
from holon.domain.value import replace
from holon.engine.fleets.pages import Told
from holon.engine.fleets.stock import Stocked
from holon.engine.offered import skill_views

# Of so many match keys it is remembered who can do them.
MOST_KEYS = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """A worker of another node."""

    told: Told
    stocked: Stocked
    node_id: str

    @property
    def worker_id(self) -> str:
        """Its id."""
        return self.told.worker_id

    @property
    def since(self) -> int:
        """When its session began, in epoch milliseconds."""
        return self.told.connected_at

    @property
    def weight(self) -> int:
        """About how many bytes say all of it."""
        return self.told.weight

    def view(self) -> WorkerView:
        """The worker as its node told of it last."""
        told = self.told
        return WorkerView(
            told.worker_id,
            told.instance_id,
            not told.taking,
            told.credits,
            told.held,
            told.sdk,
            told.labels,
            Catalog(self.stocked.skills, told.machines, frozenset(told.hot), frozenset(told.cached), told.warnings),
            told.connected_at,
            told.last_seen_at,
            told.holon_id,
            told.holon_label,
            told.weight,
            told.reputations,
            told.load,
            self.node_id,
        )


class Alike:
    """Workers of another node that offer the same and take tasks alike; asked as a session is."""

    def __init__(self, stocked: Stocked, *, taking: bool, distrusted: frozenset[str]) -> None:
        self._stocked = stocked
        self.taking = taking
        self.distrusted = distrusted
        # The machines of each of them that has any.
        self.machines: list[Sequence[Machine]] = []

    def __repr__(self) -> str:
        return f"Alike({self._stocked!r}, taking={self.taking}, distrusted={set(self.distrusted)})"

    def can(self, need: Asking) -> bool:
        """As `Session.can`."""
        return need.skill not in self.distrusted and self.could(need)

    def could(self, need: Asking) -> bool:
        """As `Session.could`."""
        offers = self.offers_of(need.skill)
        if need.resources:
            return any(fits(need, one, machines) for one in offers for machines in self._sets_of(one))
        return any(fits(need, one) for one in offers)

    def offers_of(self, skill: str) -> Sequence[Offering]:
        """What they offer of a skill."""
        return self._stocked.offers_of(skill)

    def machines_of(self, offering: Offering) -> Sequence[Machine]:
        """The machines that provide an offering of theirs, at all of them."""
        return [machine for machines in self._sets_of(offering) for machine in machines]

    def _sets_of(self, offering: Offering) -> Iterator[Sequence[Machine]]:
        """The machines that provide an offering, at each of them."""
        key = offering.skill, offering.version, offering.type
        skills = self._stocked.skills if self._stocked.keeps_resources else ()
        for skill in skills:
            if (skill.name, skill.version, skill.type) == key:
                for machines in self.machines:
                    places = skill.machines
                    yield machines if places is None else [machines[one] for one in places if one < len(machines)]


class Roll:
    """The workers of one other node."""

    def __init__(self, node_id: str, shelves: Sequence[tuple[Stocked, Sequence[Told]]]) -> None:
        self.node_id = node_id
        self._shelves = shelves
        # By skill, those who offer it.
        self.offering: dict[str, list[Alike]] = {}
        found: dict[tuple[Stocked, bool, frozenset[str]], Alike] = {}
        for stocked, workers in shelves:
            for one in workers:
                distrusted = frozenset([known.skill for known in one.reputations if not known.trusted])
                key = stocked, one.taking, distrusted
                if (alike := found.get(key)) is None:
                    alike = found[key] = Alike(stocked, taking=one.taking, distrusted=distrusted)
                    for skill in stocked.names:
                        self.offering.setdefault(skill, []).append(alike)
                if one.machines:
                    alike.machines.append(one.machines)
        # What they can do: it stays the same while only how busy they are changes.
        self.abilities = {key: alike.machines for key, alike in found.items()}

    def __repr__(self) -> str:
        return f"Roll({self.node_id}, workers={sum(len(workers) for _, workers in self._shelves)})"

    def workers(self, skill: str) -> Iterator[Row]:
        """Its workers, all or those that offer a skill."""
        for stocked, workers in self._shelves:
            if not skill or skill in stocked.names:
                for one in workers:
                    yield Row(one, stocked, self.node_id)

    def find(self, worker_id: str) -> Row | None:
        """One of them."""
        found = ((one, stocked) for stocked, workers in self._shelves for one in workers if one.worker_id == worker_id)
        return next((Row(one, stocked, self.node_id) for one, stocked in found), None)

    @cached_property
    def skills(self) -> Sequence[SkillView]:
        """What they offer, in the order of lists."""
        return skill_views((stocked.known, workers) for stocked, workers in self._shelves if workers)


class Elsewhere:
    """Knows the workers of the other nodes that tell of theirs.

    Attributes:
        on_change: called when others can do something, or something else; it neither waits nor raises.
    """

    def __init__(self) -> None:
        self._rolls: Sequence[Roll] = ()
        self._fitting: dict[str, Sequence[Alike]] = {}
        self.on_change: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"Elsewhere({list(self._rolls)})"

    @property
    def any(self) -> bool:
        """Whether there are other nodes, with workers or without."""
        return bool(self._rolls)

    @property
    def rolls(self) -> Sequence[Roll]:
        """The workers of each; other objects once they are others."""
        return self._rolls

    def are(self, rolls: Mapping[str, Roll]) -> None:
        """The other nodes have told of these from now on, by node."""
        before, self._rolls = self._rolls, tuple(rolls.values())
        if [one.abilities for one in before] != [one.abilities for one in self._rolls]:
            # Each match key that waits is looked at anew, and there may be thousands: not for how busy somebody is.
            self._fitting.clear()
            self.on_change()

    def offering(self, skill: str) -> list[Alike]:
        """Those who offer a skill, in whatever version and type."""
        return [one for roll in self._rolls for one in roll.offering.get(skill, ())]

    def asked(self, need: Need) -> Need:
        """A need as it is asked here: what nobody has tried its params on yet may take them.

        A node knows the contracts of its own workers alone, and tries what others have made on these.
        """
        offers = (offer for one in self.offering(need.skill) for offer in one.offers_of(need.skill))
        untried = {offer.contract for offer in offers}.difference((ANY_CONTRACT,), need.refused, need.contracts)
        return replace(need, contracts=(*need.contracts, *sorted(untried))) if untried else need

    def fitting(self, need: Need) -> Sequence[Alike]:
        """Those who can do a task with this need, with room or without."""
        if not self._rolls:
            return ()
        found = self._fitting.get(need.key)
        if found is None:
            if len(self._fitting) >= MOST_KEYS:
                self._fitting.clear()
            asked = self.asked(need)
            found = self._fitting[need.key] = [one for one in self.offering(need.skill) if one.can(asked)]
        return found

    def can_do(self, need: Need) -> bool:
        """Whether one of them that takes tasks could do one with this need, now or once it has room."""
        return any(one.taking for one in self.fitting(need))

    def find(self, worker_id: str) -> Row | None:
        """One of them; of a worker that has moved, where it is now."""
        found = [row for roll in self._rolls if (row := roll.find(worker_id)) is not None]
        return max(found, key=lambda row: row.since, default=None)
