"""Creating jobs: all or none, once per request, oldest first into the free slots of the caller."""

from __future__ import annotations

import pytest

from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.value import replace
from holon.errors import TooLarge
from holon.ports import MAX_DOCUMENT_BYTES, Claim, Creation, JobFilter, Note, Put
from tests.contract.world import World


async def test_a_created_job_can_be_read_at_once(world: World) -> None:
    new = world.new_job(data={"n": 2**60 + 1, "x": 3.0, "none": None, "empty": {}})
    created = await world.storage.create_jobs([new])
    assert created.jobs == ((new.job.id, Creation.CREATED),)
    record = await world.record(new.job.id)
    assert record.job == new.job
    assert record.created_at == world.now
    assert record.finished_at is None
    assert [event.type for event in await world.told(new.job.id)] == ["job_created"]


async def test_an_unknown_job_reads_as_none(world: World) -> None:
    assert await world.storage.job("0-unknown") is None


async def test_many_jobs_are_created_in_one_call_and_answered_in_order(world: World) -> None:
    items = [world.new_job() for _ in range(50)]
    created = await world.storage.create_jobs(items)
    assert created.jobs == tuple((item.job.id, Creation.CREATED) for item in items)
    assert await world.ready() == [item.job.id for item in items]


async def test_new_jobs_are_begun_before_their_creator_is_answered_as_far_as_there_is_room(world: World) -> None:
    first, begun = await world.create(), list[Claim]()
    items = [world.new_job() for _ in range(5)]
    world.storage.run_jobs(3, begun.append)
    await world.storage.create_jobs(items)
    assert [claim.job.id for claim in begun] == [first, items[0].job.id, items[1].job.id]
    await world.finish(begun[0])
    assert [claim.job.id for claim in begun[3:]] == [items[2].job.id]
    world.storage.run_jobs(0, begun.append)
    assert await world.ready() == [item.job.id for item in items[3:]]


async def test_a_repeated_request_answers_with_the_job_that_it_made(world: World) -> None:
    first = await world.create(request_id="r", digest=b"same")
    again = await world.storage.create_jobs([other := world.new_job(request_id="r", digest=b"same")])
    assert again.jobs == ((first, Creation.EXISTING),)
    assert await world.storage.job(other.job.id) is None
    assert await world.ready() == [first]
    assert len(await world.told(first)) == 1


async def test_a_create_call_whose_reply_was_lost_can_be_repeated(world: World) -> None:
    item = world.new_job(request_id="r", digest=b"same")
    await world.storage.create_jobs([item])
    again = await world.storage.create_jobs([item])
    assert again.jobs == ((item.job.id, Creation.EXISTING),)
    assert await world.ready() == [item.job.id]


async def test_the_job_of_a_request_is_found_by_its_id_and_owner_as_long_as_it_is_there(world: World) -> None:
    job = await world.create(request_id="r", digest=b"d\0\xff")
    owner = (await world.record(job)).job.owner
    assert await world.storage.made(owner, "r") == (job, b"d\0\xff")
    assert await world.storage.made(owner, "s") is None
    assert await world.storage.made(f"{owner}2", "r") is None


async def test_the_same_request_id_for_something_else_is_a_conflict_and_makes_nothing(world: World) -> None:
    first = await world.create(request_id="r", digest=b"one")
    answer = await world.storage.create_jobs([other := world.new_job(request_id="r", digest=b"two")])
    assert answer.jobs[0][1] is Creation.CONFLICT
    assert await world.storage.job(other.job.id) is None
    assert await world.ready() == [first]


async def test_request_ids_of_different_owners_never_meet(world: World) -> None:
    first = await world.create(owner="ann", request_id="r", digest=b"one")
    second = await world.storage.create_jobs([item := world.new_job(owner="bob", request_id="r", digest=b"two")])
    assert second.jobs == ((item.job.id, Creation.CREATED),)
    assert item.job.id != first


async def test_new_and_known_requests_share_a_call(world: World) -> None:
    known = await world.create(request_id="known")
    created = await world.storage.create_jobs([world.new_job(request_id="known"), new := world.new_job()])
    assert created.jobs == ((known, Creation.EXISTING), (new.job.id, Creation.CREATED))


async def test_one_request_twice_in_a_call_makes_one_job(world: World) -> None:
    items = [world.new_job(request_id="r"), world.new_job(request_id="r")]
    created = await world.storage.create_jobs(items)
    assert created.jobs == ((items[0].job.id, Creation.CREATED), (items[0].job.id, Creation.EXISTING))
    assert await world.ready() == [items[0].job.id]


async def test_a_repeated_request_finds_its_job_when_it_is_over(world: World) -> None:
    claim = await world.start(request_id="r")
    await world.finish(claim)
    again = await world.storage.create_jobs([world.new_job(request_id="r")])
    assert again.jobs == ((claim.job.id, Creation.EXISTING),)
    assert await world.ready() == []


async def test_a_purged_job_is_gone_with_all_that_is_its(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand, claim=await world.start(request_id="r"))
    await world.complete(offer)
    await world.finish(await world.claim_of(offer.job_id))
    running = await world.create()
    world.clock.advance(1_000)
    assert await world.storage.purge(world.now, 10) == 1
    assert await world.storage.job(offer.job_id) is None
    assert await world.storage.task(offer.task_id) is None
    assert await world.told(offer.job_id) == []
    assert (await world.storage.create_jobs([world.new_job(request_id="r")])).jobs[0][1] is Creation.CREATED
    assert (await world.record(running)).job.status is Status.PENDING


async def test_the_store_says_when_the_ended_jobs_ended_that_are_too_many(world: World) -> None:
    ends = []
    for _ in range(3):
        ends.append(world.now)
        await world.finish(await world.start())
        world.clock.advance(10)
    await world.create()
    assert [await world.storage.surplus(keep) for keep in (0, 1, 2, 3)] == [*reversed(ends), None]
    assert await world.storage.purge(ends[1] + 1, 10) == 2
    assert await world.storage.surplus(1) is None


async def test_a_purge_takes_what_ended_before_its_time_and_no_more_than_its_limit(world: World) -> None:
    for _ in range(3):
        await world.finish(await world.start())
        world.clock.advance(1_000)
    started = world.now - 3_000
    assert await world.storage.purge(started, 10) == 0
    assert await world.storage.purge(started + 1_500, 1) == 1
    assert await world.storage.purge(started + 1_500, 10) == 1
    assert len((await world.storage.jobs(JobFilter("ann"), 10))[0]) == 1
    assert await world.storage.purge(world.now, 10) == 1


async def test_a_note_is_written_with_its_job_and_with_one_that_is_there_already(world: World) -> None:
    async def made(request_id: str, version: int, text: bytes = b"1", **note: int) -> tuple[Creation, int | None]:
        new = world.new_job(request_id=request_id, digest=b"d")
        noted = replace(new, note=Note("notes", Put(f"of {request_id}", text, version, **note)))
        reply = await world.storage.create_jobs([noted, world.new_job()])
        assert reply.jobs[1][1] is Creation.CREATED
        assert reply.notes[1] is None
        return reply.jobs[0][1], reply.notes[0]

    creation, first = await made("a", 0)
    assert creation is Creation.CREATED
    assert first
    creation, second = await made("a", first, b"2")
    assert creation is Creation.EXISTING
    assert second not in (None, first)
    # Somebody else has written it meanwhile.
    assert await made("a", first, b"3") == (Creation.OUTDATED, None)
    assert (await made("b", 7)) == (Creation.OUTDATED, None)
    creation, _ = await made("c", 0, expires_in=1_000)
    assert creation is Creation.CREATED
    found = await world.storage.documents("notes")
    assert (found[0].value, found[0].version) == (b"2", second)
    assert [one.key for one in found] == ["of a", "of c"]
    with pytest.raises(TooLarge):
        await made("d", 0, b"x" * (MAX_DOCUMENT_BYTES + 1))
    assert (await world.storage.create_jobs([world.new_job()])).notes == ()


async def test_a_purge_spares_what_is_named_and_comes_to_what_is_behind_it(world: World) -> None:
    ended = []
    for _ in range(3):
        claim = await world.start()
        await world.finish(claim)
        ended.append(claim.job.id)
        world.clock.advance(10)
    assert await world.storage.purge(world.now, 1, ended[:2]) == 1
    assert [await world.storage.job(one) is not None for one in ended] == [True, True, False]
    assert await world.storage.purge(world.now, 10, ended[:2]) == 0
    assert await world.storage.purge(world.now, 10, ended[:1]) == 1
    assert await world.storage.job(ended[0]) is not None


async def test_a_purge_keeps_to_its_limit_whatever_is_spared(world: World) -> None:
    ended = []
    for _ in range(5):
        claim = await world.start()
        await world.finish(claim)
        ended.append(claim.job.id)
        world.clock.advance(10)
    assert await world.storage.purge(world.now, 2, ended[4:]) == 2
    assert await world.storage.purge(world.now, 2, ended[4:]) == 2
    assert await world.storage.purge(world.now, 2, ended[4:]) == 0
    assert await world.storage.job(ended[4]) is not None


@pytest.mark.parametrize("length", [31, 32, 255, 256, 70_000])
async def test_names_of_any_length_stay_with_a_job_and_its_task(world: World, length: int) -> None:
    owner, skill = "o" * length, "s" * length
    claim = await world.start(owner=owner, blueprint="b" * length)
    hand, need = await world.hand("w" * length), Need(skill)
    task = await world.dispatch(need, claim)
    [offer] = await world.lease(hand.seat(1, need))
    assert (offer.task_id, offer.worker_id) == (task, "w" * length)
    assert await world.complete(offer) is None
    kept = await world.task_record(task)
    assert (kept.need, kept.worker_id) == (need, "w" * length)
    record = await world.record(claim.job.id)
    assert (record.job.owner, record.job.blueprint) == (owner, "b" * length)
    assert [event.type for event in await world.told(claim.job.id)][-1] == "task_finished"
