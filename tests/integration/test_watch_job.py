"""WatchJob: a job followed from whatever point to its end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from holon.domain.client import Client
from holon.engine.feeds import Moved, Seen, Update
from tests.integration.grpc_node import Node, a_node, result, updates
from tests.integration.watching import Response, events_of, finish, says, waiting, watch, works


async def test_a_job_is_told_as_it_is_then_what_happens_and_at_last_as_it_ended(node: Node) -> None:
    job_id = await waiting(node)
    stream = watch(node, job_id)
    first = await stream.next()
    assert (first.job.id, first.job.status, first.job.terminal) == (job_id, "waiting_for_worker", False)
    assert first.sequence == first.job.sequence == len(await node.history(job_id))
    worker = await node.worker()
    offer = await worker.offer()
    await says(node, worker, offer, 40, "nearly half")
    while not (progress := (await stream.until("progress"))[-1].progress).HasField("percent"):
        pass
    assert (progress.percent, progress.message) == (40, "nearly half")
    assert (progress.status, progress.current_state) == ("waiting_for_worker", "start")
    await worker.send(updates(result(offer, {"n": 1})))
    told = await stream.rest()
    assert told[-1].job == await node.job(job_id)
    assert (told[-1].job.status, told[-1].job.terminal) == ("finished", True)
    history = await node.history(job_id)
    assert events_of(told) == history[first.sequence :]
    assert events_of(told)[-1].event_type == "job_completed"
    assert told[-1].sequence == history[-1].sequence


async def test_from_the_beginning_all_of_the_history_is_told(node: Node) -> None:
    job_id = await node.create()
    stream = watch(node, job_id, 0)
    first = await stream.next()
    assert first.HasField("job")
    assert first.sequence == 0
    await finish(await node.worker())
    told = await stream.rest()
    assert events_of(told) == await node.history(job_id)
    sequences = [one.sequence for one in told]
    assert sequences == sorted(sequences)


async def test_a_broken_stream_is_resumed_after_its_last_sequence_and_nothing_is_told_twice(node: Node) -> None:
    job_id = await node.create()
    told: list[Response] = []
    after = 0
    working = asyncio.create_task(works(node))
    while not (told and told[-1].HasField("job") and told[-1].job.terminal):
        stream = watch(node, job_id, after)
        assert (await stream.next()).sequence == after
        told.append(await stream.next_or_end() or Response(job=await node.job(job_id)))
        after = max(after, told[-1].sequence)
        stream.call.cancel()
    await working
    assert events_of(told) == await node.history(job_id)


async def test_a_job_that_is_over_is_told_once_and_with_its_history_where_that_is_asked_for(node: Node) -> None:
    job_id = await node.create()
    await finish(await node.worker())
    ended = await node.ended(job_id)
    history = await node.history(job_id)
    assert [one.job for one in await watch(node, job_id).rest()] == [ended]
    assert [one.job for one in await watch(node, job_id, len(history)).rest()] == [ended]
    told = await watch(node, job_id, 0).rest()
    assert events_of(told) == history
    assert (told[0].job, told[-1].job) == (ended, ended)
    assert (told[0].sequence, told[-1].sequence) == (0, len(history))


async def test_why_a_job_waits_is_told_and_that_it_waits_no_more(node: Node) -> None:
    job_id = await waiting(node)
    stream = watch(node, job_id)
    assert (await stream.next()).job.progress_message == "waiting: no worker connected to this node offers skill 't'"
    worker = await node.worker()
    await worker.offer()
    assert (await stream.until("progress"))[-1].progress.message == ""


async def test_a_cancel_ends_the_watch(node: Node) -> None:
    job_id = await node.create()
    stream = watch(node, job_id)
    await stream.next()
    await node.cancel(job_id)
    assert (await stream.rest())[-1].job.status == "cancelled"


async def test_what_changes_nothing_to_be_seen_is_not_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await waiting(node)
    stream = watch(node, job_id)
    seen = await stream.next()
    reads = 0
    read = node.engine.store.job

    async def counted(wanted: str) -> Any:
        nonlocal reads
        reads += 1
        return await read(wanted)

    monkeypatch.setattr(node.engine.store, "job", counted)
    node.engine.watching.changed([job_id])
    await node.until(lambda: reads > 0)
    await node.cancel(job_id)
    told = await stream.rest()
    assert [one.WhichOneof("update") for one in told] == ["event"] * (len(told) - 1) + ["job"]
    assert told[0].sequence == seen.sequence + 1


async def test_a_sequence_that_was_read_elsewhere_is_known_to_a_watch_at_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.create()
    first = watch(node, job_id)
    await first.next()
    monkeypatch.setattr(node.engine.watching, "changed", lambda _: None)
    await node.cancel(job_id)
    ended = await node.ended(job_id)
    assert [one.job for one in await watch(node, job_id, ended.sequence).rest()] == [ended]


async def test_nothing_happens_and_the_stream_is_alive() -> None:
    async with a_node(watch_idle=20) as node:
        job_id = await node.create()
        stream = watch(node, job_id)
        first = await stream.next()
        idle = (await stream.until("idle"))[-1]
        assert idle.sequence == first.sequence
        await finish(await node.worker())
        assert (await stream.rest())[-1].job.terminal


async def test_what_is_no_news_does_not_put_off_the_sign_of_life() -> None:
    async with a_node(watch_idle=1_500) as node:
        job_id = await node.create()
        worker = await node.worker()
        offer = await worker.offer()
        await says(node, worker, offer, 5)
        stream = watch(node, job_id)
        assert (await stream.next()).job.progress == 5
        idle = asyncio.create_task(stream.until("idle"))
        while not idle.done():
            await says(node, worker, offer, 5)
        assert (await idle)[-1].sequence == 4


async def test_who_wants_no_lines_is_told_none_and_has_none_read_and_others_miss_none(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = node.engine
    history, read = engine.records.history, []

    async def reading(*page: Any) -> Any:
        read.append(page)
        return await history(*page)

    monkeypatch.setattr(engine.records, "history", reading)
    job_id = await node.create()
    record = await engine.store.job(job_id)
    assert record is not None
    told: list[Update] = []
    async with aclosing(engine.watching.follow(Client(record.job.owner), job_id, None, lines=False)) as short:
        told.append(await anext(short))
        worker = await node.worker()
        offer = await worker.offer()
        await says(node, worker, offer, 40)
        while not (isinstance(told[-1], Moved) and told[-1].percent == 40):
            told.append(await anext(short))
        assert read == []
        stream = watch(node, job_id, after=0)
        first = await stream.next()
        await worker.send(updates(result(offer, {"n": 1})))
        rest = await stream.rest()
        told += [update async for update in short]
    assert events_of([first, *rest]) == await node.history(job_id)
    assert {type(one) for one in told} == {Seen, Moved}
    assert isinstance(told[-1], Seen)
    assert told[-1].record.job.status.terminal
