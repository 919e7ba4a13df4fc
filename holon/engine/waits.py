"""Why jobs and tasks wait, in words; and what was said of those that nobody can do, so that it is said once."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Protocol

from holon.domain.children import RUN_BLUEPRINT
from holon.domain.fleet import Machine
from holon.domain.job import Status
from holon.domain.matching import ANY_CONTRACT, Asking, Need, Offering, undeclared
from holon.domain.resources import missing
from holon.domain.task import COMMON_STATUSES
from holon.domain.texts import clipped, meant
from holon.engine.fleets.elsewhere import Elsewhere
from holon.ports import JobRecord

log = logging.getLogger(__name__)

# Of so many match keys it is remembered.
MOST_REASONS = 1_000
# No parent takes more of a progress message, in bytes.
_LONGEST = 1_024
# What is said in words of a job that does this one's task, in this holon or in one below, while it waits itself.
_WAITS_BELOW = re.compile(r"(in (job \S+|a holon below): )+waiting|waiting in a holon below$")


class Provider(Protocol):
    """Who offers skills: a session here, or workers of another node. Each is as of `Session`."""

    @property
    def taking(self) -> bool: ...

    @property
    def distrusted(self) -> AbstractSet[str]: ...

    def could(self, need: Asking) -> bool: ...

    def offers_of(self, skill: str) -> Sequence[Offering]: ...

    def machines_of(self, offering: Offering) -> Sequence[Machine]: ...


def passed_over(need: Need) -> str:
    """Why a task with this need waits, in a sentence, though a worker that can do it has room."""
    return (
        f"waiting: a worker with skill {need.skill!r} is free, but it returned or failed this task before, or cannot "
        "receive a message this large; it is tried later"
    )


def of_time(record: JobRecord, not_loaded: str = "") -> str:
    """What a job waits for that no worker brings: a person, a signal, or that a time has come; empty: none.

    Arguments:
        not_loaded: what of its blueprint this node has not loaded, as a clause; empty: nothing.
    """
    job, waiting = record.job, record.job.waiting
    if waiting is not None and waiting.question is not None:
        asked = " ".join(waiting.question.message.split())
        return clipped(f"waiting for a decision ({', '.join(waiting.decisions)}): {asked}", _LONGEST)
    if waiting is not None and job.status is Status.WAITING_FOR_SIGNAL:
        return clipped(f"waiting for a signal ({', '.join(waiting.decisions)})", _LONGEST)
    if record.again_at is None:
        # A node tries it at this moment.
        return f"waiting: {not_loaded}; it continues when a node has loaded that" if not_loaded else ""
    at = datetime.fromtimestamp(record.again_at / 1000, UTC)
    if job.status is Status.WAITING_FOR_TIMER:
        return f"waiting until {at:%Y-%m-%d %H:%M:%S} UTC"
    if not_loaded:
        return (
            f"waiting: {not_loaded}; it continues when a node has loaded that, and is tried again at {at:%H:%M:%S} UTC"
        )
    if job.status is Status.WAITING_FOR_RETRY and not job.failures:
        return f"waiting: a node without its blueprint or state had it; it is tried again at {at:%H:%M:%S} UTC"
    failed = "handler" if job.status is Status.WAITING_FOR_RETRY else "task"
    return f"waiting: its {failed} failed, and is tried again at {at:%H:%M:%S} UTC"


def is_wait_below(message: str) -> bool:
    """Whether a job says by this that another waits, which does its one task."""
    return _WAITS_BELOW.match(message) is not None


def last_said(record: JobRecord) -> str:
    """What was last said of a job's progress. Once it is over, whatever it waited for below is of no account: nobody
    takes back what was said of that where its wait ends with the job, as by a decision or a cancel.
    """
    said = record.progress_message
    return "" if said and record.job.status.terminal and is_wait_below(said) else said


class Reasons:
    """Why tasks wait for which nobody has room. Why nobody can do them is found once for each match key: clients look
    at thousands of jobs that wait, and every offering of every worker has a part in that.

    Arguments:
        elsewhere: the workers of other nodes.
    """

    def __init__(self, elsewhere: Elsewhere) -> None:
        self._elsewhere = elsewhere
        # Until somebody comes, goes, or offers other things.
        self._none: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Reasons({len(self._none)})"

    def changed(self) -> None:
        """Others are there, or offer other things, than before."""
        self._none.clear()

    def why(self, need: Need, fitting: Collection[Provider], offering: Collection[Provider]) -> str:
        """Why a task with this need waits, in a sentence.

        Arguments:
            fitting: those of this node who can do it; none of them has room.
            offering: those of this node that offer its skill.
        """
        if need.skill == RUN_BLUEPRINT:
            # Its name is the node's own, and no worker can offer it: a node does, but for the moments when one leaves.
            return "waiting: no node runs its child job at this moment"
        among = "this node"
        if self._elsewhere.any:
            # Whether one of theirs has room is not known: what it holds changes with each task.
            fitting, among = [*fitting, *self._elsewhere.fitting(need)], "any node"
        if any(one.taking for one in fitting):
            return f"waiting: every worker with skill {need.skill!r} is busy"
        if fitting:
            return f"waiting: every worker with skill {need.skill!r} is draining"
        reason = self._none.get(need.key)
        if reason is None:
            offering, asked = [*offering, *self._elsewhere.offering(need.skill)], self._elsewhere.asked(need)
            if len(self._none) >= MOST_REASONS:
                self._none.clear()
            if any(need.skill in one.distrusted and one.could(asked) for one in offering):
                why_none = f"every suitable worker with skill {need.skill!r} has too low a reputation"
            else:
                offers = [(one, its.machines_of(one)) for its in offering for one in its.offers_of(need.skill)]
                why_none = _why_none(asked, offers, f"no worker connected to {among}")
            reason = self._none[need.key] = f"waiting: {why_none}"
        return reason


# What is said after this tells of one need alone.
_HARDWARE = " has the required hardware"


def _why_none(need: Need, offers: list[tuple[Offering, Sequence[Machine]]], nobody: str) -> str:
    """Why no worker can do it: each condition is looked at among those who fulfil the ones before it.

    Arguments:
        offers: all that is offered of its skill, each with the machines that provide it.
        nobody: who does not, in words.
    """
    skill = f"skill {need.skill!r}"
    if not offers:
        return f"{nobody} offers {skill}"
    offered = [one for one, _ in offers]
    asked = [one for one in offered if need.version in ("", one.version) and need.type in ("", one.type)]
    if not asked:
        wanted = {"version": need.version, "type": need.type}
        words = " and ".join([f"{what} {text!r}" for what, text in wanted.items() if text])
        return f"{nobody} offers {skill} in {words}"
    accepting = [one for one in asked if one.contract == ANY_CONTRACT or one.contract in need.contracts]
    if not accepting:
        return f"{nobody} with {skill} accepts these params"
    if len(accepting) < len(offered):
        skill += " that accepts these params"
    keeping = [one for one in accepting if need.allowed_skills is None or one.keeps_limits]
    if not keeping:
        return f"every holon with {skill} has a version that does not support allowed_skills"
    saying = [one for one in keeping if not undeclared(need, one)]
    if not saying:
        status = undeclared(need, keeping[0])[0]
        declared = {word for one in keeping for word in one.statuses}
        hint = meant(status, declared | COMMON_STATUSES)
        return f"{nobody} with {skill} declares the status {status!r}, for which the job has a transition{hint}"
    cheap = [one for one in saying if need.max_cost is None or (one.price is not None and one.price <= need.max_cost)]
    if not cheap:
        return f"{nobody} with {skill} declares a price of at most {need.max_cost}"
    others = set(cheap)
    machines = [machine for one, its in offers if one in others for machine in its]
    nearest = missing(machines, need.resources)
    return f"{nobody} with {skill}{_HARDWARE}: " + (
        f"the closest machine lacks {nearest}" if nearest else "no worker reports its hardware"
    )


class Said:
    """What was logged of tasks that nobody can do.

    It is said once for a skill until somebody comes who can: match keys change with the contracts that are known, and
    what is said is the same. So it is for thousands of tasks that have each a `max_cost` of their own.
    """

    def __init__(self) -> None:
        # By skill, the match keys of such tasks, and what was said of these.
        self._keys: defaultdict[str, set[str]] = defaultdict(set)
        self._words: defaultdict[str, set[str]] = defaultdict(set)
        # The skills of which it was said before somebody came with them.
        self._offered: set[str] = set()

    def __repr__(self) -> str:
        return f"Said(skills={len(self._keys)})"

    def has(self, need: Need) -> bool:
        """Whether it was said of tasks with this need."""
        return need.key in self._keys.get(need.skill, ())

    def say(self, need: Need, reason: str) -> None:
        """Say it, for such a reason."""
        words = self._words[need.skill]
        self._keys[need.skill].add(need.key)
        kind = reason.removesuffix(f" {need.max_cost}").partition(_HARDWARE)[0]
        if kind not in words:
            words.add(kind)
            log.warning("tasks wait: %s", reason.removeprefix("waiting: "), extra={"match_key": need.key})

    @property
    def keys(self) -> Mapping[str, Collection[str]]:
        """The match keys of such tasks, by skill."""
        return self._keys

    def came(self, skill: str) -> None:
        """Somebody is there who can do tasks of a skill: once nobody is, that is said again."""
        self._keys.pop(skill, None)
        self._words.pop(skill, None)
        self._offered.discard(skill)

    def offered(self, skills: Collection[str]) -> None:
        """Somebody has come, or offers other things, with these skills; whether he can do such tasks is not known."""
        self._offered.update(skill for skill in self._keys if skill in skills)

    def can(self, skill: str) -> None:
        """Somebody can do tasks of a skill that began to wait. Of others it is not said again, unless he is new."""
        if skill in self._offered:
            self.came(skill)

    def forget(self, key: str, skill: str) -> None:
        """Nothing waits with this match key any more."""
        keys = self._keys.get(skill)
        if keys is not None:
            keys.discard(key)
            if not keys:
                self.came(skill)
