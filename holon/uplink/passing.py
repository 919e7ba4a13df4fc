"""The uplink: skills of this holon's workers that the parent is offered as they are: each a blueprint of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from holon.context import ActionFactory, pass_on
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import MAX_STATUSES
from holon.rxon.v1 import worker_pb2
from holon.uplink.provided import Passed
from holon.wire.values import json_payload

STATE = "asked"


def passing(skill: str) -> Blueprint:
    """The blueprint that has one worker do a task of this skill, once: who asks for it tries again.

    Whatever status the worker answers is the parent's to branch by.

    Raises:
        BlueprintError: no blueprint can have this name.
    """
    blueprint = Blueprint(skill)

    @blueprint.handler(STATE, is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        pass_on(actions, skill, initial_data, "answered")

    @blueprint.handler("answered", is_end=True)
    async def answered() -> None: ...

    return blueprint


def offering_of(skill: str, offers: Sequence[Passed]) -> worker_pb2.Offering | None:
    """How the parent is offered a skill; what its workers do not agree upon is left out. None: nobody has it."""
    if not offers:
        return None
    offering = worker_pb2.Offering(skill=skill, statuses=_statuses(offers))
    skills = [one.skill for one in offers]
    for field in ("type", "version", "description"):
        texts = {getattr(one, field) for one in skills}
        if len(texts) == 1:
            setattr(offering, field, texts.pop())
    for field in ("input_schema", "output_schema"):
        schema = _agreed([getattr(one, field) for one in skills])
        if schema is not None:
            getattr(offering, field).CopyFrom(json_payload(schema))
    prices = [one.price for one in skills]
    if None not in prices:
        # What it may cost: the parent does not choose who does it.
        offering.price = max(price or 0 for price in prices)
    return offering


def _statuses(offers: Sequence[Passed]) -> list[str]:
    """What a skill may end with, as its workers say. None, so that the parent asks for any: one does not say, or there
    are more than a parent takes.
    """
    named = {status for one in offers for status in one.skill.statuses}
    said = all(one.skill.statuses for one in offers) and len(named) <= MAX_STATUSES
    return sorted(named) if said else []


def _agreed(schemas: Sequence[Mapping[str, Any] | None]) -> bytes | None:
    texts = {b"" if one is None else orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in schemas}
    return (texts.pop() or None) if len(texts) == 1 else None
