"""What workers offer, for lists: how each skill is told apart is worked out once, when its catalog comes in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

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


def skill_views(catalogs: Iterable[tuple[Sequence[Known], float]]) -> list[SkillView]:
    """The skills of all catalogs by name, type and version; one for each contract.

    Arguments:
        catalogs: each with the reputation of its worker.
    """
    found: dict[tuple[str, ...], list[Known]] = {}
    reputations: dict[tuple[str, ...], float] = {}
    for catalog, reputation in catalogs:
        for one in catalog:
            found.setdefault(one.key, []).append(one)
            reputations[one.key] = reputations.get(one.key, 0.0) + reputation
    views = []
    for key, offers in sorted(found.items()):
        prices = [one.skill.price for one in offers if one.skill.price is not None]
        average = round(reputations[key] / len(offers), DIGITS)
        views.append(SkillView(offers[0].skill, len(offers), min(prices, default=None), key, offers[0].weight, average))
    return views
