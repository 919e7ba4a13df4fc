"""The dispatcher: skills of which a worker takes no more than so many tasks."""

from __future__ import annotations

from typing import Any

from holon.domain.matching import ANY_CONTRACT, Need, Offering
from holon.engine.dispatcher import Dispatcher
from holon.engine.session import Session
from holon.ports import Offer
from holon.telemetry.events import Telemetry

NOTHING: Any = None


def offers(session: Session, **held: str) -> None:
    """A session holds these leases of these skills."""
    session.take(
        [
            Offer("w", "s", "t", lease, "j", skill, "", "", b"", 0.0, 1, 1, None, None, NOTHING)
            for lease, skill in held.items()
        ]
    )


def test_a_skill_with_credits_of_its_own_gets_no_more_than_those_and_the_others_the_rest() -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    session = Session("w", "s", 10, dict.fromkeys((Offering("limited"), Offering("free")), ANY_CONTRACT), NOTHING)
    session.grant({("limited", "", ""): 3, ("free", "", ""): None}, anew=True)
    dispatcher.add(session)
    offers(session, first="limited", second="free")
    limited, free = Need("limited"), Need("free")
    (seat,) = dispatcher.seats_for({limited: 9})
    with dispatcher.naming([seat]):
        assert (seat.n, dispatcher.seats_for({limited: 1})) == (2, [])
        assert [one.n for one in dispatcher.seats_for({free: 9})] == [6]

    # Nothing is left at 0; the other skill is not held up by that.
    assert session.grant({("limited", "", ""): 0, ("unknown", "", ""): 7})
    dispatcher.has_room(session)
    assert dispatcher.seats_for({limited: 1}) == []
    session.grant({("limited", "", ""): 2})
    dispatcher.has_room(session)
    assert [one.n for one in dispatcher.seats_for({limited: 9})] == [1]


def test_what_is_held_of_a_limited_skill_is_known_whatever_comes_and_goes() -> None:
    session = Session("w", "s", 100, dict.fromkeys((Offering("t"), Offering("u")), ANY_CONTRACT), NOTHING)
    offers(session, first="t", second="u")
    session.grant({("t", "", ""): 5, ("u", "", ""): None}, anew=True)
    assert (session.left(("t", "", "")), session.left(("u", "", ""))) == (4, None)
    offers(session, first="t", third="t")
    assert session.left(("t", "", "")) == 3
    session.grant({("t", "", ""): 4, ("u", "", ""): 2})
    assert (session.left(("t", "", "")), session.left(("u", "", ""))) == (2, 1)
    for lease in ("first", "first", "unknown"):
        session.let_go(lease)
    assert (session.left(("t", "", "")), session.left(("u", "", ""))) == (3, 1)
    newer = Session("w", "s2", 100, dict.fromkeys(session.offerings, ANY_CONTRACT), NOTHING)
    newer.grant({("t", "", ""): 4, ("u", "", ""): 2}, anew=True)
    newer.resume(session.let_go_all().values(), session)
    assert (newer.left(("t", "", "")), newer.left(("u", "", ""))) == (3, 1)
    assert (session.left(("t", "", "")), session.left(("u", "", ""))) == (4, 2)


async def test_a_worker_that_holds_thousands_of_limited_skills_is_not_asked_for_each_of_them() -> None:
    class Leases(dict[str, Offer]):
        gone_through = 0

        def values(self) -> Any:
            Leases.gone_through += 1
            return super().values()

    dispatcher = Dispatcher(NOTHING, Telemetry())
    skills = [f"t{number}" for number in range(100)]
    session = Session("w", "s", 2_000, {Offering(skill): ANY_CONTRACT for skill in skills}, NOTHING)
    session.grant({(skill, "", ""): 100 for skill in skills}, anew=True)
    dispatcher.add(session)
    offers(session, **{f"lease-{number}": skills[number % 100] for number in range(1_000)})
    session.leases = Leases(session.leases)
    for skill in skills:
        dispatcher._waiting.add(dispatcher.learn(Need(skill)))
    assert {seat.n for seat in dispatcher.seats_at(session, 500)} == {90}
    assert dispatcher.seats_for({Need("t1"): 1}) == []
    assert Leases.gone_through == 0


async def test_what_waits_for_a_limited_skill_has_a_seat_of_its_own() -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    session = Session("w", "s", 10, dict.fromkeys((Offering("limited"), Offering("free")), ANY_CONTRACT), NOTHING)
    session.grant({("limited", "", ""): 2, ("free", "", ""): None}, anew=True)
    dispatcher.add(session)
    limited, free = Need("limited"), Need("free")
    for need in (limited, free):
        dispatcher.learn(need)
    await dispatcher.wait_without([], [limited, free])
    seats = {seat.keys: seat.n for seat in dispatcher.seats_at(session, 5)}
    assert seats == {(limited.key,): 2, (free.key,): 5}


def test_each_version_of_a_skill_has_its_own_limit_and_what_names_none_that_of_the_first() -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    offerings = {Offering("t", version=version): ANY_CONTRACT for version in ("1", "2", "3")}
    session = Session("w", "s", 20, offerings, NOTHING)
    session.grant({("t", "1", ""): 1, ("t", "2", ""): 5, ("t", "3", ""): None}, anew=True)
    dispatcher.add(session)
    asked = {name: Need("t", version=name) for name in ("1", "2", "3", "")}
    rooms = {name: [seat.n for seat in dispatcher.seats_for({need: 9})] for name, need in asked.items()}
    assert rooms == {"1": [1], "2": [5], "3": [9], "": []}


def test_a_promise_is_over_though_the_worker_offers_something_else_by_then() -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    session = Session("w", "s", 9, {Offering("t", version="1"): ANY_CONTRACT}, NOTHING)
    session.grant({("t", "1", ""): 3}, anew=True)
    dispatcher.add(session)
    with dispatcher.naming(dispatcher.seats_for({Need("t"): 2})):
        assert session.left(("t", "1", "")) == 1
        session.offers({Offering("t", version="2"): ANY_CONTRACT})
        session.grant({("t", "2", ""): 3}, anew=True)
    assert (session.promised, session.left(("t", "2", "")), +session.promised_of) == (0, 3, {})
