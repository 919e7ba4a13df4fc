"""The uplink: what a parent asks for with an offer: whether that can be a task, as what job, and until when."""

from __future__ import annotations

import math

from holon.domain.costs import Cost, costing
from holon.domain.fleet import MAX_CACHED
from holon.domain.policy import Allowed, allowing, both
from holon.domain.resources import requirement
from holon.domain.trace import trace_of
from holon.domain.value import Value
from holon.domain.wants import NOTHING, Wants
from holon.engine.payloads import decode
from holon.engine.requests import MAX_TIMEOUT_S, Creating
from holon.errors import InvalidArgument, NotFound
from holon.ports import Note
from holon.rxon.v1 import worker_pb2
from holon.wire.values import is_id, json_of, seconds, skills_of

# What is left of a task's time when its job is stopped here: so that it ends here first, and the parent hears of it.
_MARGIN, _LEAST_MARGIN_MS, _MOST_MARGIN_MS = 0.02, 50, 5_000
# No parent may have a job wait for longer: ten years, so that no sum of times overflows anywhere.
_LONGEST_MS = round(MAX_TIMEOUT_S * 1000)


class Terms(Value):
    """What the job of a task is held to.

    `until` is when it is to be stopped, and `tasks_until` until when its tasks have time at most, None: as they say;
    both in epoch milliseconds of this holon's store. `allowed_skills` and `budget` are what the parent allows it.
    `wants` is what it asks of who does it: a version and type of the skill, hardware, and
    what it is good to have.
    """

    until: int
    tasks_until: int | None
    allowed_skills: Allowed
    budget: Cost
    wants: Wants | None = None


def terms_of(offer: worker_pb2.TaskOffer, now: int, most: int) -> Terms:
    """The terms of what a parent offers.

    Arguments:
        now: when it came, in epoch milliseconds of this holon's store.
        most: how many milliseconds it may take where the parent does not say.
    Raises:
        InvalidArgument: no task can be what it offers.
    """
    for field, value in (("task_id", offer.task_id), ("lease_id", offer.lease_id)):
        if not is_id(value):
            raise InvalidArgument(f"its {field} is not a valid id")
    if offer.generation < 1 or offer.attempt < 1:
        raise InvalidArgument(f"it is attempt {offer.attempt} of generation {offer.generation}, but both begin with 1")
    until, tasks_until = now + most, None
    if offer.HasField("time_left"):
        left, margin = _left(seconds(offer.time_left))
        # Its tasks have a little more, so that it is stopped before it hears that one of them was.
        until, tasks_until = now + max(0, left - margin), now + max(0, left - margin // 2)
    lineage = offer.lineage
    return Terms(
        until,
        tasks_until,
        allowing("lineage.skill_limit", skills_of(lineage, "lineage.skill_limit")),
        costing("lineage.budget", lineage.budget if lineage.HasField("budget") else None),
        _wants(offer),
    )


def _wants(offer: worker_pb2.TaskOffer) -> Wants | None:
    required = ""
    if offer.HasField("resource_requirements"):
        what = "resource_requirements"
        required = requirement(what, decode(json_of(offer.resource_requirements, what), what))
    wants = Wants(offer.version_asked, offer.type_asked, required, hint=offer.resource_hint[:MAX_CACHED])
    return None if wants == NOTHING else wants


def creating_of(
    offer: worker_pb2.TaskOffer,
    terms: Terms,
    key: str,
    job_id: str,
    max_priority: float,
    allowed_skills: Allowed,
    note: Note | None = None,
    *,
    passed: bool = False,
) -> Creating:
    """The job that does it.

    Arguments:
        key: makes its creation repeatable.
        max_priority: the highest that it may have; its opposite is the lowest.
        allowed_skills: all that it may use, if the parent allows them too.
        note: what is written with it.
        passed: whether it only passes the task on.
    Raises:
        NotFound: it comes in a way that this holon does not take.
        InvalidArgument: its params are no JSON.
    """
    if offer.params.HasField("ref") or offer.params.encoding:
        raise NotFound("this holon accepts params only inline and unencoded")
    priority = 0.0 if math.isnan(offer.priority) else max(-max_priority, min(offer.priority, max_priority))
    return Creating(
        offer.skill,
        decode(offer.params.data, "the params") if offer.params.data else {},
        key,
        trace=trace_of(offer.trace.traceparent, offer.trace.tracestate),
        priority=priority,
        job_id=job_id,
        allowed_skills=both(allowed_skills, terms.allowed_skills),
        budget=terms.budget,
        note=note,
        deadline=terms.tasks_until,
        wants=terms.wants if passed else None,
    )


def time_for(seconds_left: float) -> int:
    """How many milliseconds a job may take, where its task may take so many seconds, whatever a parent calls them."""
    left, margin = _left(seconds_left)
    return max(0, left - margin)


def _left(seconds_left: float) -> tuple[int, int]:
    left = round(min(max(seconds_left, 0.0) * 1000, _LONGEST_MS))
    return left, min(max(round(left * _MARGIN), _LEAST_MARGIN_MS), _MOST_MARGIN_MS)
