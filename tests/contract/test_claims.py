"""Claims: one holder at a time, told apart by claim id; ready at most once; oldest ready first."""

from __future__ import annotations

from holon.domain.events import Woken
from holon.domain.job import Status
from holon.domain.signals import Signal
from holon.domain.task import job_of
from holon.ports import Appended, Claim
from tests.claims import claimed
from tests.contract.costs import given
from tests.contract.world import World


async def test_a_claim_carries_the_job_and_its_unread_events(world: World) -> None:
    new = world.new_job(data={"n": 1})
    await world.storage.create_jobs([new])
    await world.append(new.job.id, Woken(7))
    await world.append(new.job.id, Woken(8))
    claim = await world.claim_of(new.job.id)
    assert (claim.job.id, claim.job.initial_data, claim.job.step) == (new.job.id, {"n": 1}, 0)
    assert [event for _, event in claim.events] == [Woken(7), Woken(8)]
    assert claim.events[0][0] < claim.events[1][0]
    assert claim.deliveries == 1


async def test_a_claimed_job_is_not_handed_over_again(world: World) -> None:
    await world.start()
    assert await world.ready() == []


async def test_the_oldest_ready_job_is_claimed_first(world: World) -> None:
    waits, first = await world.start(), await world.create()
    await world.commit(world.step(waits, Status.WAITING_FOR_RETRY))
    await world.append(waits.job.id, Woken(1))
    assert await world.ready() == [first, waits.job.id]


async def test_no_more_jobs_are_claimed_than_may_be(world: World) -> None:
    for _ in range(3):
        await world.create()
    assert await claimed(world.storage, 0) == []
    assert len(await claimed(world.storage, 2)) == 2
    assert await claimed(world.storage, 2) == []
    assert len(await claimed(world.storage, 4)) == 1


async def test_each_job_that_becomes_ready_is_begun_where_there_is_room(world: World) -> None:
    """Also if what made it ready is told to nobody else: a chunk that was spawned, a claim that was given back."""
    hand, begun = await world.hand(), list[Claim]()
    with_budget = await given(world, hand, 79, 40)
    tasks = await world.fan_out(1, rest=(1,), dispatch_timeout=1_000)
    world.storage.run_jobs(10, begun.append)
    await world.after(1_000)
    await world.storage.spawn(job_of(tasks[0]), 0)
    assert [claim.job.id for claim in begun] == [job_of(tasks[0])]
    await world.hand_back(hand, with_budget, cost=40)
    assert [claim.job.id for claim in begun[1:]] == [with_budget.job_id]
    await world.append(with_budget.job_id, Woken(1))
    await world.commit(world.step(begun[1], Status.WAITING_FOR_RETRY))
    assert [claim.job.id for claim in begun[2:]] == [with_budget.job_id]
    await world.release(begun[2])
    assert [claim.job.id for claim in begun[3:]] == [with_budget.job_id]


async def test_a_job_with_many_events_is_ready_once_and_keeps_its_place(world: World) -> None:
    jobs = [await world.create(), await world.create()]
    for step in range(5):
        await world.append(jobs[0], Woken(step))
    assert await world.ready() == jobs


async def test_an_append_to_a_waiting_job_makes_it_ready(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY))
    assert await world.ready() == []
    assert await world.append(claim.job.id, Woken(1)) is Appended.APPENDED
    assert [event for _, event in (await world.claim_of(claim.job.id)).events] == [Woken(1)]


async def test_an_append_to_a_claimed_job_only_queues_and_the_commit_makes_it_ready_again(world: World) -> None:
    claim = await world.start()
    assert await world.append(claim.job.id, Woken(1)) is Appended.APPENDED
    assert await world.ready() == []
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY))
    assert [event for _, event in (await world.claim_of(claim.job.id)).events] == [Woken(1)]


async def test_a_released_step_that_is_due_is_ready_again(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.RUNNING))
    assert await world.ready() == [claim.job.id]


async def test_a_waiting_job_without_events_is_not_ready(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY))
    assert await world.ready() == []


async def test_the_same_dedup_key_is_put_in_once(world: World) -> None:
    claim = await world.start()
    assert await world.append(claim.job.id, Woken(1), "key") is Appended.APPENDED
    assert await world.append(claim.job.id, Woken(1), "key") is Appended.DUPLICATE
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY))
    again = await world.claim_of(claim.job.id)
    assert len(again.events) == 1
    await world.commit(world.step(again, Status.WAITING_FOR_RETRY))
    assert await world.append(claim.job.id, Woken(1), "key") is Appended.DUPLICATE
    assert await world.ready() == []


async def test_dedup_keys_of_different_jobs_never_meet(world: World) -> None:
    assert await world.append(await world.create(), Woken(1), "key") is Appended.APPENDED
    assert await world.append(await world.create(), Woken(1), "key") is Appended.APPENDED


async def test_an_append_to_a_job_that_is_over_or_unknown_says_so(world: World) -> None:
    claim = await world.start()
    await world.finish(claim)
    assert await world.append(claim.job.id, Woken(1)) is Appended.OVER
    assert await world.append("0-unknown", Woken(1)) is Appended.UNKNOWN
    assert await world.ready() == []


async def test_an_inbox_takes_so_many_events_and_no_more(world: World) -> None:
    job = await world.create()
    answers = [await world.append(job, Woken(number)) for number in range(world.settings.max_inbox + 1)]
    assert answers[:-1] == [Appended.APPENDED] * world.settings.max_inbox
    assert answers[-1] is Appended.FULL
    claim = await world.claim_of(job)
    assert len(claim.events) == world.settings.max_inbox
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY))
    assert await world.append(job, Woken(0)) is Appended.APPENDED


async def test_for_one_event_an_inbox_is_full_earlier_and_its_repeat_is_known_all_the_same(world: World) -> None:
    job = await world.create()
    answers = [await world.storage.append(job, Woken(n), f"k{n}", most=2) for n in (1, 2, 3, 2)]
    assert answers == [Appended.APPENDED, Appended.APPENDED, Appended.FULL, Appended.DUPLICATE]
    assert await world.append(job, Woken(4)) is Appended.APPENDED
    # Of none it is only asked whether it is a repeat, however few wait.
    await world.commit(world.step(await world.claim_of(job), Status.WAITING_FOR_RETRY))
    answers = [await world.storage.append(job, Woken(n), f"k{n}", most=0) for n in (1, 5)]
    assert answers == [Appended.DUPLICATE, Appended.FULL]


async def test_what_waits_in_an_inbox_can_be_read_until_a_step_takes_it(world: World) -> None:
    job = await world.create()
    signal = Signal("paid", "ann", b"{}", "r1")
    for event in (Woken(1), signal):
        await world.append(job, event)
    claim = await world.claim_of(job)
    assert await world.storage.unread(job) == [Woken(1), signal]
    number, _ = claim.events[0]
    await world.commit(world.step(claim, Status.WAITING_FOR_RETRY, consumed=(number,)))
    assert await world.storage.unread(job) == [signal]
    await world.finish(await world.claim_of(job))
    assert [*await world.storage.unread(job), *await world.storage.unread(world.job_id("ann"))] == []


async def test_a_released_job_is_ready_again_and_its_delivery_is_not_counted(world: World) -> None:
    claim = await world.start()
    await world.release(claim)
    again = await world.claim_of(claim.job.id)
    assert again.deliveries == 1
    assert again.events == claim.events


async def test_a_repeated_release_does_not_touch_the_next_holder(world: World) -> None:
    claim = await world.start()
    await world.release(claim)
    again = await world.claim_of(claim.job.id)
    await world.release(claim)
    assert await world.ready() == []
    assert not (await world.finish(again)).conflict


async def test_a_loser_touches_nothing(world: World) -> None:
    job = await world.create()
    await world.append(job, Woken(0), "key")
    loser = await world.claim_of(job)
    await world.release(loser, counted=True)
    holder = await world.claim_of(job)
    tasks = (world.task(loser),)
    lost = await world.commit(world.step(loser, Status.WAITING_FOR_WORKER, tasks=tasks, wake_after=1))
    assert lost.conflict
    assert lost.leased.offers == ()
    await world.release(loser)
    assert (await world.record(job)).job.step == 0
    assert await world.waiting() == 0
    assert await world.storage.task(tasks[0].id) is None
    assert [event.type for event in await world.told(job)] == ["job_created"]
    await world.after(10)
    assert await world.ready() == []
    assert holder.events == loser.events
    assert not (await world.finish(holder)).conflict


async def test_a_losers_ending_does_not_end_the_job(world: World) -> None:
    loser = await world.start()
    await world.release(loser, counted=True)
    holder = await world.claim_of(loser.job.id)
    assert (await world.finish(loser)).conflict
    assert not (await world.record(loser.job.id)).job.status.terminal
    assert not (await world.finish(holder)).conflict


async def test_a_commit_on_an_unknown_job_is_a_conflict(world: World) -> None:
    claim = await world.start()
    await world.finish(claim)
    world.clock.advance(1)
    await world.storage.purge(world.now, 1)
    assert (await world.finish(claim)).conflict
