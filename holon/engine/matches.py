"""Matches: which live sessions can do which need, found once for each of both; and who may have room, in turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import islice

from holon.domain.matching import Need
from holon.engine.choosing import MOST_COMPARED, SOFT_LIMIT, Choosing
from holon.engine.queued import Queued
from holon.engine.session import Session, business
from holon.engine.waits import Said

# Among so many sessions with room, taken in turn, the least busy gets a new task.
LOOK_AT = 4
# Of more match keys than this, those that nothing waits behind are forgotten; they are learned again when they return.
MOST_NEEDS = 1_000


class Matches:
    """The live sessions, and the needs that are known by their match keys.

    Arguments:
        said: is told of skills that somebody can do now, and of needs that are forgotten.
        soft_limit: as in `rank` of the strategies.
    """

    def __init__(self, said: Said, soft_limit: int = SOFT_LIMIT) -> None:
        self.sessions: dict[str, Session] = {}
        self._said = said
        self._needs: dict[str, Need] = {}
        # By skill, the match keys of what needs it, and the sessions that offer it: there may be thousands of both. And
        # what each session was found to offer.
        self._keys: dict[str, set[str]] = {}
        self._offering: dict[str, dict[str, Session]] = {}
        self._skills: dict[str, frozenset[str]] = {}
        self._fitting: dict[str, dict[str, Session]] = {}
        # By match key, those of the fitting sessions that may have room, in turn. One that has none is dropped when
        # it is looked at, and comes back when it has.
        self._open: dict[str, dict[str, Session]] = {}
        self._most = MOST_NEEDS
        self.choosing = Choosing(soft_limit)

    def __repr__(self) -> str:
        return f"Matches(sessions={len(self.sessions)}, needs={len(self._needs)})"

    def __len__(self) -> int:
        return len(self._needs)

    def __contains__(self, key: str) -> bool:
        return key in self._needs

    def __getitem__(self, key: str) -> Need:
        return self._needs[key]

    # Sessions ----------------------------------------------------------------------------------------------------

    def match(self, session: Session) -> None:
        """A session is there, or offers other skills than before."""
        self.sessions[session.session_id] = session
        self._offers(session, session.skills)
        self.choosing.loaded(session, session.hot)
        before = session.fits
        session.fit_none()
        for skill in session.skills:
            for key in self._keys.get(skill, ()):
                if session.can(self._needs[key]):
                    session.fit(key, skill)
        for key in before - session.fits:
            self._fitting[key].pop(session.session_id, None)
            self._open[key].pop(session.session_id, None)
        for key in session.fits:
            self._fitting[key][session.session_id] = session
        session.shut = set(session.fits)
        self._said.offered(session.skills)
        for key in session.fits:
            self._said.came(self._needs[key].skill)

    def changed_elsewhere(self, can_do: Callable[[Need], bool]) -> None:
        """Workers of other nodes have come, gone, or offer other things.

        Arguments:
            can_do: whether one of them can do a task with this need.
        """
        for skill, keys in list(self._said.keys.items()):
            if any(key in self._needs and can_do(self._needs[key]) for key in keys):
                self._said.came(skill)

    def remove(self, session: Session) -> None:
        """A session has ended."""
        self.sessions.pop(session.session_id, None)
        self._offers(session, frozenset())
        self.choosing.loaded(session, frozenset())
        for key in session.fits:
            self._fitting[key].pop(session.session_id, None)
            self._open[key].pop(session.session_id, None)
        # One that was replaced ends once more when its stream does: some of these needs may be forgotten by then.
        session.fit_none()
        session.shut = set()

    def _offers(self, session: Session, skills: frozenset[str]) -> None:
        """A session offers these skills from now on; none: it is not there any more."""
        session_id = session.session_id
        before = self._skills.pop(session_id, frozenset())
        for skill in before - skills:
            del self._offering[skill][session_id]
            if not self._offering[skill]:
                del self._offering[skill]
        for skill in skills - before:
            self._offering.setdefault(skill, {})[session_id] = session
        if skills:
            self._skills[session_id] = skills

    def reopen(self, session: Session) -> None:
        """A session may have room: it takes its place at the end of each turn that it has none in."""
        if session.shut and session.free > 0:
            for key in session.shut:
                self._open[key].setdefault(session.session_id, session)
            session.shut.clear()

    # Needs -------------------------------------------------------------------------------------------------------

    def knows_enough(self) -> bool:
        """Whether so many needs are known that some are to be forgotten before another is learned."""
        return len(self._needs) >= self._most

    def learn(self, need: Need) -> None:
        """Know of a need that is not known, and which sessions can do it."""
        key = need.key
        self._needs[key] = need
        self.choosing.learn(need)
        self._keys.setdefault(need.skill, set()).add(key)
        fitting = {one.session_id: one for one in self.offering(need.skill) if one.can(need)}
        for session in fitting.values():
            session.fit(key, need.skill)
        self._fitting[key] = fitting
        self._open[key] = dict(fitting)
        if fitting:
            self._said.can(need.skill)

    def forget_all_but(self, kept: Collection[str]) -> None:
        """Forget the needs that are not behind one of these match keys."""
        for key in self._needs.keys() - kept:
            skill = self._needs.pop(key).skill
            for session in self._fitting.pop(key).values():
                session.fit_not(key, skill)
                session.shut.discard(key)
            self._said.forget(key, skill)
            self._keys[skill].discard(key)
            if not self._keys[skill]:
                del self._keys[skill]
            del self._open[key]
            self.choosing.forget(key)
        # Far more than are left, so that this stays rare however many wait.
        self._most = MOST_NEEDS + 2 * len(self._needs)

    # Both --------------------------------------------------------------------------------------------------------

    def offering(self, skill: str) -> Collection[Session]:
        """The sessions that offer a skill, in whatever version and type."""
        return self._offering.get(skill, {}).values()

    def fitting(self, key: str) -> Collection[Session]:
        """The sessions that can do what is behind a match key, with room or without."""
        return self._fitting[key].values()

    def with_room(self, keys: Queued) -> list[Session]:
        """The sessions with room that can do what is behind one of these match keys, the least busy first."""
        found: Iterable[Session]
        most = len(self.sessions)
        if len(keys) > most or sum([len(self._open[key]) for key in keys]) > most:
            found = [one for one in self.sessions.values() if one.free > 0 and keys.any_of(one.fits)]
        else:
            found = {one.session_id: one for key in keys for one in self._open[key].values() if one.free > 0}.values()
        key = self.choosing.first(keys, self._keys)
        return sorted(found, key=business) if key is None else self.choosing.in_order(self._needs[key], found)

    def chosen(self, need: Need, left: int) -> list[tuple[Session, int]]:
        """Who gets so many new tasks of a known need that chooses; whoever does goes to the end of the turn."""
        key = need.key
        # Those without room are dropped from it.
        for session in list(islice(self._open[key].values(), MOST_COMPARED)):
            if session.room(need) <= 0:
                self._shut(session, key)
        turn = self._open[key]
        gets = self.choosing.gets(need, list(islice(turn.values(), MOST_COMPARED)), left)
        for session, _ in gets:
            turn[session.session_id] = turn.pop(session.session_id)
        return gets

    def has_room(self, key: str) -> bool:
        """Whether a session with room can do what is behind a match key; those found to have none are dropped."""
        turn, need = self._open[key], self._needs[key]
        full: list[Session] = []
        for session in turn.values():
            if session.room(need) > 0:
                break
            full.append(session)
        for session in full:
            self._shut(session, key)
        return bool(turn)

    def _shut(self, session: Session, key: str) -> None:
        """Drop a session that has no room from a turn, until it is reopened."""
        del self._open[key][session.session_id]
        session.shut.add(key)

    def least_busy(self, key: str) -> tuple[Session, int] | None:
        """The least busy of the next few sessions with room for a match key, which goes to the end of the turn.

        With it how many are in that turn. None: nobody has room.
        """
        turn, need = self._open[key], self._needs[key]
        found: Session | None = None
        least = 0.0
        while turn and found is None:
            for session in list(islice(turn.values(), LOOK_AT)):
                if session.room(need) <= 0:
                    self._shut(session, key)
                    continue
                busy = business(session)
                better = found is None or session.reputation_of(need.skill) > found.reputation_of(need.skill)
                if found is None or busy < least or (busy == least and better):
                    found, least = session, busy
        if found is None:
            return None
        turn[found.session_id] = turn.pop(found.session_id)
        return found, len(turn)

    def only(self, key: str) -> bool:
        """Whether at most one session that takes tasks can do what is behind a match key."""
        taking = 0
        for session in self._fitting[key].values():
            taking += session.taking
            if taking > 1:
                return False
        return True
