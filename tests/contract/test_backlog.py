"""The backlog: by priority, then arrival; nothing overtakes, nothing blocks, nothing is lost from it."""

from __future__ import annotations

from holon.domain.events import BranchesDone, TaskEnded
from holon.domain.job import Status
from holon.domain.matching import Need
from holon.domain.task import Outcome, job_of
from holon.ports import NewFanOut
from tests.contract.ended import ends_told
from tests.contract.world import BROKEN, T, U, World

OLD, NEW = Need("s", contracts=("old",)), Need("s", contracts=("new", "old"))


async def order(world: World, *needs: Need) -> list[str]:
    """The tasks in the order in which one worker with room for one is given them."""
    hand, found = await world.hand("probe"), []
    while offers := await world.lease(hand.seat(1, *needs)):
        found.append(offers[0].task_id)
    return found


async def test_tasks_are_leased_in_the_order_of_their_arrival(world: World) -> None:
    tasks = [await world.dispatch() for _ in range(10)]
    assert await order(world, T) == tasks


async def test_those_of_one_step_go_by_priority_and_arrival_also_when_they_are_offered_with_it(world: World) -> None:
    hand, claim = await world.hand(), await world.start()
    waiting = await world.dispatch(priority=1.0)
    tasks = tuple(world.task(claim, at, priority=p) for at, p in enumerate((0.0, 5.0, -1.0, 5.0, 0.0)))
    step = world.step(claim, Status.WAITING_FOR_PARALLEL, tasks=tasks, fan_out=NewFanOut(len(tasks), fail_fast=False))
    done = await world.commit(step, [hand.seat(4)])
    assert [one.task_id for one in done.leased.offers] == [tasks[1].id, tasks[3].id, waiting, tasks[0].id]
    assert [one.task_id for one in await world.lease(hand.seat(4))] == [tasks[4].id, tasks[2].id]


async def test_higher_priority_goes_first_and_equals_by_arrival(world: World) -> None:
    low, first, high, second = [await world.dispatch(priority=p) for p in (-1.5, 0.0, 10.0, 0.0)]
    assert await order(world, T) == [high, first, second, low]


async def test_nothing_overtakes_across_the_match_keys_of_one_worker(world: World) -> None:
    tasks = [await world.dispatch(need) for need in (U, T, T, U, T)]
    urgent = await world.dispatch(U, priority=1.0)
    assert await order(world, T, U) == [urgent, *tasks]


async def test_one_call_leases_in_order_too(world: World) -> None:
    hand = await world.hand()
    tasks = [await world.dispatch(need) for need in (U, T, U, T)]
    assert [offer.task_id for offer in await world.lease(hand.seat(10))] == tasks


async def test_the_tasks_of_one_step_keep_their_order(world: World) -> None:
    assert await order(world, T) == []
    branches = await world.fan_out(20)
    assert await order(world, T) == branches


async def test_a_worker_is_given_only_what_it_names(world: World) -> None:
    hand = await world.hand()
    await world.dispatch(T)
    other = await world.dispatch(U)
    assert [offer.task_id for offer in await world.lease(hand.seat(10, U))] == [other]


async def test_a_need_that_nobody_satisfies_blocks_nobody(world: World) -> None:
    for _ in range(100):
        await world.dispatch(U, priority=9.0)
    task = await world.dispatch(T)
    assert await order(world, T) == [task]
    assert await world.waiting(U) == 100


async def test_a_commits_new_task_does_not_overtake_what_waits(world: World) -> None:
    hand, waits = await world.hand(), await world.dispatch()
    claim = await world.start()
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    done = await world.commit(step, [hand.seat(1)])
    assert [offer.task_id for offer in done.leased.offers] == [waits]
    assert done.leased.left == {T.key}


async def test_seats_are_filled_in_the_callers_order(world: World) -> None:
    first, second = await world.hand("w2"), await world.hand("w1")
    tasks = [await world.dispatch() for _ in range(2)]
    offers = await world.lease(first.seat(), second.seat())
    assert [(offer.worker_id, offer.task_id) for offer in offers] == [("w2", tasks[0]), ("w1", tasks[1])]


async def test_left_names_the_keys_asked_for_that_still_have_tasks(world: World) -> None:
    hand = await world.hand()
    for need in (T, T, U):
        await world.dispatch(need)
    assert (await world.storage.lease([hand.seat(1, T)])).left == {T.key}
    assert (await world.storage.lease([hand.seat(1, T)])).left == frozenset()
    assert (await world.storage.lease([hand.seat(0)])).left == {U.key}


async def test_a_task_that_comes_back_waits_under_its_first_arrival(world: World) -> None:
    hand = await world.hand()
    first, second, third = [await world.dispatch() for _ in range(3)]
    offers = {offer.task_id: offer for offer in await world.lease(hand.seat(2))}
    await world.hand_back(hand, offers[second])
    assert (await world.task_record(second)).attempt == 1
    await world.touch(accepts=(hand.ref(offers[first]),))
    await world.after(world.settings.lease)
    assert await order(world, T) == [first, second, third]


async def test_a_task_of_a_lost_session_waits_under_its_first_arrival(world: World) -> None:
    first = await world.offered(await world.hand())
    second = await world.dispatch()
    await world.hand()
    assert await order(world, T) == [first.task_id, second]


async def test_a_retry_enters_the_backlog_after_its_back_off(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.complete(offer, BROKEN, 1_000)
    assert await world.waiting() == 0
    await world.after(1_000)
    assert await world.waiting() == 1


async def test_what_waits_is_listed_by_skill_and_by_key(world: World) -> None:
    assert dict(await world.storage.queued("s")) == {}
    for need in (OLD, OLD, NEW, T):
        await world.dispatch(need)
    assert dict(await world.storage.queued("s")) == {OLD.key: (OLD, 2), NEW.key: (NEW, 1)}
    assert dict(await world.storage.needs()) == {OLD.key: OLD, NEW.key: NEW, T.key: T}
    assert dict(await world.storage.needs([NEW.key, U.key, T.key])) == {NEW.key: NEW, T.key: T}
    assert dict(await world.storage.needs([])) == {}
    await world.lease((await world.hand()).seat(10, OLD, NEW))
    assert dict(await world.storage.queued("s")) == {}
    assert dict(await world.storage.needs()) == {T.key: T}
    assert dict(await world.storage.needs([OLD.key])) == {}


async def test_the_tasks_of_a_key_are_read_in_pages(world: World) -> None:
    tasks = {await world.dispatch(OLD) for _ in range(5)}
    page = await world.storage.queued_tasks(OLD.key, "", 3)
    rest = await world.storage.queued_tasks(OLD.key, page[-1].id, 3)
    assert (len(page), len(rest)) == (3, 2)
    assert {record.id for record in (*page, *rest)} == tasks
    assert await world.storage.queued_tasks(OLD.key, rest[-1].id, 3) == []
    assert rest[0].need == OLD
    assert rest[0].params == b"{}"


async def test_a_task_with_a_new_need_waits_there_under_its_old_arrival(world: World) -> None:
    moved, later = await world.dispatch(OLD), await world.dispatch(NEW)
    await world.storage.rekey([(moved, NEW)])
    assert dict(await world.storage.queued("s")) == {NEW.key: (NEW, 2)}
    assert (await world.task_record(moved)).need == NEW
    assert await order(world, NEW) == [moved, later]


INVALID = Outcome.failed("INVALID_INPUT_ERROR", "params.q is no number")


async def test_a_task_that_waits_behind_a_key_is_ended_and_its_job_is_told(world: World) -> None:
    ends, other = await world.dispatch(OLD), await world.dispatch(OLD)
    await world.storage.end_queued(OLD.key, [(ends, INVALID)])
    job = job_of(ends)
    [(_, event)] = (await world.claim_of(job)).events
    assert isinstance(event, TaskEnded)
    assert event.outcome == INVALID
    [line] = await ends_told(world, job)
    assert (line.worker_id, line.attempt_number, line.details["error"]) == (None, 0, "params.q is no number")
    assert dict(await world.storage.queued("s")) == {OLD.key: (OLD, 1)}
    assert await order(world, OLD) == [other]
    # Again, it is over.
    await world.storage.end_queued(OLD.key, [(ends, INVALID)])
    assert await world.ready() == []


async def test_a_task_that_waits_there_no_longer_is_not_ended(world: World) -> None:
    hand = await world.hand()
    leased = (await world.accepted(hand, OLD)).task_id
    moved = await world.dispatch(OLD)
    await world.storage.rekey([(moved, NEW)])
    await world.storage.end_queued(OLD.key, [(one, INVALID) for one in (leased, moved, "0-unknown-1-0")])
    assert await world.ready() == []
    assert await order(world, NEW) == [moved]


async def test_branches_that_wait_are_ended_as_failed_ones(world: World) -> None:
    tasks = await world.fan_out(3, need=OLD)
    job = job_of(tasks[0])
    await world.storage.end_queued(OLD.key, [(task, INVALID) for task in tasks])
    assert [event for _, event in (await world.claim_of(job)).events] == [BranchesDone(0, failed=3)]
    assert [outcome for _, outcome in await world.storage.branches(job, 0)] == [INVALID] * 3


async def test_a_new_need_for_a_task_that_no_longer_waits_does_not_put_it_back(world: World) -> None:
    hand = await world.hand()
    leased = await world.accepted(hand, OLD)
    over = await world.accepted(hand, OLD)
    await world.complete(over)
    await world.storage.rekey([(leased.task_id, NEW), (over.task_id, NEW), ("0-unknown-1-0", NEW)])
    assert dict(await world.storage.queued("s")) == {}
    assert await order(world, OLD, NEW) == []
    assert await world.complete(leased) is None
