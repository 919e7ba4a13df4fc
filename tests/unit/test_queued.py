"""The match keys behind which tasks wait: however many there are, a session is asked of only for what it can do."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from holon.domain.matching import ANY_CONTRACT, Need, Offering
from holon.engine.dispatcher import Dispatcher
from holon.engine.queued import KEYS_AT_ONCE, Queued
from holon.engine.session import Session
from holon.telemetry.events import Telemetry

MANY = 5_000
OTHERS = [f"other {number}" for number in range(MANY)]
MINE = [f"mine {number}" for number in range(MANY)]


class Keys(dict[str, None]):
    """Keys that count how many of them were gone through one by one."""

    looked = 0

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            type(self).looked += 1
            yield key


def waiting(*keys: str) -> Queued:
    queued = Queued()
    queued.add(*keys)
    return queued


def named_once(queued: Queued, *keys: str) -> Queued:
    queued.named(keys, keys)
    return queued


def test_the_next_are_the_first_that_were_added_and_those_that_are_left_come_last() -> None:
    queued, mine = named_once(waiting(), *OTHERS, *MINE), frozenset(MINE)
    first = queued.next_of(mine)
    assert first == MINE[:KEYS_AT_ONCE]
    queued.named(first, MINE[1:KEYS_AT_ONCE])
    assert queued.next_of(mine) == MINE[KEYS_AT_ONCE : 2 * KEYS_AT_ONCE]
    assert MINE[0] not in queued
    assert len(queued) == 2 * MANY - 1
    assert queued.next_of(frozenset(OTHERS)) == OTHERS[:KEYS_AT_ONCE]


def test_those_that_came_last_are_among_the_next_and_then_have_their_turn_as_all() -> None:
    queued = named_once(waiting(), *MINE)
    queued.add("urgent", *MINE)
    mine = frozenset([*MINE, "urgent"])
    first = queued.next_of(mine)
    assert first == ["urgent", *MINE[: KEYS_AT_ONCE - 1]]
    queued.named(first, first)
    assert "urgent" not in queued.next_of(mine)
    rest = MINE[KEYS_AT_ONCE - 1 :]
    queued.named(rest, rest)
    assert next(iter(queued.next_of(mine))) == "urgent"


def test_however_many_come_those_before_them_have_their_turn() -> None:
    queued = waiting(*MINE[:1_000])
    asked: set[str] = set()
    for number in range(20):
        queued.add(*(f"new {number} {one}" for one in range(100)))
        following = queued.next_of({*queued})
        asked.update(following)
        queued.named(following, following)
    assert asked.issuperset(MINE[:1_000])


def test_all_that_wait_are_the_next_where_they_are_few_however_many_wait_for_others() -> None:
    queued = waiting(*OTHERS, *MINE[:3])
    assert set(queued.next_of(frozenset(MINE))) == set(queued.next_of(frozenset(MINE[:5]))) == set(MINE[:3])
    assert queued.next_of(frozenset(MINE[3:])) == set()


def test_whether_something_waits_for_a_session_is_found_without_going_through_what_waits_for_others() -> None:
    queued: Any = waiting()
    queued._keys = Keys.fromkeys(OTHERS)
    assert not queued.any_of(frozenset())
    assert not queued.any_of(frozenset(MINE[:3]))
    assert queued.any_of(frozenset(OTHERS[-1:]))
    nothing: Any = SimpleNamespace(offer=None)
    dispatcher: Any = Dispatcher(nothing, Telemetry())
    dispatcher._waiting = queued
    dispatcher.add(Session("w", "s", 1, {Offering("t"): ANY_CONTRACT}, nothing))
    dispatcher.learn(Need("t"))
    assert dispatcher._matches.with_room(queued) == []
    assert Keys.looked == 0
