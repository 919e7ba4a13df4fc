"""WatchJob: a job followed from whatever point to its end, by many, by slow ones, and by those who go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import pytest

from holon.domain.client import DEFAULT
from holon.domain.events import CancelRequested
from holon.engine import watching
from holon.engine.feeds import TAIL, Moved, Seen, Update
from holon.errors import StoreUnavailable
from holon.rxon.v1 import job_pb2, worker_pb2
from tests.integration.grpc_node import (
    CLIENT,
    ENDED,
    GUARD,
    JOBS,
    Node,
    Wire,
    a_node,
    fields_of,
    reason_of,
    result,
    trust,
    update,
    updates,
)

CODE = grpc.StatusCode
Response = job_pb2.WatchJobResponse


class Watch:
    """One stream of a watcher."""

    def __init__(
        self, channel: grpc.aio.Channel, job_id: str, after: int | None = None, metadata: Any = CLIENT
    ) -> None:
        request = job_pb2.WatchJobRequest(job_id=job_id, after_sequence=after)
        method: Any = channel.unary_stream
        self.call = method(JOBS + "WatchJob")(request.SerializeToString(), metadata=metadata)

    async def next_or_end(self) -> Response | None:
        """The next update; None where the stream ends with OK."""
        async with asyncio.timeout(GUARD):
            raw = await self.call.read()
        return None if raw is grpc.aio.EOF else Response.FromString(raw)

    async def next(self) -> Response:
        told = await self.next_or_end()
        assert told is not None, "the stream has ended"
        return told

    async def until(self, kind: str) -> list[Response]:
        """What is told up to the first update of this kind."""
        told = [await self.next()]
        while told[-1].WhichOneof("update") != kind:
            told.append(await self.next())
        return told

    async def rest(self) -> list[Response]:
        """All that is told, up to an end with OK."""
        told: list[Response] = []
        while (one := await self.next_or_end()) is not None:
            told.append(one)
        return told

    async def refused(self) -> grpc.aio.AioRpcError:
        with pytest.raises(ENDED) as error:
            await self.rest()
        return error.value


def watch(node: Node, job_id: str, after: int | None = None) -> Watch:
    return Watch(node.channel, job_id, after)


def events_of(told: list[Response]) -> list[job_pb2.HistoryEvent]:
    return [one.event for one in told if one.HasField("event")]


async def says(node: Node, worker: Wire, offer: worker_pb2.TaskOffer, percent: float, message: str = "") -> None:
    """A worker tells of its progress, and the node stores it now."""
    progress = worker_pb2.TaskProgress(percent=percent, message=message)
    await worker.send(updates(update(offer, accepted=worker_pb2.TaskAccepted()), update(offer, progress=progress)))
    await worker.beat()
    await node.engine.touches.flush()


def nothing_is_left(node: Node) -> None:
    store: Any = node.engine.store
    assert store._hints.watched == set()
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def finish(worker: Wire) -> None:
    await worker.send(updates(result(await worker.offer(), {"done": True})))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


async def works(node: Node) -> None:
    """A worker comes and finishes one job."""
    await finish(await node.worker())


# From where to where ---------------------------------------------------------------------------------------------


async def test_a_job_is_told_as_it_is_then_what_happens_and_at_last_as_it_ended(node: Node) -> None:
    job_id = await node.create()
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
    job_id = await node.create()
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
    job_id = await node.create()
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


# Many, and slow ones ---------------------------------------------------------------------------------------------


async def test_who_does_not_read_holds_up_nobody_and_reads_all_of_it_later(node: Node) -> None:
    branches = 4 * TAIL
    job_id = await node.create("spread", branches=branches)
    slow, quick = watch(node, job_id, 0), watch(node, job_id, 0)
    await slow.next()
    worker = await node.worker(credits=branches)
    done = 0
    while done < branches:
        kind, said = await worker.next()
        if kind == "task_offers":
            await worker.send(updates(result(said, {"x": "y" * 100})))
        elif kind == "update_acks":
            done += 1
    told = await quick.rest()
    assert told[-1].job.status == "finished"
    history = [event async for event in whole_history(node, job_id)]
    assert events_of(told) == history
    assert len(history) > branches
    assert events_of(await slow.rest()) == history


async def whole_history(node: Node, job_id: str) -> AsyncIterator[job_pb2.HistoryEvent]:
    token = ""
    while True:
        request = job_pb2.GetJobHistoryRequest(job_id=job_id, page_size=1000, page_token=token)
        page = await node.call("GetJobHistory", request, job_pb2.GetJobHistoryResponse.FromString)
        for event in page.events:
            yield event
        token = page.next_page_token
        if not token:
            return


async def test_who_is_slow_is_told_of_the_newest_progress_only(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    async with aclosing(node.engine.watching.follow(DEFAULT, job_id, None)) as following:
        await anext(following)
        quick = watch(node, job_id)
        await quick.next()
        for percent in range(1, 100, 20):
            await says(node, worker, offer, percent)
            while (await quick.until("progress"))[-1].progress.percent != percent:
                pass
        async with asyncio.timeout(GUARD):
            moved = await anext(following)
        while not isinstance(moved, Moved):
            moved = await anext(following)
        assert moved.percent == 81


async def test_a_thousand_watchers_cost_one_reading_and_leave_nothing_behind(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.create()
    reads = 0
    read = node.engine.store.job

    async def counted(wanted: str) -> Any:
        nonlocal reads
        reads += wanted == job_id
        return await read(wanted)

    monkeypatch.setattr(node.engine.store, "job", counted)
    channels = [
        await node.resources.enter_async_context(
            grpc.aio.secure_channel(
                f"localhost:{node.clients.port}", trust(), options=(("grpc.use_local_subchannel_pool", 1),)
            )
        )
        for _ in range(20)
    ]
    watches = [Watch(channels[n % 20], job_id) for n in range(1_000)]
    firsts = await asyncio.gather(*(one.next() for one in watches))
    assert len({first.job.id for first in firsts}) == 1
    assert node.engine.watching.watchers == 1_000
    await finish(await node.worker())
    ends = await asyncio.gather(*(one.rest() for one in watches))
    assert all(told[-1].job.status == "finished" for told in ends)
    assert reads < 20
    await node.until(lambda: node.engine.watching.watchers == 0)
    nothing_is_left(node)


async def test_a_client_that_goes_away_leaves_nothing_behind(node: Node) -> None:
    job_id = await node.create()
    watches = [watch(node, job_id) for _ in range(5)]
    for one in watches:
        await one.next()
    watches[0].call.cancel()
    await node.until(lambda: node.engine.watching.watchers == 4)
    assert repr(node.engine.watching) == "Watching(jobs=1, watchers=4)"
    for one in watches:
        one.call.cancel()
    await node.until(lambda: node.engine.watching.watchers == 0)
    nothing_is_left(node)


async def test_one_watcher_too_many_is_told_to_come_later(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 1)
    job_id = await node.create()
    first = watch(node, job_id)
    await first.next()
    error = await watch(node, job_id).refused()
    assert (error.code(), reason_of(error)) == (CODE.RESOURCE_EXHAUSTED, "WATCHES_FULL")
    await node.cancel(job_id)
    assert (await first.rest())[-1].job.terminal


# Ends that are none of the job's ---------------------------------------------------------------------------------


async def test_a_door_that_closes_sends_its_watchers_elsewhere() -> None:
    async with a_node() as node:
        job_id = await node.create()
        stream = watch(node, job_id)
        first = await stream.next()
        assert first.sequence
        closing = asyncio.create_task(node.clients.__aexit__(None, None, None))
        error = await stream.refused()
        assert (error.code(), reason_of(error)) == (CODE.UNAVAILABLE, "DRAINING")
        await closing


async def test_a_store_that_is_away_for_a_while_delays_a_watch_and_ends_it_not(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await node.create()
    stream = watch(node, job_id)
    await stream.next()
    read, failures = node.engine.store.job, iter(range(2))

    async def shaky(wanted: str) -> Any:
        record = await read(wanted)
        if record is not None and record.job.status.terminal:
            # From here on nothing changes any more, and so nothing hints at the job.
            for _ in failures:
                raise StoreUnavailable("the store is away", retry_after=0.01)
        return record

    monkeypatch.setattr(node.engine.store, "job", shaky)
    await node.engine.store.append(job_id, CancelRequested("x"), "cancel-0", 0)
    # Well before all that are watched are looked at anyway.
    async with asyncio.timeout(GUARD / 4):
        assert (await stream.rest())[-1].job.status == "cancelled"


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_job_in_a_part_of_the_store_that_is_away_delays_no_other_watch(
    node: Node, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    away, there = await node.create(), await node.create()
    streams = [watch(node, away), watch(node, there)]
    for stream in streams:
        await stream.next()
    read, reads, is_back = node.engine.store.job, 0, asyncio.Event()

    async def parted(wanted: str) -> Any:
        nonlocal reads
        if wanted == away:
            reads += 1
            if hangs:
                await is_back.wait()
            if reads == 1:
                raise StoreUnavailable("a part of the store is away", retry_after=0.01 if hangs else GUARD)
        return await read(wanted)

    monkeypatch.setattr(node.engine.store, "job", parted)
    node.engine.watching.changed([away])
    await node.until(lambda: reads > 0)
    await node.engine.store.append(there, CancelRequested("x"), "cancel-0", 0)
    async with asyncio.timeout(GUARD / 2):
        assert (await streams[1].rest())[-1].job.status == "cancelled"
    is_back.set()
    await node.cancel(away)
    assert (await streams[0].rest())[-1].job.terminal


async def test_a_job_that_cannot_be_read_ends_its_watch_and_no_other(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = await node.create(), await node.create()
    streams = [watch(node, broken), watch(node, sound)]
    for stream in streams:
        await stream.next()
    read = node.engine.store.job

    async def faulty(wanted: str) -> Any:
        if wanted == broken:
            raise RuntimeError("a secret of the node")
        return await read(wanted)

    monkeypatch.setattr(node.engine.store, "job", faulty)
    node.engine.watching.changed([broken])
    error = await streams[0].refused()
    assert error.code() is CODE.INTERNAL
    assert "secret" not in str(error)
    assert "a secret of the node" in caplog.text
    await node.cancel(sound)
    assert (await streams[1].rest())[-1].job.terminal


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "field"), [(99, "after_sequence"), (-1, "after_sequence")])
async def test_a_sequence_that_the_job_does_not_have_is_refused(node: Node, after: int, field: str) -> None:
    error = await watch(node, await node.create(), after).refused()
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(
    ("more", "field"), [({"streams": ["stdout"]}, "streams"), ({"logs_wanted": True}, "logs_wanted")]
)
async def test_what_is_not_there_yet_is_refused_by_name(node: Node, more: dict[str, Any], field: str) -> None:
    request = job_pb2.WatchJobRequest(job_id=await node.create(), **more)
    stream = Watch(node.channel, "")
    stream.call.cancel()
    method: Any = node.channel.unary_stream
    stream.call = method(JOBS + "WatchJob")(request.SerializeToString(), metadata=CLIENT)
    error = await stream.refused()
    assert (error.code(), fields_of(error)) == (CODE.INVALID_ARGUMENT, [field])


async def test_an_unknown_job_or_none_is_not_found(node: Node) -> None:
    for job_id in ("0-nothing", ""):
        error = await watch(node, job_id).refused()
        assert (error.code(), reason_of(error)) == (CODE.NOT_FOUND, "JOB_NOT_FOUND")
    assert repr(node.engine.watching) == "Watching(jobs=0, watchers=0)"


async def test_without_a_token_nothing_is_told(node: Node) -> None:
    error = await Watch(node.channel, await node.create(), metadata=()).refused()
    assert reason_of(error) == "TOKEN_INVALID"


async def test_a_malformed_request_is_refused_with_a_reason(node: Node) -> None:
    method: Any = node.channel.unary_stream
    stream = Watch(node.channel, "")
    stream.call.cancel()
    stream.call = method(JOBS + "WatchJob")(b"\xff\xff\xff", metadata=CLIENT)
    assert reason_of(await stream.refused()) == "MALFORMED_FRAME"


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
    async with aclosing(engine.watching.follow(record.job.owner, job_id, None, lines=False)) as short:
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
