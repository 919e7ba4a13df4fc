"""The dispatcher: seats are found among however many sessions."""

from __future__ import annotations

from typing import Any

from holon.domain.matching import Need, Offering
from holon.engine.dispatcher import Dispatcher, Session
from holon.telemetry.events import Telemetry

SKILL = (Offering("t"),)


def test_the_one_session_with_room_is_found_behind_thousands_without() -> None:
    nothing: Any = None
    dispatcher = Dispatcher(nothing, Telemetry())
    for number in range(10_000):
        dispatcher.add(Session(f"w{number}", f"s{number}", 0, SKILL, nothing))
    assert dispatcher.seats_for({Need("t"): 3}) == []
    dispatcher.add(Session("w", "s", 1, SKILL, nothing))
    for number in range(10_000):
        session = dispatcher.session(f"s{number}")
        assert session is not None
        dispatcher.has_room(session)
    assert [seat.session_id for seat in dispatcher.seats_for({Need("t"): 3})] == ["s"]
