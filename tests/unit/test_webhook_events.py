"""Webhooks: the events of a job are told one after the other, and hold up neither its end nor those of others."""

from __future__ import annotations

import asyncio
import logging

import pytest

from holon.clock import ManualClock
from holon.domain.events import BLUEPRINT_EVENT, WORKER_EVENT
from holon.engine.tellers import HOLD_MS
from holon.engine.webhooks import FOR_EVENTS
from holon.ports import Answer, Heard
from tests.unit.ends_to_tell import DAY, FAILED, GUARD, Ended, Told, telling


@pytest.fixture
async def store() -> Ended:
    return Ended(ManualClock())


@pytest.fixture
async def told() -> Told:
    return Told()


async def test_each_event_is_told_in_its_order_as_its_line_of_history_and_nothing_else_is(
    store: Ended, told: Told
) -> None:
    store.happen("0-a", "state_started", "seen", "state_finished", "approval_requested")
    async with telling(store, told) as webhooks:
        await store.until(lambda: not store.untold)
        store.happen("0-a", "state_started", f"{BLUEPRINT_EVENT}paid")
        await store.until(lambda: not store.untold)
    assert told.ids == ["event_0-a-2", "event_0-a-4", "event_0-a-6"]
    assert [body["event"] for _, _, body in told.sent] == [
        f"{WORKER_EVENT}seen",
        "approval_requested",
        f"{BLUEPRINT_EVENT}paid",
    ]
    assert told.sent[0][2] == {
        "event": f"{WORKER_EVENT}seen",
        "job_id": "0-a",
        "sequence": 2,
        "timestamp": store.now() / 1000,
        "state": "start",
        "worker_id": None,
        "task_id": "t",
        "context_snapshot": {"payload": {"n": 1}},
    }
    assert webhooks.metrics.events.values == {("told",): 3}
    assert webhooks.metrics.told.values == {}


async def test_one_that_is_not_taken_is_told_again_under_its_id_and_those_after_it_wait(
    store: Ended, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.engine.tellers.random.random", lambda: 0.5)
    told.answers["event_a-1"] = [FAILED, RuntimeError("broken")]
    store.happen("a", "first", "second")
    async with telling(store, told):
        for tries in (1, 2):
            await store.until(lambda tries=tries: store.heard.get("a") == [(0, 1_000)] * tries)  # type: ignore[misc]
            # What happens meanwhile does not have it tried sooner.
            store.happen("a", f"more-{tries}")
            store.pass_by(999)
            await asyncio.sleep(0)
            assert told.ids == ["event_a-1"] * tries
            store.pass_by(1)
        await store.until(lambda: not store.untold)
    assert told.ids == ["event_a-1"] * 3 + ["event_a-2", "event_a-3", "event_a-4"]
    assert len({str(one) for one in told.sent[:3]}) == 1


async def test_one_that_waited_for_those_before_it_is_tried_again_as_soon_as_any(
    store: Ended, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.engine.tellers.random.random", lambda: 0.5)
    told.answers["event_a-1"] = [FAILED, FAILED]
    store.happen("a", "first")
    store.pass_by(600_000)
    async with telling(store, told):
        for tries in (1, 2):
            await store.until(lambda tries=tries: store.heard.get("a") == [(0, 1_000)] * tries)  # type: ignore[misc]
            store.pass_by(1_000)
        await store.until(lambda: not store.untold)
    assert told.ids == ["event_a-1"] * 3


async def test_an_end_waits_for_no_event_of_its_job_nor_for_the_room_that_those_of_others_have(
    store: Ended, told: Told
) -> None:
    told.slow.add("slow.example")
    for number in range(2 * FOR_EVENTS.at_host):
        store.happen(f"other-{number}", "seen", url="https://slow.example/")
    async with telling(store, told) as webhooks:
        await told.until(lambda: len(told.sent) == FOR_EVENTS.at_host)
        assert webhooks.telling == FOR_EVENTS.at_host
        told.answers["event_a-1"] = [FAILED]
        store.happen("a", "seen")
        await store.until(lambda: "a" in store.heard)
        store.end("a", "https://slow.example/")
        await told.until(lambda: "end_a" in told.ids)
        told.go_on.set()
        await store.until(lambda: not store.open)
        async with asyncio.timeout(GUARD):
            while store.untold:
                store.pass_by(1_000)
                await asyncio.sleep(0)
    assert sorted(set(told.ids)) == sorted(
        ["end_a", "event_a-1", *(f"event_other-{number}-1" for number in range(2 * FOR_EVENTS.at_host))]
    )


async def test_who_is_gone_is_not_told_of_that_event_and_what_is_too_old_is_given_up_and_the_next_is_told(
    store: Ended, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.answers["event_a-1"] = [Answer(Heard.GONE, "the receiver answered with status 410")]
    told.answers["event_b-1"] = [FAILED]
    store.happen("a", "seen", "seen")
    store.happen("b", "seen", ago=3 * DAY)
    store.happen("b", "seen")
    async with telling(store, told) as webhooks:
        await store.until(lambda: not store.untold)
    assert sorted(told.ids) == ["event_a-1", "event_a-2", "event_b-1", "event_b-2"]
    assert webhooks.metrics.events.values == {("told",): 2, ("given_up",): 2}
    said = (
        f"did not get the webhook for event 1, {WORKER_EVENT}seen, which is not sent again: the receiver answered with "
        "status"
    )
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted(lines) == [f"job a: a.example {said} 410", f"job b: a.example {said} 500"]


async def test_of_a_receiver_that_takes_none_for_so_long_all_old_events_are_given_up_at_once(
    store: Ended, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.answers["a"] = [FAILED] * 1_000
    async with telling(store, told) as webhooks:
        store.happen("a", *["seen"] * 50)
        await store.until(lambda: store.heard)
        store.happen("a", "new")
        tried = len(told.sent)
        store.clock.advance(DAY + HOLD_MS + 1)
        told.answers.clear()
        store.happen("a", "newest")
        await store.until(lambda: not store.untold)
    assert told.ids[tried:] == ["event_a-52"]
    assert webhooks.metrics.events.values == {("told",): 1, ("given_up",): 51}
    assert (
        "a.example did not get the webhook for 51 events, which is not sent again: too many of them are waiting"
        in caplog.text
    )


async def test_a_history_that_cannot_be_read_is_read_later_and_given_up_once_its_job_is_over_for_so_long(
    store: Ended, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    store.unreadable.update(("a", "b"))
    store.happen("a", "seen")
    store.happen("b", "seen")
    async with telling(store, told) as webhooks:
        await store.until(lambda: {"a", "b"} <= store.heard.keys())
        assert not told.sent
        store.end("b")
        store.unreadable.discard("a")
        store.pass_by(15_000)
        await store.until(lambda: "a" not in store.untold)
        assert store.untold == ["b"]
        store.pass_by(DAY)
        await store.until(lambda: not store.untold)
    assert sorted(told.ids) == ["end_b", "event_a-1"]
    assert webhooks.metrics.events.values == {("told",): 1, ("given_up",): 1}
    assert "did not get the webhook for its events, which is not sent again: it cannot be read" in caplog.text


async def test_a_store_that_is_away_is_waited_for_and_no_event_is_told_twice(store: Ended, told: Told) -> None:
    told.slow.add("a.example")
    store.happen("a", "first", "second")
    async with telling(store, told):
        await told.until(lambda: told.sent)
        store.away = True
        told.go_on.set()
        await store.until(lambda: store.left.is_set())
        store.clock.advance(HOLD_MS + 1)
        store.away = False
        store.poke()
        await store.until(lambda: not store.untold)
    assert told.ids == ["event_a-1", "event_a-2"]


async def test_a_drain_waits_for_the_event_that_is_told_and_the_next_is_left_to_whoever_comes(
    store: Ended, told: Told
) -> None:
    told.slow.add("a.example")
    store.happen("a", "first", "second")
    async with telling(store, told) as webhooks:
        await told.until(lambda: told.sent)
        draining = asyncio.create_task(webhooks.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        told.go_on.set()
        await draining
    assert (told.ids, store.heard) == (["event_a-1"], {"a": [(1, 0)]})


async def test_who_is_ended_hands_back_what_is_in_hand_and_says_where_that_cannot_be(
    store: Ended, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.slow.add("a.example")
    store.happen("a", "seen")
    async with telling(store, told):
        await told.until(lambda: told.sent)
    assert store.heard == {"a": [(0, 0)]}
    async with telling(store, told):
        await told.until(lambda: len(told.sent) == 2)
        store.away = True
    assert store.untold == ["a"]
    assert "1 unsent webhooks wait for 20 s before other nodes can send them" in caplog.text
