"""Reads: what clients see of jobs, in pages, each owner's own."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.value import replace
from holon.ports import JobFilter, NewFanOut, Offer, Progress
from tests.contract.world import BROKEN, OK, Hand, T, U, World


async def listed(world: World, limit: int = 100, owner: str = "ann", **fields: Any) -> list[str]:
    """The ids of all pages, `limit` on each."""
    found: list[str] = []
    before: int | None = None
    while True:
        records, before = await world.storage.jobs(JobFilter(owner, before=before, **fields), limit)
        assert len(records) <= limit
        found += [record.job.id for record in records]
        if before is None:
            return found


async def test_jobs_are_listed_newest_first(world: World) -> None:
    jobs = [await world.create() for _ in range(5)]
    assert await listed(world) == jobs[::-1]


async def test_pages_hold_every_job_once_while_new_ones_come(world: World) -> None:
    jobs = [await world.create() for _ in range(7)]
    page, before = await world.storage.jobs(JobFilter("ann"), 3)
    assert before is not None
    await world.create()
    rest, before = await world.storage.jobs(JobFilter("ann", before=before), 3)
    assert before is not None
    last, before = await world.storage.jobs(JobFilter("ann", before=before), 3)
    assert before is None
    assert [record.job.id for record in (*page, *rest, *last)] == jobs[::-1]


async def test_a_page_that_holds_all_is_the_last(world: World) -> None:
    jobs = [await world.create() for _ in range(3)]
    assert await listed(world, limit=3) == jobs[::-1]
    assert await listed(world, limit=1) == jobs[::-1]


async def test_a_page_ends_before_it_has_too_many_bytes_and_the_next_goes_on(world: World) -> None:
    jobs = [await world.create(data={"pad": "x" * 900_000}) for _ in range(8)]
    page, before = await world.storage.jobs(JobFilter("ann"), 100)
    assert [record.job.id for record in page] == jobs[:-4:-1]
    assert before is not None
    assert await listed(world) == jobs[::-1]
    assert await listed(world, limit=2) == jobs[::-1]


async def test_each_owner_sees_its_own_jobs(world: World) -> None:
    ann, bob = await world.create(owner="ann"), await world.create(owner="bob")
    assert await listed(world, owner="ann") == [ann]
    assert await listed(world, owner="bob") == [bob]
    assert await listed(world, owner="eve") == []


async def test_jobs_are_filtered_by_status_and_blueprint(world: World) -> None:
    waits, done = await world.start(blueprint="a"), await world.start(blueprint="b")
    await world.commit(world.step(waits, Status.WAITING_FOR_WORKER, tasks=(world.task(waits),)))
    await world.finish(done)
    pending = await world.create(blueprint="a")
    assert await listed(world, statuses=(Status.FINISHED,)) == [done.job.id]
    assert await listed(world, statuses=(Status.WAITING_FOR_WORKER, Status.FINISHED)) == [done.job.id, waits.job.id]
    assert await listed(world, blueprint="a") == [pending, waits.job.id]
    assert await listed(world, blueprint="a", statuses=(Status.WAITING_FOR_WORKER,)) == [waits.job.id]
    assert await listed(world, blueprint="c") == []


async def test_filtered_pages_hold_every_job_once(world: World) -> None:
    wanted = []
    for number in range(20):
        claim = await world.start()
        if number % 3 == 0:
            await world.finish(claim)
            wanted.append(claim.job.id)
    assert await listed(world, limit=2, statuses=(Status.FINISHED,)) == wanted[::-1]


async def test_the_newest_progress_of_a_task_is_its_jobs(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    assert (await world.record(offer.job_id)).progress is None
    for percent, message in ((10.0, "begun"), (50.0, "half")):
        await world.touch(progress=(Progress(hand.ref(offer), percent, message),))
    record = await world.record(offer.job_id)
    assert (record.progress, record.progress_message) == (50.0, "half")
    assert await world.ready() == []


async def test_progress_without_a_message_is_its_jobs_at_every_reader(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.touch(progress=(Progress(hand.ref(offer), 50.0, None),))
    [record] = (await world.storage.jobs(JobFilter("ann"), 10))[0]
    assert record.progress == 50.0
    assert (await world.record(offer.job_id)).progress == 50.0


async def test_a_message_stays_until_there_is_another_or_it_is_taken_back(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    said: list[tuple[float | None, str]] = []
    for percent, message in ((10.0, "begun"), (20.0, None), (None, "stuck"), (30.0, None), (None, "")):
        await world.touch(progress=(Progress(hand.ref(offer), percent, message),))
        record = await world.record(offer.job_id)
        said.append((record.progress, record.progress_message))
    assert said == [(10, "begun"), (20, "begun"), (20, "stuck"), (30, "stuck"), (30, "")]


async def test_a_task_that_ended_well_is_done_however_late_its_progress_was_told(world: World) -> None:
    hand = await world.hand()
    offer, silent = await world.accepted(hand), await world.accepted(hand)
    await world.touch(progress=(Progress(hand.ref(offer), 90.0, "nearly"),))
    await world.complete(offer)
    await world.complete(silent)
    assert (await world.record(offer.job_id)).progress == 100.0
    assert (await world.record(silent.job_id)).progress is None


async def test_progress_counts_only_under_the_current_lease(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    offer = await world.accepted(hand)
    await world.touch(progress=(Progress(other.ref(offer), 99.0, "not mine"),))
    assert (await world.record(offer.job_id)).progress is None
    await world.after(world.settings.lease)
    await world.lease(other.seat())
    await world.touch(progress=(Progress(hand.ref(offer), 99.0, "late"),))
    assert (await world.record(offer.job_id)).progress is None


async def test_the_progress_of_a_fan_out_is_the_mean_of_its_branches(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(4)
    first, second, third, _ = await world.lease(hand.seat(4))
    for offer, percent in ((first, 10.0), (second, 50.0), (first, 30.0)):
        await world.touch(progress=(Progress(hand.ref(offer), percent, ""),))
    assert (await world.record(first.job_id)).progress == 20.0
    await world.complete(third)
    assert (await world.record(first.job_id)).progress == 45.0
    await world.complete(first, BROKEN)
    assert (await world.record(first.job_id)).progress == 62.5


async def test_progress_begins_anew_at_each_dispatch(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.touch(progress=(Progress(hand.ref(offer), 50.0, "half"),))
    await world.complete(offer)
    await world.dispatch(claim=await world.claim_of(offer.job_id))
    record = await world.record(offer.job_id)
    assert (record.progress, record.progress_message) == (None, "")


async def how_it_ends(world: World, hand: Hand, offer: Offer, how: str) -> None:
    """End an attempt by which its task is not over."""
    match how:
        case "failed":
            await world.complete(offer, BROKEN, 1_000)
        case "given back":
            await world.hand_back(hand, offer)
        case "lost":
            await world.after(world.settings.lease)


@pytest.mark.parametrize("percent", [50.0, None])
@pytest.mark.parametrize("how", ["failed", "given back", "lost"])
async def test_what_an_attempt_said_of_its_progress_ends_with_it(world: World, how: str, percent: float | None) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.touch(progress=(Progress(hand.ref(offer), percent, "half"),))
    await how_it_ends(world, hand, offer, how)
    record = await world.record(offer.job_id)
    assert (record.progress, record.progress_message) == (None, "")


@pytest.mark.parametrize("how", ["failed", "given back"])
async def test_of_a_fan_out_the_other_branches_are_as_far_as_before(world: World, how: str) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    await world.fan_out(4)
    first, second = *await world.lease(hand.seat(1)), *await world.lease(other.seat(1))
    for holder, offer, percent in ((hand, first, 10.0), (other, second, 50.0)):
        await world.touch(progress=(Progress(holder.ref(offer), percent, ""),))
    assert (await world.record(first.job_id)).progress == 15.0
    await how_it_ends(world, hand, first, how)
    assert (await world.record(first.job_id)).progress == 12.5
    await world.complete(second)
    assert (await world.record(first.job_id)).progress == 25.0


async def test_a_fan_out_of_which_nothing_is_done_any_more_is_at_nought_and_not_below(world: World) -> None:
    hand, other = await world.hand(), await world.hand("w2")
    await world.fan_out(2)
    first, second = *await world.lease(hand.seat(1)), *await world.lease(other.seat(1))
    # As floats they add up to less than both.
    for holder, offer, percent in ((hand, first, 10.1), (other, second, 20.7)):
        await world.touch(progress=(Progress(holder.ref(offer), percent, ""),))
    for offer in (first, second):
        await world.complete(offer, BROKEN, 1_000)
    assert str((await world.record(first.job_id)).progress) == "0.0"


async def test_a_record_says_what_its_waiting_task_needs_while_nobody_has_it(world: World) -> None:
    task = await world.dispatch(U)
    job = task.rsplit("-", 2)[0]
    assert (await world.record(job)).queued_need == U
    [offer] = await world.lease((await world.hand()).seat(1, U))
    assert (await world.record(job)).queued_need is None
    await world.complete(offer, OK)
    assert (await world.record(job)).queued_need is None


async def test_what_a_page_shows_is_what_the_job_shows(world: World) -> None:
    await world.dispatch(T)
    [record], _ = await world.storage.jobs(JobFilter("ann"), 10)
    assert record == await world.record(record.job.id)


async def test_reading_changes_nothing(world: World) -> None:
    job = await world.create()
    for _ in range(3):
        await world.record(job)
        await listed(world)
        await world.told(job)
    assert (await world.claim_of(job)).deliveries == 1


async def test_the_store_tells_the_time_of_its_clock(world: World) -> None:
    assert world.storage.now() == world.clock.now_ms()
    world.clock.advance(5)
    assert world.storage.now() == world.clock.now_ms()


async def told_need(world: World, job: str) -> Need | None:
    """What a record and a page say that a job's task, or a branch, needs while nobody has any."""
    [listed], _ = await world.storage.jobs(JobFilter("ann"), 1)
    record = await world.record(job)
    assert listed == record
    return record.queued_need


async def test_a_record_says_what_a_branch_needs_while_nobody_has_any(world: World) -> None:
    tasks = await world.fan_out(3, need=U)
    job = tasks[0].rsplit("-", 2)[0]
    assert await told_need(world, job) == U
    hand = await world.hand()
    [offer] = await world.lease(hand.seat(1))
    assert await told_need(world, job) is None
    await world.complete(offer)
    assert await told_need(world, job) == U
    [_, last] = await world.lease(hand.seat(2))
    await world.hand_back(hand, last)
    assert await told_need(world, job) is None
    await world.hand()
    assert await told_need(world, job) == U
    for offer in await world.lease((await world.hand()).seat(2)):
        await world.complete(offer)
    assert await told_need(world, job) is None


async def told_branch_need(world: World, job: str) -> Need | None:
    """What a record and a page say that a branch needs which waits, while workers have others."""
    [listed], _ = await world.storage.jobs(JobFilter("ann"), 1)
    record = await world.record(job)
    assert listed == record
    assert record.branch_need is None or record.queued_need is None
    return record.branch_need


async def test_a_record_says_what_a_branch_needs_that_waits_while_workers_have_others(world: World) -> None:
    claim = await world.start()
    job = claim.job.id
    tasks = (world.task(claim, 0), world.task(claim, 1, U), world.task(claim, 2))
    fan = NewFanOut(3, fail_fast=False)
    await world.commit(world.step(claim, Status.WAITING_FOR_PARALLEL, tasks=tasks, fan_out=fan))
    assert (await told_need(world, job), await told_branch_need(world, job)) == (T, None)
    hand = await world.hand()
    first, second = await world.lease(hand.seat(2, T))
    assert await told_branch_need(world, job) == U
    await world.complete(first, BROKEN, 5_000)
    assert await told_branch_need(world, job) == U
    # One that is tried again later is nobody's either.
    await world.complete(second)
    assert (await told_need(world, job), await told_branch_need(world, job)) == (U, None)
    await world.lease(hand.seat(1, U))
    assert (await told_need(world, job), await told_branch_need(world, job)) == (None, None)


async def test_a_record_says_what_a_branch_needs_that_is_among_many_others_that_are_over(world: World) -> None:
    claim = await world.start()
    rest = [world.task(claim, index) for index in range(1, 120)]
    first = (world.task(claim, 0, U), *rest[:100])
    fan = NewFanOut(120, fail_fast=False, rest=(tuple(rest[100:]),))
    await world.commit(world.step(claim, Status.WAITING_FOR_PARALLEL, tasks=first, fan_out=fan))
    hand = await world.hand()
    for offer in await world.lease(hand.seat(200, T)):
        await world.complete(offer)
    assert await told_need(world, claim.job.id) == U
    await world.storage.spawn(claim.job.id, 0)
    for offer in await world.lease(hand.seat(1, U)):
        await world.complete(offer)
    assert await told_need(world, claim.job.id) == T


async def test_a_job_tells_when_its_task_is_tried_again_which_has_failed(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    assert (await world.record(offer.job_id)).again_at is None
    await world.complete(offer, BROKEN, 5_000)
    record = await world.record(offer.job_id)
    assert (record.again_at, record.queued_need) == (world.now + 5_000, None)
    [(listed, *_), _] = await world.storage.jobs(JobFilter("ann"), 10)
    assert listed.again_at == world.now + 5_000
    await world.after(5_000)
    record = await world.record(offer.job_id)
    assert record.again_at is None
    assert record.queued_need is not None
    await world.lease(hand.seat())
    assert (await world.record(offer.job_id)).again_at is None


async def test_a_job_tells_when_its_handler_is_tried_again_which_has_failed(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, wake_after=5_000))
    record = await world.record(claim.job.id)
    [(listed, *_), _] = await world.storage.jobs(JobFilter("ann"), 10)
    assert (record.again_at, listed) == (world.now + 5_000, record)
    await world.after(5_000)
    assert (await world.record(claim.job.id)).again_at is None


async def test_jobs_are_found_by_the_beginning_of_their_ids_each_owners_own(world: World) -> None:
    async def made(owner: str = "ann") -> str:
        new, job_id = world.new_job(owner=owner), world.storage.new_job_id(owner)
        await world.storage.create_jobs([replace(new, job=replace(new.job, id=job_id))])
        return job_id

    jobs = [await made() for _ in range(3)]
    world.clock.advance(100_000)
    late, foreign = await made(), await made("bob")

    async def found(prefix: str, limit: int = 10, owner: str = "ann") -> list[str]:
        return list(await world.storage.job_ids(owner, prefix, limit))

    for job_id in (*jobs, late):
        assert await found(job_id) == await found(job_id[:-1]) == [job_id]
        assert await found(job_id, owner="bob") == []
    assert await found(foreign[:-1], owner="bob") == [foreign]
    for prefix in {job_id.partition("-")[0] for job_id in jobs}:
        own = sorted(one for one in (*jobs, late) if one.startswith(f"{prefix}-"))
        assert await found(f"{prefix}-0") == own
        assert await found(f"{prefix}-0", limit=1) == own[:1]
    assert await found("99999-0") == await found("0-f") == []
