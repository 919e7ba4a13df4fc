"""The scheduler: what is due is made once, whatever becomes of clocks and stores."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, time
from zoneinfo import ZoneInfo

import pytest

from holon.clock import ManualClock
from holon.engine.timetable import OnDays
from holon.errors import NotFound, ResourceExhausted, StoreUnavailable
from holon.storage import MemoryStorage
from tests.unit.schedules import Site, failing, moment, results, said, schedule


@pytest.fixture
async def site(store: MemoryStorage) -> Site:
    return Site(store)


# Clocks --------------------------------------------------------------------------------------------------------------


async def test_a_machine_that_slept_makes_the_latest_slot_and_tells_that_others_were_missed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    often, daily = schedule(catch_up=0), schedule("d", OnDays(time(12, 5), UTC), catch_up=0)
    node = site.node(often, daily)
    await site.at("15:00:10", node)
    assert await site.due() == ["28 12:05:00", "28 15:00:00"]
    assert results(node) == {"made": 2, "missed": 1}
    [line] = said(caplog, logging.WARNING)
    assert "s: the job due at 2026-11-28T12:01:00+00:00 was skipped" in line


async def test_what_another_node_made_meanwhile_was_not_missed(site: Site) -> None:
    slept, other = site.node(schedule(catch_up=0)), site.node(schedule(catch_up=0))
    await site.at("12:01:00", other)
    await site.at("12:02:00", other)
    await slept.look()
    assert results(slept, other) == {"made": 2, "known": 1}


async def test_a_clock_that_is_set_back_doubles_nothing_and_stops_nothing(site: Site) -> None:
    now = [site.clock.now_ms()]
    node = site.node(schedule(catch_up=0), now=lambda: now[0])

    async def at(text: str) -> None:
        now[0] = moment(f"2026-11-28T{text}")
        await node.look()

    for text in ("12:01:00", "12:02:00", "12:00:10", "12:01:00", "12:02:00", "12:03:00"):
        await at(text)
    assert await site.due() == ["28 12:01:00", "28 12:02:00", "28 12:03:00"]
    # Far ahead by mistake, and set right.
    now[0] = moment("2038-01-01T00:00:00")
    await node.look()
    await at("12:03:30")
    assert node.next == {"s": moment("2026-11-28T12:04:00")}


async def test_a_day_with_a_time_twice_has_one_job(site: Site) -> None:
    site.clock = ManualClock(moment("2026-10-24T23:00:00"))
    node = site.node(schedule(timetable=OnDays(time(2, 30), ZoneInfo("Europe/Berlin"))))
    for _ in range(8 * 24):
        site.clock.advance(1_800_000)
        await node.look()
    assert await site.due() == [
        "25 00:30:00",
        *(f"{day} 01:30:00" for day in range(26, 29)),
    ]


# Stores ------------------------------------------------------------------------------------------------------------


async def test_what_is_due_while_the_store_is_away_is_tried_until_it_is_made(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = site.node(schedule(timetable=OnDays(time(12, 1), UTC), catch_up=0))
    errors = [
        StoreUnavailable("the store is away"),
        ResourceExhausted("the store is full", retry_after=3600.0),
        RuntimeError("a bug"),
    ]
    asked = failing(node, errors, monkeypatch)
    await site.at("12:01:00", node)
    assert await node.look() == 1
    # Not too soon after the last time.
    assert len(asked) == 1
    await site.at("12:01:01", node)
    assert await node.look() == 30
    await site.at("12:01:30", node)
    assert len(asked) == 2
    await site.at("12:01:31", node)
    assert len(asked) == 3
    await site.at("17:00:00", node)
    assert await site.due() == ["28 12:01:00"]
    assert len(set(asked)) == 1
    assert results(node) == {"failed": 3, "made": 1}
    assert [line.rpartition(": ")[2] for line in said(caplog, logging.WARNING)] == [
        "the store is away",
        "the store is full",
    ]
    assert len(said(caplog, logging.ERROR)) == 1


async def test_a_clock_that_is_set_back_puts_no_other_try_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [moment("2026-11-28T12:00:00")]
    node = site.node(schedule(timetable=OnDays(time(12, 1), UTC), catch_up=0), now=lambda: now[0])
    failing(node, [StoreUnavailable("away")], monkeypatch)
    now[0] = moment("2026-11-28T15:00:00")
    assert await node.look() == 1
    now[0] = moment("2026-11-28T13:00:00")
    await node.look()
    assert await site.due() == ["28 12:01:00"]


async def test_times_that_cannot_be_told_are_a_failure_of_their_schedule_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = site.node(schedule(catch_up=0), schedule("d", OnDays(time(12, 1), UTC), catch_up=0))
    asked = failing(node, [StoreUnavailable("away")], monkeypatch)
    times = type(node._plans["s"].schedule.timetable)
    with monkeypatch.context() as patch:
        patch.setattr(times, "next", lambda *_: 1 // 0)
        await site.at("12:01:00", node)
        # It is tried again, and not at once.
        assert await node.look() == 30
    assert asked == ["s@1795867260", "d@1795867260"]
    assert len(said(caplog, logging.ERROR)) == 1
    await site.at("12:01:30", node)
    assert await site.due() == ["28 12:01:00"] * 2


async def test_what_could_not_be_made_before_the_next_slot_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = site.node(schedule(catch_up=0))
    failing(node, [StoreUnavailable("away")] * 2, monkeypatch)
    for text in ("12:01:00", "12:01:30", "12:02:00", "12:02:30"):
        await site.at(text, node)
    assert await site.due() == ["28 12:02:00"]
    assert results(node) == {"failed": 2, "missed": 1, "made": 1}


async def test_the_next_slot_waits_for_no_other_try(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    node = site.node(schedule(catch_up=0))
    failing(node, [StoreUnavailable("away"), ResourceExhausted("full", retry_after=3600.0)], monkeypatch)
    for text in ("12:01:00", "12:01:50"):
        await site.at(text, node)
    assert await node.look() == 10
    await site.at("12:02:00", node)
    assert await site.due() == ["28 12:02:00"]


async def test_what_nobody_could_tell_of_any_more_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    node = site.node(schedule(timetable=OnDays(time(12, 1), UTC, dates=frozenset({28})), catch_up=0))
    asked = failing(node, [StoreUnavailable("away")], monkeypatch)
    await site.at("12:01:00", node)
    await site.at("29 12:01:01", node)
    assert len(asked) == 1
    assert results(node) == {"failed": 1, "missed": 1}


async def test_what_is_refused_for_good_is_not_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = site.node(schedule(catch_up=0))
    asked = failing(node, [NotFound("no such blueprint")], monkeypatch)
    await site.at("12:01:00", node)
    await site.at("12:01:31", node)
    assert len(asked) == 1
    assert results(node) == {"refused": 1}
    assert "no such blueprint" in said(caplog, logging.ERROR)[0]


async def test_what_another_node_made_with_other_input_is_made(site: Site) -> None:
    old, new = site.node(schedule(catch_up=0)), site.node(replace(schedule(catch_up=0), input_data={"n": 2}))
    await site.at("12:01:00", old)
    await new.look()
    assert [job.initial_data for job in await site.jobs()] == [{"n": 1}]
    assert results(new) == {"known": 1}
