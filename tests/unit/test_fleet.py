"""The fleet: which skills its workers offer, and what is passed on of them, as they come, go and offer others."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.fleet import Catalog, Skill
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.session import Session
from holon.telemetry.events import Telemetry
from holon.uplink import provided
from holon.uplink.provided import Here, Passed, Provided
from holon.uplink.providers import Providers

NOTHING: Any = None


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(Dispatcher(NOTHING, Telemetry()), lambda: 1)


def joined(fleet: Fleet, worker_id: str, *skills: Skill) -> Session:
    session = Session(worker_id, f"session of {worker_id}", 1, {}, NOTHING)
    fleet.joined(session, "sdk", {}, Catalog(skills))
    return session


def test_a_skill_is_among_the_names_as_long_as_any_worker_offers_it(fleet: Fleet) -> None:
    first = joined(fleet, "w1", Skill("t"), Skill("t", "2"), Skill("u"))
    second = joined(fleet, "w2", Skill("t"))
    assert fleet.names() == {"t", "u"}
    fleet.offers(first, Catalog((Skill("v"),)))
    assert fleet.names() == {"t", "v"}
    # It has come once more, with something else; that its session of before ends is nothing new.
    again = joined(fleet, "w2", Skill("x"))
    fleet.left(second)
    assert fleet.names() == {"v", "x"}
    fleet.left(again)
    fleet.left(again)
    assert fleet.names() == {"v"}
    fleet.left(first)
    assert fleet.names() == frozenset()


def test_what_is_passed_on_is_counted_by_what_workers_say_but_for_how_much_they_take_and_their_events(
    fleet: Fleet,
) -> None:
    here = Here(fleet, ("t", "u"))
    first = joined(fleet, "w1", Skill("t", credits=1), Skill("other"))
    joined(fleet, "w2", Skill("t", credits=2, events={"seen": {"type": "object"}}))
    assert here().passed == (Passed(Skill("t"), 2),)
    joined(fleet, "w3", Skill("u", price=3))
    fleet.offers(first, Catalog((Skill("t", "2"),)))
    assert set(here().passed) == {Passed(Skill("t"), 1), Passed(Skill("t", "2"), 1), Passed(Skill("u", price=3), 1)}
    fleet.left(first)
    assert here().passed == (Passed(Skill("t"), 1), Passed(Skill("u", price=3), 1))


def test_what_a_worker_says_of_a_skill_is_put_into_words_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    put, words = 0, provided._text_of_skill

    def counted(skill: Skill) -> bytes:
        nonlocal put
        put += 1
        return words(skill)

    monkeypatch.setattr(provided, "_text_of_skill", counted)
    here = Here(fleet, ("t",))
    for number in range(20):
        joined(fleet, f"w{number}", Skill("t"))
        assert here().passed == (Passed(Skill("t"), number + 1),)
    assert put == 20


def test_whether_anybody_has_a_skill_is_told_without_all_that_is_offered(fleet: Fleet) -> None:
    def here() -> Provided:
        raise AssertionError("it takes long, and is asked with each task")

    providers = Providers(NOTHING, here, fleet.names, "n1")
    assert not providers.have(("t",))
    joined(fleet, "w1", Skill("t"))
    assert providers.have(("t",))
    assert not providers.have(("t", "u"))
