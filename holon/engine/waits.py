"""Why tasks wait, in words; and what was said of those that nobody here can do, so that it is said once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection

from holon.domain.matching import Need
from holon.engine.session import Session

log = logging.getLogger(__name__)


def why(need: Need, fitting: Collection[Session], sessions: Collection[Session]) -> str:
    """Why a task with this need waits, in a sentence; empty where it is about to be given to somebody.

    Arguments:
        fitting: those of the sessions that can do it.
        sessions: all of this node.
    """
    taking = [session for session in fitting if session.taking]
    if any(session.room(need.skill) > 0 for session in taking):
        return (
            f"waiting: a worker with skill {need.skill!r} has room; one that gave it back, failed it, or reads no "
            "message so large is asked later"
        )
    if any(session.promised and len(session.leases) < session.credits for session in taking):
        return ""
    if taking:
        return f"waiting: every worker with skill {need.skill!r} is busy"
    if fitting:
        return f"waiting: every worker with skill {need.skill!r} is draining"
    offered = [one for session in sessions for one in session.offerings if one.skill == need.skill]
    if not offered:
        return f"waiting: no worker connected to this node offers skill {need.skill!r}"
    if need.allowed_skills is not None and not any(one.keeps_limits for one in offered):
        return f"waiting: every holon with skill {need.skill!r} is of a release that keeps to no allowed_skills"
    if need.max_cost is not None and all(one.price is None or one.price > need.max_cost for one in offered):
        return (
            f"waiting: no worker connected to this node with skill {need.skill!r} declares a price within "
            f"max_cost {need.max_cost}"
        )
    if any(need.version in ("", one.version) and need.type in ("", one.type) for one in offered):
        return f"waiting: no worker connected to this node with skill {need.skill!r} accepts these params"
    return f"waiting: no worker connected to this node offers skill {need.skill!r} in the version or type asked for"


class Said:
    """What was logged of tasks that nobody here can do.

    It is said once for a skill until somebody comes who can: match keys change with the contracts that are known, and
    what is said is the same.
    """

    def __init__(self) -> None:
        # By skill, the match keys of such tasks, and what was said of these.
        self._keys: defaultdict[str, set[str]] = defaultdict(set)
        self._words: defaultdict[str, set[str]] = defaultdict(set)

    def __repr__(self) -> str:
        return f"Said(skills={len(self._keys)})"

    def has(self, need: Need) -> bool:
        """Whether it was said of tasks with this need."""
        return need.key in self._keys.get(need.skill, ())

    def say(self, need: Need, reason: str) -> None:
        """Say it, for such a reason."""
        words = self._words[need.skill]
        self._keys[need.skill].add(need.key)
        if reason not in words:
            words.add(reason)
            log.warning("tasks wait: %s", reason.removeprefix("waiting: "), extra={"match_key": need.key})

    def came(self, skill: str) -> None:
        """Somebody is here who can do tasks of a skill: once nobody is, that is said again."""
        self._keys.pop(skill, None)
        self._words.pop(skill, None)

    def forget(self, key: str, skill: str) -> None:
        """Nothing waits with this match key any more."""
        keys = self._keys.get(skill)
        if keys is not None:
            keys.discard(key)
            if not keys:
                self.came(skill)
