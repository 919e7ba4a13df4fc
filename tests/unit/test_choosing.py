"""Who gets a task where several could: what it says, and else who has its skill loaded; whoever has room gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from holon.domain.matching import ANY_CONTRACT, Need, Offering
from holon.domain.strategies import STRATEGIES, Candidate, rank
from holon.engine.choosing import MOST_COMPARED
from holon.engine.dispatcher import Dispatcher
from holon.engine.session import Session
from holon.ports import Leased, Seat
from holon.telemetry.events import Telemetry

NOTHING: Any = None
PLAIN = Candidate(None, 0, 0.0, hot=False, cached=False, place=0)


def best(strategy: str, *some: Candidate) -> int:
    return min(range(len(some)), key=lambda n: rank(strategy, some[n], 3))


# One choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "first", "second"),
    [
        # Hot, then cached, then idle; never the price.
        ("", {"hot": True, "business": 0.9}, {"cached": True}),
        ("default", {"cached": True, "business": 0.9}, {}),
        ("default", {"business": 0.1, "price": 9}, {"business": 0.2, "price": 1}),
        ("round_robin", {"place": 1, "business": 0.9}, {"place": 2, "hot": True}),
        ("least_connections", {"held": 1, "business": 0.5}, {"held": 2, "business": 0.1}),
        ("least_connections", {"held": 1, "business": 0.1}, {"held": 1, "business": 0.5}),
        ("cheapest", {"price": 1, "business": 0.9}, {"price": 2, "hot": True}),
        ("cheapest", {"price": 0}, {}),
        ("cheapest", {"price": 1, "business": 0.1}, {"price": 1, "business": 0.2}),
        ("default", {"reputation": 0.9}, {"reputation": 0.8}),
        ("best_value", {"price": 3, "reputation": 0.9}, {"price": 2, "reputation": 0.5}),
        ("best_value", {"price": 3, "reputation": 0.5}, {"price": 2, "reputation": 0.0}),
        ("best_value", {"price": 3, "reputation": 0.5}, {}),
        ("best_value", {"price": 2, "business": 0.1}, {"price": 2, "business": 0.2}),
        ("overflow", {"price": 1, "held": 2}, {"price": 5}),
        ("overflow", {"price": 5, "held": 2}, {"price": 1, "held": 3}),
        ("overflow", {"price": 5, "held": 3}, {"price": 1, "held": 4}),
        ("overflow", {"price": 1, "held": 3}, {"price": 5, "held": 3}),
        ("overflow", {"held": 2}, {"price": 5, "held": 3}),
    ],
)
def test_of_two_the_one_gets_it_that_the_strategy_prefers(
    strategy: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    one, other = PLAIN._replace(**first), PLAIN._replace(**second)
    assert best(strategy, one, other) == 0
    assert best(strategy, other, one) == 1


# Among sessions --------------------------------------------------------------------------------------------------


class Site:
    """A dispatcher, and sessions with so many credits each."""

    def __init__(self, soft_limit: int = 3) -> None:
        self.dispatcher = Dispatcher(NOTHING, Telemetry(), soft_limit)

    def has(
        self, name: str, granted: int = 10, *, price: int | None = None, hot: str = "", cached: str = ""
    ) -> Session:
        session = Session(name, name, granted, {Offering("t", price=price): ANY_CONTRACT}, NOTHING)
        session.hot, session.cached = frozenset(hot.split()), frozenset(cached.split())
        self.dispatcher.add(session)
        return session

    def gets(self, need: Need, n: int = 1) -> dict[str, int]:
        """Who gets so many new tasks."""
        return {seat.session_id: seat.n for seat in self.dispatcher.seats_for({need: n})}


def test_the_cheapest_gets_all_until_it_has_no_room() -> None:
    site = Site()
    for name, price in (("five", 5), ("one", 1), ("three", 3), ("unsaid", None)):
        site.has(name, 2, price=price)
    need = Need("t", strategy="cheapest")
    assert site.gets(need) == {"one": 1}
    assert site.gets(need, 4) == {"one": 1, "three": 2, "five": 1}
    assert site.gets(need, 9) == {"five": 1, "unsaid": 2}
    assert site.gets(need) == {}


def test_a_burst_is_spread_by_what_each_has_before_anybody_tells_of_it() -> None:
    site = Site()
    site.has("a"), site.has("b", 100)
    need = Need("t", strategy="least_connections")
    assert site.gets(need, 4) == {"a": 2, "b": 2}
    for _ in range(2):
        site.gets(need)
    assert site.gets(need, 2) == {"a": 1, "b": 1}


def test_each_gets_one_in_turn_however_busy_it_is() -> None:
    site = Site()
    for name in ("a", "b", "c"):
        site.has(name, 3)
    need = Need("t", strategy="round_robin")
    order = [next(iter(site.gets(need))) for _ in range(9)]
    assert order == ["a", "b", "c"] * 3
    assert site.gets(need) == {}
    other = Site()
    for name, granted in (("a", 1), ("b", 9), ("c", 9)):
        other.has(name, granted)
    assert other.gets(need, 7) == {"a": 1, "b": 3, "c": 3}


@pytest.mark.parametrize("soft_limit", [2, 3])
def test_the_dearer_get_some_once_the_cheaper_have_so_many(soft_limit: int) -> None:
    site = Site(soft_limit)
    site.has("cheap", price=1), site.has("dear", price=5)
    need = Need("t", strategy="overflow")
    assert site.gets(need, soft_limit + 1) == {"cheap": soft_limit, "dear": 1}
    # Past that whoever has least, and of these the cheaper.
    assert site.gets(need, soft_limit) == {"dear": soft_limit - 1, "cheap": 1}


def test_who_has_the_skill_loaded_gets_it_while_it_has_room_and_then_others_do() -> None:
    site = Site()
    site.has("cold", price=1)
    hot = site.has("hot", 2, price=9, hot="t u")
    need = Need("t")
    assert site.gets(need, 3) == {"hot": 2, "cold": 1}
    hot.hot = frozenset()
    site.dispatcher.offers_changed(hot, {Offering("t"): ANY_CONTRACT})
    hot.credits = 100
    site.dispatcher.has_room(hot)
    assert set(site.gets(need, 20)) == {"hot", "cold"}
    assert not site.dispatcher._matches.choosing.chooses(need)


def test_who_has_left_has_nothing_loaded_any_more() -> None:
    site = Site()
    site.has("cold")
    hot = site.has("hot", hot="t")
    assert site.dispatcher._matches.choosing.chooses(Need("t"))
    site.dispatcher.remove(hot)
    site.dispatcher.remove(hot)
    assert not site.dispatcher._matches.choosing.chooses(Need("t"))
    assert site.gets(Need("t"), 2) == {"cold": 2}


def test_who_has_what_the_task_hints_at_gets_it() -> None:
    site = Site()
    site.has("a"), site.has("b", cached="llama mistral"), site.has("c", cached="phi")
    assert site.gets(Need("t", hint="mistral"), 3) == {"b": 3}
    assert site.gets(Need("t", hint="phi")) == {"c": 1}
    assert sum(site.gets(Need("t", hint="gpt"), 20).values()) == 20
    # Loaded is more than cached.
    site.has("d", hot="t")
    assert site.gets(Need("t", hint="mistral")) == {"d": 1}


def test_of_thousands_so_many_are_compared_and_others_come_to_their_turn() -> None:
    site = Site()
    for number in range(MOST_COMPARED + 1):
        site.has(f"w{number}", 1, price=1_000_000 - number)
    need = Need("t", strategy="cheapest")
    assert site.gets(need) == {f"w{MOST_COMPARED - 1}": 1}
    assert site.gets(need) == {f"w{MOST_COMPARED}": 1}


def test_a_skill_with_a_limit_gets_no_more_than_that() -> None:
    site = Site()
    cheap = site.has("cheap", price=1)
    cheap.grant({("t", "", ""): 2}, anew=True)
    site.has("dear", price=2)
    assert site.gets(Need("t", strategy="cheapest"), 5) == {"cheap": 2, "dear": 3}


# What waits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "order"),
    [
        (Need("t", strategy="cheapest"), ["one", "three", "five"]),
        (Need("t", hint="llama"), ["three", "five", "one"]),
        (Need("t"), ["five", "one", "three"]),
    ],
)
async def test_what_waits_is_leased_to_those_first_who_are_preferred(need: Need, order: list[str]) -> None:
    asked: asyncio.Queue[Sequence[Seat]] = asyncio.Queue()

    class Store:
        async def lease(self, seats: Sequence[Seat]) -> Leased:
            asked.put_nowait(seats)
            return Leased()

        async def needs(self, keys: Any = None) -> dict[str, Need]:
            return {}

    store: Any = Store()
    site = Site()
    site.dispatcher = Dispatcher(store, Telemetry())
    for name, price in (("five", 5), ("one", 1), ("three", 3)):
        site.has(name, price=price, cached="llama" if name == "three" else "")
    if need == Need("t"):
        hot = site.dispatcher.session("five")
        assert hot is not None
        hot.hot = frozenset({"t"})
        site.dispatcher.add(hot)
    loop = asyncio.create_task(site.dispatcher.run())
    site.dispatcher.learn(need)
    await site.dispatcher.wait_without([], [need])
    async with asyncio.timeout(10):
        seats = await asked.get()
    assert [one.session_id for one in seats] == order
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop


def test_every_strategy_is_one_that_a_task_can_name() -> None:
    assert set(STRATEGIES) == {"default", "round_robin", "least_connections", "cheapest", "best_value", "overflow"}
