"""What workers offer, for lists: how each skill is told apart is worked out once, when its catalog comes in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol

import orjson

from holon.domain.fleet import Catalog, Skill, SkillView
from holon.domain.reputation import DIGITS

# What an entry of a list takes besides its texts.
_AROUND = 128


@dataclass(frozen=True, slots=True)
class Known:
    """A skill of a catalog; `key` and `weight` are as of `SkillView`."""

    skill: Skill
    key: tuple[str, ...]
    weight: int


def known(catalog: Catalog) -> tuple[Known, ...]:
    """The skills of a catalog, as they are listed."""
    return tuple(map(_known, catalog.skills))


def _known(skill: Skill) -> Known:
    contract = contract_text(skill)
    named = (skill.name, skill.type, skill.version)
    weight = _AROUND + len(contract) + sum(len(text.encode()) for text in (*named, skill.description))
    return Known(skill, (*named, blake2b(contract, digest_size=8).hexdigest()), weight)


def contract_text(skill: Skill) -> bytes:
    """What is promised of a skill, as text that is the same whatever the order of the keys of its schemas."""
    contract = [skill.input_schema, skill.output_schema, sorted(skill.statuses), skill.events]
    return orjson.dumps(contract, option=orjson.OPT_SORT_KEYS)


def weight_of(catalog: Catalog, labels: Mapping[str, str], *texts: str) -> int:
    """About how many bytes say what a worker is: its machines, its skills by name, what it has loaded, its labels, and
    these texts."""
    names = {skill.name for skill in catalog.skills}
    prices = {skill.name: skill.price for skill in catalog.skills if skill.price is not None}
    said = (catalog.machines, *names, *catalog.hot, *catalog.cached, prices, labels, *texts)
    return len(orjson.dumps(said)) + _AROUND


class Regarded(Protocol):
    """A worker, as far as its reputation goes."""

    def reputation_of(self, skill: str) -> float: ...


def skill_views(catalogs: Iterable[tuple[Sequence[Known], Sequence[Regarded]]]) -> list[SkillView]:
    """The skills of all catalogs by name, type and version; one for each contract.

    Arguments:
        catalogs: each with the workers that have it.
    """
    found: dict[tuple[str, ...], list[Known]] = {}
    workers: Counter[tuple[str, ...]] = Counter()
    reputations: dict[tuple[str, ...], float] = {}
    for catalog, theirs in catalogs:
        for one in catalog:
            found.setdefault(one.key, []).append(one)
            workers[one.key] += len(theirs)
            name, before = one.skill.name, reputations.get(one.key, 0.0)
            reputations[one.key] = before + sum([worker.reputation_of(name) for worker in theirs])
    views = []
    for key, offers in sorted(found.items()):
        prices = [one.skill.price for one in offers if one.skill.price is not None]
        average = round(reputations[key] / workers[key], DIGITS)
        view = SkillView(offers[0].skill, workers[key], min(prices, default=None), key, offers[0].weight, average)
        views.append(view)
    return views


def together(nodes: Iterable[Sequence[SkillView]]) -> list[SkillView]:
    """The skills that the workers of several nodes offer, in the order of lists."""
    found: dict[tuple[str, ...], list[SkillView]] = {}
    for skills in nodes:
        for one in skills:
            found.setdefault(one.key, []).append(one)
    return [_together(views) if views[1:] else views[0] for _, views in sorted(found.items())]


def _together(views: Sequence[SkillView]) -> SkillView:
    providers = sum(one.providers for one in views)
    prices = [one.lowest_price for one in views if one.lowest_price is not None]
    average = sum(one.providers * (one.average_reputation or 0.0) for one in views) / providers
    # One that a node told without what takes the most room is shown as another has it.
    fullest = max(views, key=lambda one: one.weight)
    return replace(
        fullest,
        providers=providers,
        lowest_price=min(prices, default=None),
        average_reputation=round(average, DIGITS),
    )
