"""Chaos of holons: what a seed draws: the jobs that are asked for, who dies at which moment, and what else fails."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.holons.blueprints import DIVE, FAN, ONE, SHOWER
from tests.e2e.dying import IN_CHILD, IN_PARENT

BLUEPRINTS, WEIGHTS = (ONE, DIVE, SHOWER, FAN), (3, 4, 2, 3)
# A unit's time, in seconds; what is to be cancelled would take far longer than a run.
SHORTEST_S, LONGEST_S = 0.02, 0.5
LONG, LONG_S = 0.15, 2.0
ENDLESS_S = 120.0
CANCELLED = 0.2
FIRST_CANCEL_S, LAST_CANCEL_S = 0.3, 4.0
MOST_COUNT = 6
AWAY_S = 1.5
# Longer than it takes to notice that the other side is silent (2.5 s).
LONGEST_FAULT_S = 4.0
# In a quarter of all seeds the root waits no longer than this for a child, and its link is away for longer, once.
IMPATIENT = 0.25
SHORT_LEASE_S = 4.0
LONG_CUT_S = 6.5


@dataclass(frozen=True, slots=True)
class Errand:
    """A job of the root's: when it is asked for, how long each of its units takes, and when it is cancelled after.

    Times are in seconds. `cancel_after` counts from its acceptance; None: it is not.
    """

    unit: str
    blueprint: str
    at: float
    seconds: float
    cancel_after: float | None


@dataclass(frozen=True, slots=True)
class Death:
    """A node ends at a moment, when that comes for the `count`-th time."""

    node: str
    moment: str
    count: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something fails, `at` so many seconds from the start, for so long."""

    at: float
    kind: str
    target: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Fate:
    """All of it. `impatient` says that the root's leases are short."""

    errands: tuple[Errand, ...]
    deaths: tuple[Death, ...]
    faults: tuple[Fault, ...]
    impatient: bool


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of it: jobs that are asked for, the seconds in which they are and things begin to fail, and of those."""

    jobs: int
    seconds: float
    faults: int
    deaths: int


def draw(
    seed: int,
    amounts: Amounts,
    parents: Sequence[str],
    children: Sequence[str],
    leaves: Sequence[str],
    links: Sequence[str],
) -> Fate:
    """What a seed says.

    Arguments:
        parents: the nodes that have children; `children`: those that have a parent, the first below the root first.
        links: names of those between holons, and of leaves to theirs; the first is of the first child to the root.
    """
    dice, seconds = random.Random(seed), amounts.seconds
    errands = tuple(_errand(dice, f"j{number}", seconds) for number in range(amounts.jobs))
    moments = [(node, moment) for node in children for moment in IN_CHILD]
    moments += [(node, moment) for node in parents for moment in IN_PARENT]
    chosen = {node: (node, moment) for node, moment in dice.sample(moments, amounts.deaths)}
    deaths = tuple(Death(*one, dice.randint(1, MOST_COUNT)) for one in chosen.values())
    nodes = list(dict.fromkeys([*parents, *children]))
    kinds: dict[str, Sequence[str]] = {
        "killed": nodes, "stopped": nodes, "paused": nodes, "leaf killed": leaves,
        "link away": links, "link frozen": links, "link dropped": links,
    }  # fmt: skip
    faults = [_fault(dice, kinds, seconds) for _ in range(amounts.faults)]
    impatient = bool(faults) and dice.random() < IMPATIENT
    if impatient:
        faults.append(Fault(dice.uniform(0, seconds / 2), "link frozen", links[0], LONG_CUT_S))
    # Two of one target would be in each other's way.
    apart: dict[str, Fault] = {fault.target: fault for fault in faults}
    return Fate(errands, deaths, tuple(sorted(apart.values(), key=lambda one: one.at)), impatient)


def _errand(dice: random.Random, unit: str, within: float) -> Errand:
    at = dice.uniform(0, within)
    blueprint = dice.choices(BLUEPRINTS, WEIGHTS)[0]
    if dice.random() < CANCELLED:
        return Errand(unit, blueprint, at / 2, ENDLESS_S, dice.uniform(FIRST_CANCEL_S, LAST_CANCEL_S))
    seconds = LONG_S if dice.random() < LONG else dice.uniform(SHORTEST_S, LONGEST_S)
    return Errand(unit, blueprint, at, seconds, None)


def _fault(dice: random.Random, kinds: dict[str, Sequence[str]], within: float) -> Fault:
    kind = dice.choice(list(kinds))
    longest = LONGEST_FAULT_S if kind.startswith("link") or kind == "paused" else AWAY_S
    return Fault(dice.uniform(0, within), kind, dice.choice(kinds[kind]), dice.uniform(0, longest))
