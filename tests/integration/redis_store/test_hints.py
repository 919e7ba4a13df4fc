"""Nodes on one Redis tell each other what there is to do, and what changed."""

from __future__ import annotations

import asyncio

import pytest

from holon.domain.events import Woken
from holon.domain.job import Status
from holon.ports import Document, Hint, Opening, Replaced, StopReason, StoreSettings
from holon.storage.redis import RedisStorage
from holon.storage.redis.link import Link
from holon.storage.waiting import MAX_WAITING
from tests.contract.world import T, World
from tests.hints import heard, hints_of
from tests.integration.redis_store.nodes import GUARD, Nodes


async def test_a_job_goes_to_one_of_many_nodes(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    jobs = [await first.create() for _ in range(20)]
    claims = await asyncio.gather(*(world.storage.claim(2) for world in (first, second) * 5))
    assert sorted(claim.job.id for some in claims for claim in some) == sorted(jobs)


async def test_a_task_is_leased_to_a_worker_of_another_node_which_is_woken_for_it(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand, hints = await second.hand(), hints_of(second.storage)
    task = await first.dispatch()
    await heard(hints, lambda hint: T.key in hint.keys)
    [offer] = await second.lease(hand.seat())
    assert offer.task_id == task
    assert await first.complete(offer) is None
    assert await second.ready() == [offer.job_id]


async def test_a_node_that_wanted_more_is_woken_when_another_leaves_a_job(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    assert await second.ready() == []
    hints = hints_of(second.storage)
    job = await first.create()
    await heard(hints, lambda hint: hint.ready)
    assert await second.ready() == [job]


async def test_a_stop_is_taken_by_the_node_of_the_worker(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand = await second.hand()
    offer = await second.accepted(hand)
    hints = hints_of(second.storage)
    await first.append(offer.job_id, Woken(9))
    ended = first.step(await first.claim_of(offer.job_id), Status.FAILED, end_tasks=True)
    await first.commit(ended)
    await heard(hints, lambda hint: hint.stops)
    assert await first.stops() == []
    assert [(stop.lease, stop.reason) for stop in await second.stops()] == [(hand.ref(offer), StopReason.CANCELLED)]


async def test_the_node_of_a_session_that_was_replaced_is_told_by_which_process(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hand = await second.hand()
    hints = hints_of(second.storage)
    await first.storage.open_session(Opening("w1", "newer", 1, instance_id="a process: 1"))
    await heard(hints, lambda hint: hint.stops)
    assert (await first.touch()).replaced == ()
    assert (await second.touch()).replaced == (Replaced(hand.session_id, "newer", "a process: 1"),)
    assert (await second.touch()).replaced == ()


async def test_that_a_session_was_replaced_is_told_though_the_reply_that_says_so_is_lost(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hand = await world.hand()
    opening = Opening("w1", "newer", 1)
    await world.storage.open_session(opening)
    assert (await world.storage.open_session(opening)).replaced is None
    assert (await world.touch()).replaced == (Replaced(hand.session_id, "newer", ""),)


async def test_a_watched_job_that_changes_at_another_node_is_hinted_at(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    job = await first.create()
    await second.storage.watch(job)
    hints = hints_of(second.storage)
    await first.append(job, Woken(1))
    await heard(hints, lambda hint: job in hint.jobs)


@pytest.mark.parametrize("partitions", [1, 3])
async def test_what_a_node_passes_on_of_a_job_is_told_to_the_others_that_watch_it(
    nodes: Nodes, partitions: int
) -> None:
    first, second, third = [await nodes.add(name, partitions=partitions) for name in "abc"]
    job, other = await first.create(), await first.create()
    for world in (first, second):
        await world.storage.watch(job)
    theirs, others = hints_of(second.storage), list[Hint]()
    first.storage.hear(others.append)
    third.storage.hear(others.append)
    for passed in ((other, b"nobody"), (job, b"\xc1 two words\x00"), (job, b"")):
        first.storage.pass_on(*passed)
    hint = await heard(theirs, lambda hint: bool(hint.said))
    assert hint.said == ((job, b"\xc1 two words\x00"),)
    assert (await heard(theirs, lambda hint: bool(hint.said))).said == ((job, b""),)
    await first.append(job, Woken(1))
    await heard(theirs, lambda hint: job in hint.jobs)
    assert not any(hint.said for hint in others)


async def test_a_document_that_changed_at_another_node_is_hinted_at_and_read(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hints = hints_of(second.storage)
    version = await first.storage.put_document("keys", "a", b"1", version=0)
    assert (await heard(hints, lambda hint: hint.documents)).documents == {"keys"}
    assert await second.storage.document("keys", "a") == Document("keys", "a", version or 0, b"1")
    assert await second.storage.put_document("keys", "a", b"2", version=0) is None


async def test_an_earlier_timer_is_told_to_every_node(nodes: Nodes) -> None:
    first, second = await nodes.add("a"), await nodes.add("b")
    hints = hints_of(second.storage)
    await first.dispatch(dispatch_timeout=1_000)
    await heard(hints, lambda hint: hint.due is not None and hint.due <= first.now + 1_000)


async def test_a_node_that_moves_history_where_others_keep_it_is_told_of(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "database of history" in record.getMessage()]

    await nodes.add("a")
    await nodes.add("b")
    assert told() == []
    await nodes.add("c", StoreSettings("c", history_backlog=10_000))
    [one] = told()
    assert one.startswith("this node has a database of history (HISTORY_DATABASE_URI), unlike a, b: ")
    await nodes.add("d")
    assert told()[1].startswith("this node has no database of history (HISTORY_DATABASE_URI), unlike c: ")


async def test_words_that_no_node_can_read_keep_none_from_hearing_the_others(nodes: Nodes) -> None:
    world = await nodes.add("a")
    hints = hints_of(world.storage)
    async with nodes.redis() as redis:
        for words in (b"b dsoon f fnone fjob-first d", b"\xff \xfe d\xff", b"", b"b f0-job-7 k" + T.key.encode()):
            await redis.publish(f"{id_of(world)}:", words)
    assert (await heard(hints, lambda hint: T.key in hint.keys)).spawns == {("0-job", 7)}


async def test_a_node_that_cannot_listen_any_more_is_not_left_without_a_word(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heard_from_others(_: Link, message: str) -> None:
        raise ValueError(f"nobody expected {message!r}")

    monkeypatch.setattr(Link, "_heard_from_others", heard_from_others)
    world = await nodes.add("a")
    async with nodes.redis() as redis:
        await redis.publish(f"{id_of(world)}:", b"b r")
    async with asyncio.timeout(GUARD):
        with pytest.raises(ValueError, match="nobody expected 'b r'"):
            await world.storage.failure()


def id_of(world: World) -> str:
    """The store's, by which its nodes hear of each other."""
    assert isinstance(world.storage, RedisStorage)
    return world.storage._store_id


async def test_what_is_passed_on_leaves_room_for_what_has_to_be_stored(nodes: Nodes) -> None:
    first = await nodes.add("a")
    job = await first.create()
    for _ in range(2 * MAX_WAITING):
        first.storage.pass_on(job, b"line")
    assert await first.storage.job(job) is not None
