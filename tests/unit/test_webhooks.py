"""Webhooks: every end is told once it is over, until it was taken; whoever does not listen holds up nobody."""

from __future__ import annotations

import asyncio
import logging

import pytest

from holon.clock import ManualClock
from holon.engine.tellers import HOLD_MS
from holon.engine.webhooks import FOR_ENDS
from holon.ports import Answer, Ends, Heard
from holon.storage.promises import Promise, Promises
from tests.unit.ends_to_tell import DAY, FAILED, GUARD, Ended, Told, telling

MOST, MOST_OF_CLIENT, MOST_AT_HOST = FOR_ENDS.in_all, FOR_ENDS.of_client, FOR_ENDS.at_host


@pytest.fixture
async def store() -> Ended:
    return Ended(ManualClock())


@pytest.fixture
async def told() -> Told:
    return Told()


async def a_few_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_end_is_told_once_and_then_forgotten(store: Ended, told: Told) -> None:
    store.end("before", ago=1_000)
    async with telling(store, told) as webhooks:
        await store.until(lambda: not store.open)
        store.end("after", "https://b.example/y")
        await store.until(lambda: not store.open)
    assert [(url, name, body["job_id"]) for url, name, body in told.sent] == [
        ("https://a.example/x", "end_before", "before"),
        ("https://b.example/y", "end_after", "after"),
    ]
    assert webhooks.metrics.told.values == {("told",): 2}
    assert webhooks.metrics.delay.series[()].total == 1.0


async def test_who_fails_is_told_again_later_each_time_and_the_same(
    store: Ended, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.engine.tellers.random.random", lambda: 0.5)
    told.answers["a"] = [FAILED, Answer(Heard.LATE, "it did not answer"), RuntimeError("broken")]
    store.end("a")
    waits = []
    async with telling(store, told) as webhooks:
        for tries in range(1, 4):
            await store.until(lambda tries=tries: len(store.settled) == tries)  # type: ignore[misc]
            ((done, after),) = store.settled[-1][1]
            assert (store.settled[-1][0], done) == ([], "a")
            waits.append(after)
            store.pass_by(after - 1)
            store.pass_by(1)
        await store.until(lambda: not store.open)
    assert len({str(one) for one in told.sent}) == 1
    assert len(told.sent) == 4
    assert waits == [1_000, 1_000, 2_000]
    assert webhooks.metrics.tries.values == {("refused",): 1, ("late",): 1, ("unreached",): 1, ("told",): 1}


async def test_who_says_when_is_told_then(store: Ended, told: Told) -> None:
    told.answers["a"] = [Answer(Heard.REFUSED, "busy", 60_000)]
    store.end("a")
    async with telling(store, told):
        await store.until(lambda: store.settled)
        assert store.settled == [([], [("a", 60_000)])]


async def test_who_is_gone_is_told_no_more(store: Ended, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.answers["a"] = [Answer(Heard.GONE, "the receiver answered with status 410")]
    store.end("a", "https://a.example/secret?key=secret")
    async with telling(store, told) as webhooks:
        await store.until(lambda: not store.open)
    assert store.settled == [(["a"], [])]
    assert webhooks.metrics.told.values == {("given_up",): 1}
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert (
        line == "job a: a.example did not get the webhook for its end, which is not sent again: the receiver "
        "answered with status 410"
    )


async def test_what_fails_is_given_up_after_a_while_but_not_untried(store: Ended, told: Told) -> None:
    told.answers["old"] = [FAILED]
    store.end("old", ago=3 * DAY)
    store.end("older", ago=9 * DAY)
    async with telling(store, told) as webhooks:
        await store.until(lambda: not store.open)
    assert sorted(told.jobs) == ["old", "older"]
    assert webhooks.metrics.told.values == {("given_up",): 1, ("told",): 1}


async def test_a_host_that_does_not_answer_holds_up_no_other_and_comes_to_its_turn(store: Ended, told: Told) -> None:
    told.slow.add("slow.example")
    for number in range(3 * MOST):
        store.end(f"slow-{number}", "https://slow.example/", owner=f"client-{number % 9}")
    async with telling(store, told):
        await store.until(lambda: len([one for _, again in store.settled for one in again]) == 3 * MOST - MOST_AT_HOST)
        assert len(told.sent) == MOST_AT_HOST
        store.end("quick", "https://quick.example/")
        await store.until(lambda: "quick" not in store.open)
        # Each was given a turn of its own: they do not come back together.
        turns = sorted(after for _, again in store.settled for _, after in again)
        assert turns[-1] > 4_000
        told.go_on.set()
        while store.open:
            store.pass_by(1_000)
            await asyncio.sleep(0)
    assert sorted(told.jobs) == sorted(["quick", *(f"slow-{number}" for number in range(3 * MOST))])
    assert told.most == MOST_AT_HOST + 1


async def test_a_client_of_many_slow_hosts_holds_up_no_other_client(store: Ended, told: Told) -> None:
    for number in range(MOST):
        host = f"slow-{number}.example"
        told.slow.add(host)
        store.end(host, f"https://{host}/", owner="greedy")
    async with telling(store, told) as webhooks:
        await told.until(lambda: len(told.sent) == MOST_OF_CLIENT)
        store.end("other", "https://quick.example/", owner="other")
        await store.until(lambda: "other" not in store.open)
        assert webhooks.telling == MOST_OF_CLIENT
        told.go_on.set()


async def test_no_more_are_told_at_once_than_so_many(store: Ended, told: Told) -> None:
    for number in range(2 * MOST):
        host = f"{number}.example"
        told.slow.add(host)
        store.end(host, f"https://{host}/", owner=f"client-{number}")
    async with telling(store, told):
        await told.until(lambda: len(told.sent) == MOST)
        # Nor is the store asked for what there is no room for: it would say so.
        store.poke()
        await a_few_turns()
        told.go_on.set()
        await store.until(lambda: not store.open)
    assert told.most == MOST


async def test_one_who_is_told_more_than_it_takes_is_given_up_once_there_was_all_the_time(
    store: Ended, told: Told
) -> None:
    told.slow.add("slow.example")
    for number in range(MOST_AT_HOST):
        store.end(f"slow-{number}", "https://slow.example/")
    async with telling(store, told) as webhooks:
        await told.until(lambda: len(told.sent) == MOST_AT_HOST)
        store.end("old", "https://slow.example/", ago=2 * DAY)
        await store.until(lambda: store.settled)
        # It is old, but nobody could have told it here.
        assert store.settled[-1][1][0][0] == "old"
        store.pass_by(DAY)
        await store.until(lambda: "old" not in store.open)
        assert webhooks.metrics.told.values == {("given_up",): 1}
        assert "old" not in told.jobs
        told.go_on.set()


async def test_a_store_that_is_away_is_waited_for_and_nothing_is_told_twice(store: Ended, told: Told) -> None:
    store.away = True
    store.end("a")
    async with telling(store, told):
        await store.until(lambda: store.taken > 1)
        assert not told.sent
        told.slow.add("a.example")
        store.away = False
        await told.until(lambda: told.sent)
        store.away = True
        told.go_on.set()
        await store.until(lambda: store.unheard > 1)
        # Its hold is over before the store hears what became of it.
        store.clock.advance(HOLD_MS + 1)
        store.away = False
        store.poke()
        await store.until(lambda: not store.open)
    assert told.jobs == ["a"]


async def test_a_drain_waits_for_what_is_told_and_takes_nothing_more(store: Ended, told: Told) -> None:
    told.slow.add("a.example")
    store.end("a")
    async with telling(store, told) as webhooks:
        await told.until(lambda: told.sent)
        draining = asyncio.create_task(webhooks.drain())
        await asyncio.sleep(0)
        store.end("b", "https://b.example/")
        await a_few_turns()
        assert not draining.done()
        told.go_on.set()
        async with asyncio.timeout(GUARD):
            await draining
    assert told.jobs == ["a"]
    assert store.open == ["b"]


async def test_who_is_ended_hands_back_what_is_in_hand_at_once(store: Ended, told: Told) -> None:
    told.slow.add("a.example")
    store.end("a")
    async with telling(store, told):
        await told.until(lambda: told.sent)
    assert store.settled == [([], [("a", 0)])]
    told.go_on.set()
    async with telling(store, told):
        await store.until(lambda: not store.open)
    assert told.jobs == ["a", "a"]


class Late(Ended):
    """It answers who takes ends once he was cancelled, as stores do; only then he hears of that."""

    promises = Promises()

    async def take_ends(self, limit: int, hold: int) -> Ends:
        ends, taker = await super().take_ends(limit, hold), asyncio.current_task()
        assert taker is not None
        reply: Promise[Ends] = Promise(loop=asyncio.get_running_loop())

        async def answer() -> None:
            async with asyncio.timeout(GUARD):
                while not taker.cancelling():  # noqa: ASYNC110  it is the next turn of the loop
                    await asyncio.sleep(0)
                reply.set_result(ends)

        self.answering = asyncio.create_task(answer())
        self.left.set()
        return await self.promises.kept(reply)


async def test_who_is_ended_hands_back_what_the_store_gives_it_after_that(told: Told) -> None:
    store = Late(ManualClock())
    store.end("a")
    async with telling(store, told):
        await store.until(lambda: store.taken)
    assert (store.settled, told.sent) == ([([], [("a", 0)])], [])


async def test_who_is_ended_while_the_store_is_away_ends_all_the_same(store: Ended, told: Told) -> None:
    told.slow.add("a.example")
    store.end("a")
    async with telling(store, told):
        await told.until(lambda: told.sent)
        store.away = True
    assert store.open == ["a"]


async def test_without_a_secret_what_is_left_of_before_waits_and_is_given_up_in_the_end(store: Ended) -> None:
    store.end("a")
    async with telling(store, None) as webhooks:
        await store.until(lambda: store.settled)
        assert store.open == ["a"]
        store.pass_by(DAY)
        await store.until(lambda: not store.open)
    assert webhooks.metrics.told.values == {("given_up",): 1}


async def test_an_address_that_is_none_any_more_stops_nobody(store: Ended, told: Told) -> None:
    told.answers["a"] = [Answer(Heard.FORBIDDEN, "its address is no URL")]
    store.end("a", "nonsense")
    store.end("b")
    async with telling(store, told):
        await store.until(lambda: store.open == ["a"])
    assert sorted(told.jobs) == ["a", "b"]
