"""Places: how many are idle at workers for jobs of an offering, however many workers and skills there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from holon.domain.matching import ANY_CONTRACT, Offering
from holon.engine.session import Session
from holon.uplink.places import Idle

NOTHING: Any = None


def session(granted: int, *skills: str, **limits: int) -> Session:
    """A worker with these skills, of some of which it takes so many tasks at most."""
    one = Session("w", "s", granted, {Offering(skill): ANY_CONTRACT for skill in skills}, NOTHING)
    one.grant({(skill, "", ""): limits.get(skill) for skill in skills}, anew=True)
    return one


def test_a_place_is_idle_for_a_job_that_needs_any_of_the_skills_of_its_worker_or_none() -> None:
    sessions = [session(3, "t", "u"), session(2, "u"), session(0, "t")]
    asked = [frozenset("t"), frozenset("u"), frozenset("tu"), frozenset("v"), frozenset[str]()]
    assert [Idle(sessions).of(needs) for needs in asked] == [3, 5, 5, 0, 5]


def test_no_more_places_are_idle_for_a_skill_than_its_own_limit_allows() -> None:
    sessions = [session(9, "t", "u", t=2), session(1, "t", t=5)]
    assert [Idle(sessions).of(frozenset(needs)) for needs in ("t", "u", "tu")] == [3, 9, 10]


def test_places_that_calls_were_promised_are_idle_where_that_is_asked_for() -> None:
    one = session(5, "t", "u", t=3)
    one.promised, one.promised_of = 2, Counter({("t", "", ""): 2})
    found = [
        (Idle([one]).of(frozenset(needs)), Idle([one], promised=True).of(frozenset(needs))) for needs in ("t", "u", "")
    ]
    assert found == [(1, 3), (3, 5), (3, 5)]


def test_a_worker_that_takes_no_tasks_has_no_idle_places() -> None:
    one = session(5, "t")
    one.promised, one.taking = 1, False
    idle = Idle([one], promised=True)
    assert idle.of(frozenset("t")) == idle.of(frozenset()) == 0


def test_workers_are_looked_at_once_for_all_offerings_and_what_they_offer_is_not_gone_through() -> None:
    looked = 0

    class Offerings(tuple[Offering, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[Offering]:
            nonlocal looked
            looked += 1
            return super().__iter__()

    class Counted(Session):
        @property
        def free(self) -> int:
            nonlocal looked
            looked += 1
            return super().free

    sessions = [Counted(f"w{n}", f"s{n}", 2, {Offering("t"): ANY_CONTRACT}, NOTHING) for n in range(1_000)]
    for one in sessions:
        one.offerings = Offerings(one.offerings)
    looked = 0
    idle = Idle(sessions)
    assert [idle.of(frozenset(needs)) for needs in ("t", "u") * 100] == [2_000, 0] * 100
    assert looked == len(sessions)
