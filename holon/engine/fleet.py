"""The fleet: the workers with a live session at this node, what they say of themselves, and who of them is drained."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from holon.domain.fleet import Catalog, Machine, Skill, SkillView, WorkerView
from holon.domain.holarchy import HolonIdentity
from holon.domain.load import Load
from holon.domain.matching import Offering
from holon.domain.reputation import rounded
from holon.engine.dispatcher import Dispatcher
from holon.engine.offered import Known, known, skill_views, weight_of
from holon.engine.session import Session
from holon.errors import NotFound

log = logging.getLogger(__name__)

MAX_REASON = 256


@dataclass(slots=True)
class Present:
    """A live session, and what its worker says of itself. Times are epoch milliseconds."""

    session: Session
    sdk: str
    labels: Mapping[str, str]
    catalog: Catalog
    known: tuple[Known, ...]
    said_weight: int
    since: int
    heard: int
    holon: HolonIdentity | None = None
    node_id: str = ""
    leaving: bool = False
    load: Load | None = None

    @property
    def worker_id(self) -> str:
        """Whose it is."""
        return self.session.worker_id

    @property
    def weight(self) -> int:
        """About how many bytes say all of it but its load."""
        return self.said_weight + sum([one.weight for one in self.session.reputations.values()])

    def view(self) -> WorkerView:
        """The worker as it is now."""
        session = self.session
        return WorkerView(
            session.worker_id,
            session.instance_id,
            not session.taking,
            session.credits,
            len(session.leases),
            self.sdk,
            self.labels,
            self.catalog,
            self.since,
            self.heard,
            self.holon.holon_id if self.holon is not None else "",
            self.holon.label if self.holon is not None else "",
            self.weight + (self.load.weight if self.load is not None else 0),
            tuple([rounded(one) for one in session.shown_reputations]),
            self.load,
            self.node_id,
        )


class Fleet:
    """Knows who is there, and takes tasks: who is drained, the store keeps (`holon.engine.fleets.drained`).

    Arguments:
        now: the store's clock, in epoch milliseconds.
        node_id: this node's.

    Attributes:
        now: as it was given.
        changes: another number once workers came, went, offer other things, or take tasks where they took none.
        on_change: called then; it neither waits nor raises.
    """

    def __init__(self, dispatcher: Dispatcher, now: Callable[[], int], node_id: str = "") -> None:
        self._dispatcher = dispatcher
        self.now = now
        self._node_id = node_id
        self._present: dict[str, Present] = {}
        # The workers that are drained, here or not, each with the process that it was then.
        self._drained: dict[str, str] = {}
        self._draining = False
        self._ends = 0
        self.changes = 0
        self.on_change: Callable[[], None] = lambda: None
        # How many workers offer a skill of each name.
        self._named: Counter[str] = Counter()
        # What is told of all workers together, until one of them comes, goes, or offers other things.
        self._names: frozenset[str] | None = None
        self._machines: list[Machine] | None = None
        self._skills: list[SkillView] | None = None

    def __repr__(self) -> str:
        return f"Fleet(workers={len(self._present)}, drained={len(self._drained)})"

    def __len__(self) -> int:
        return len(self._present)

    # What sessions say -------------------------------------------------------------------------------------------

    def joined(
        self,
        session: Session,
        sdk: str,
        labels: Mapping[str, str],
        catalog: Catalog,
        holon: HolonIdentity | None = None,
    ) -> None:
        """A session has opened; it replaces an older one of the same worker."""
        now = self.now()
        before = self._present.get(session.worker_id)
        self._changed(None if before is None else before.catalog, catalog)
        weight = _weight(session, sdk, labels, catalog, holon)
        present = Present(session, sdk, labels, catalog, known(catalog), weight, now, now, holon, self._node_id)
        self._present[session.worker_id] = present
        session.taking = self._may_take(present)

    def offers(self, session: Session, catalog: Catalog) -> None:
        """A worker offers other things than before."""
        if (present := self._of(session)) is not None:
            self._changed(present.catalog, catalog)
            present.catalog, present.known = catalog, known(catalog)
            present.said_weight = _weight(session, present.sdk, present.labels, catalog, present.holon)

    def heard(self, session: Session, load: Load | None = None) -> None:
        """A worker gave a sign of life, and said how busy its machine is; None: it said nothing of that."""
        if (present := self._of(session)) is not None:
            present.heard = self.now()
            present.load = load or present.load

    def leaving(self, session: Session) -> None:
        """A worker takes no more tasks and will leave; nobody else can take that back."""
        session.taking = False
        self._change()
        if (present := self._of(session)) is not None:
            present.leaving = True

    def left(self, session: Session) -> None:
        """A session has ended."""
        if (present := self._of(session)) is not None:
            del self._present[session.worker_id]
            self._changed(present.catalog, None)

    def regarded(self, session: Session, *, changed: bool, failed: bool) -> None:
        """A worker's reputations have moved.

        Arguments:
            changed: it gets tasks where it got none, or the other way round.
            failed: the reasons for one have changed, and other nodes are to know soon.
        """
        if self._of(session) is not None:
            self._skills = None
            if changed:
                self._change()
            elif failed:
                self.on_change()

    def all_leaving(self, time_left: int) -> None:
        """This node goes within so many milliseconds: nobody gets a task from it any more."""
        self._draining = True
        self._ends = self.now() + time_left
        self._change()
        for present in self._present.values():
            present.session.taking = False

    @property
    def time_left(self) -> int:
        """How many milliseconds are left to this node; after `all_leaving`."""
        return max(0, self._ends - self.now())

    def _change(self) -> None:
        self.changes += 1
        self.on_change()

    def _of(self, session: Session) -> Present | None:
        present = self._present.get(session.worker_id)
        return present if present is not None and present.session is session else None

    # What operators ask ------------------------------------------------------------------------------------------

    def find(self, worker_id: str) -> Present | None:
        """A worker; None: it has no session here."""
        return self._present.get(worker_id)

    def present(self, worker_id: str) -> Present:
        """A worker.

        Raises:
            NotFound: (WORKER_NOT_FOUND) it has no session here.
        """
        present = self._present.get(worker_id)
        if present is None:
            raise not_connected(worker_id)
        return present

    def workers(self, skill: str = "") -> list[Present]:
        """The workers, all or those that offer a skill."""
        return [
            one
            for one in self._present.values()
            if not skill or any(offered.name == skill for offered in one.catalog.skills)
        ]

    def skills(self) -> Sequence[SkillView]:
        """What they offer, in the order of lists."""
        if self._skills is None:
            self._skills = skill_views((one.known, [one.session]) for one in self._present.values())
        return self._skills

    def _changed(self, before: Catalog | None, after: Catalog | None) -> None:
        """A worker offers something else; None: it was not, or is not any more, there."""
        self._change()
        self._names = self._machines = self._skills = None
        if before is not None:
            for name in _names_of(before):
                self._named[name] -= 1
                if not self._named[name]:
                    del self._named[name]
        if after is not None:
            self._named.update(_names_of(after))

    def names(self) -> frozenset[str]:
        """The skills that some worker offers."""
        if self._names is None:
            self._names = frozenset(self._named)
        return self._names

    def offers_of(self, names: Collection[str]) -> dict[str, list[Skill]]:
        """Some skills as each worker offers them, by name; none of a skill that nobody does."""
        found: dict[str, list[Skill]] = {}
        for present in self._present.values():
            for one in present.catalog.skills:
                if one.name in names:
                    found.setdefault(one.name, []).append(one)
        return found

    def offerings(self) -> frozenset[Offering]:
        """What the plain workers that take tasks offer, as far as matching is concerned, each once."""
        sessions = [present.session for present in self._present.values() if present.holon is None]
        return frozenset(one for session in sessions for one in session.eligible)

    def holons(self) -> Mapping[str, frozenset[Offering]]:
        """The same of each worker that is a holon, by worker id; of one that takes no tasks nothing."""
        sessions = [present.session for present in self._present.values() if present.holon is not None]
        return {one.worker_id: frozenset(one.eligible) for one in sessions}

    def equipped(self) -> Iterator[tuple[str, Sequence[Machine], frozenset[Offering]]]:
        """What those who take tasks offer on which machines, with their worker id where they are holons."""
        for present in self._present.values():
            session = present.session
            if not present.catalog.machines:
                continue
            found: dict[tuple[int, ...], tuple[Sequence[Machine], set[Offering]]] = {}
            for one in session.eligible:
                machines = session.machines_of(one)
                found.setdefault(tuple(map(id, machines)), (machines, set()))[1].add(one)
            for machines, offers in found.values():
                yield session.worker_id if present.holon is not None else "", machines, frozenset(offers)

    def machines(self) -> list[Machine]:
        """The machines behind all workers, each kind once."""
        if self._machines is None:
            found: dict[str, Machine] = {}
            for present in self._present.values():
                for machine in present.catalog.machines:
                    found.setdefault(repr(machine), machine)
            self._machines = list(found.values())
        return self._machines

    def drain(self, asked: Present, reason: str) -> WorkerView:
        """Give a worker no more tasks until it starts again, or `undrain`; what it holds it goes on with.

        It may have left, or have started again, since it was `asked` for. Answers with the worker as it is now.
        """
        worker_id = asked.worker_id
        present = self._present.get(worker_id, asked)
        self._drained[worker_id] = asked.session.instance_id
        self._follow(present)
        log.info("worker %s drains: %r", worker_id, reason[:MAX_REASON], extra={"worker_id": worker_id})
        return present.view()

    def undrain(self, worker_id: str, known: str | None = None) -> WorkerView:
        """Take a drain back; a worker that leaves by itself, or whose node does, gets no tasks all the same.

        Arguments:
            known: the process that was drained, where that was known elsewhere only.
        Raises:
            NotFound: (WORKER_NOT_FOUND) it has no session here, and was not drained.
        """
        known = self._drained.pop(worker_id, known)
        present = self._present.get(worker_id)
        if present is None:
            if known is None:
                raise not_connected(worker_id)
            return WorkerView(worker_id, known)
        self._follow(present)
        log.info("worker %s no longer drains", worker_id, extra={"worker_id": worker_id})
        return present.view()

    def drained_are(self, drained: Mapping[str, str]) -> None:
        """These workers are drained now, each with the process that it was then, and no others."""
        before, self._drained = self._drained, dict(drained)
        for worker_id, _ in before.items() ^ drained.items():
            if (present := self._present.get(worker_id)) is not None:
                self._follow(present)

    def _follow(self, present: Present) -> None:
        """A worker takes tasks, or none, from now on, as it is drained or not."""
        session, taking = present.session, self._may_take(present)
        if session.taking != taking:
            session.taking = taking
            self._change()
            if taking:
                self._dispatcher.has_room(session)

    def _may_take(self, present: Present) -> bool:
        session = present.session
        return not (present.leaving or self._draining or self._drained.get(session.worker_id) == session.instance_id)


def _names_of(catalog: Catalog) -> frozenset[str]:
    return frozenset([skill.name for skill in catalog.skills])


def _weight(
    session: Session, sdk: str, labels: Mapping[str, str], catalog: Catalog, holon: HolonIdentity | None
) -> int:
    of_holon = (holon.holon_id, holon.label) if holon is not None else ()
    return weight_of(catalog, labels, session.worker_id, session.instance_id, sdk, *of_holon)


def not_connected(worker_id: str) -> NotFound:
    """What is said of a worker that has no session."""
    return NotFound(f"no worker {worker_id[:128]!r} is connected", code="WORKER_NOT_FOUND")
