"""Cancel: an event like others until the next commit sees it; what is ended is stopped, once and for all."""

from __future__ import annotations

from holon.domain.job import Status
from holon.domain.value import replace
from holon.ports import Appended, StopReason, Superseded
from tests.contract.cancelling import CANCEL, cancel
from tests.contract.world import BROKEN, Factory, World


async def test_a_cancel_wakes_a_waiting_job(world: World) -> None:
    task = await world.dispatch()
    job = task.rsplit("-", 2)[0]
    assert await world.append(job, CANCEL) is Appended.APPENDED
    assert [event for _, event in (await world.claim_of(job)).events] == [CANCEL]


async def wishes(world: World, job: str, *keys: tuple[str, str]) -> list[Appended]:
    """What is answered to cancels with these keys: of how far the job is, and of the request."""
    return [await world.storage.append(job, CANCEL, key, request) for key, request in keys]


async def test_a_request_is_known_again_whatever_the_key_is_by_then(world: World) -> None:
    job = await world.create()
    assert await wishes(world, job, ("k0", "a"), ("k0", "b"), ("k0", ""), ("k0", "a")) == [
        Appended.APPENDED,
        *[Appended.DUPLICATE] * 3,
    ]
    # One that was a duplicate by its key was a wish all the same.
    assert await wishes(world, job, ("k1", "b"), ("k1", "a"), ("k1", "c"), ("k1", "c"), ("k1", "d")) == [
        *[Appended.DUPLICATE] * 2,
        Appended.APPENDED,
        *[Appended.DUPLICATE] * 2,
    ]
    claim = await world.claim_of(job)
    assert [event for _, event in claim.events] == [CANCEL] * 2
    await world.finish(claim)
    assert await wishes(world, job, *((one, one) for one in "abcde")) == [Appended.DUPLICATE] * 4 + [Appended.OVER]


async def test_a_request_is_known_again_after_a_restart(durable: Factory) -> None:
    world = await durable()
    job = await world.create()
    assert await wishes(world, job, ("k0", "a"), ("k0", "b")) == [Appended.APPENDED, Appended.DUPLICATE]
    await world.restart()
    assert await wishes(world, job, ("k1", "a"), ("k1", "b"), ("k1", "c")) == [
        *[Appended.DUPLICATE] * 2,
        Appended.APPENDED,
    ]


async def test_however_many_requests_came_the_key_that_they_share_is_known(store: Factory) -> None:
    world = await store(max_inbox=3)
    job = await world.create()
    answers = await wishes(world, job, *(("cancel-0", f"ask-{number}") for number in range(9)))
    assert answers == [Appended.APPENDED] + [Appended.DUPLICATE] * 8


async def test_a_commit_is_told_of_a_cancel_that_came_in_and_leases_nothing_of_its_own(world: World) -> None:
    hand, claim = await world.hand(), await world.start()
    await world.append(claim.job.id, CANCEL)
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    done = await world.commit(step, [hand.seat(10)])
    assert done.cancel_pending
    assert done.leased.offers == ()
    assert [event for _, event in (await world.claim_of(claim.job.id)).events] == [CANCEL]


async def test_a_kept_claim_is_told_of_a_cancel(world: World) -> None:
    claim = await world.start()
    await world.append(claim.job.id, CANCEL)
    done = await world.commit(world.step(claim, Status.RUNNING, keep=True))
    assert done.cancel_pending
    assert [event for _, event in done.events] == [CANCEL]


async def test_a_handled_cancel_is_pending_no_more(world: World) -> None:
    job = await world.create()
    await world.append(job, CANCEL)
    claim = await world.claim_of(job)
    step = world.step(claim, Status.RUNNING, keep=True)
    assert not (await world.commit(step)).cancel_pending


async def test_a_terminal_commit_wins(world: World) -> None:
    claim = await world.start()
    assert await world.append(claim.job.id, CANCEL) is Appended.APPENDED
    assert not (await world.finish(claim)).conflict
    assert (await world.record(claim.job.id)).job.status is Status.FINISHED
    assert await world.append(claim.job.id, CANCEL) is Appended.OVER
    assert await world.ready() == []


async def test_a_waiting_task_of_a_cancelled_job_is_never_leased(world: World) -> None:
    task = await world.dispatch()
    await cancel(world, task.rsplit("-", 2)[0])
    assert await world.waiting() == 0
    assert await world.lease((await world.hand()).seat()) == []


async def test_the_tasks_end_in_the_very_commit_that_says_so(world: World) -> None:
    hand = await world.hand()
    task = await world.dispatch()
    job = task.rsplit("-", 2)[0]
    await world.append(job, CANCEL)
    step = world.step(await world.claim_of(job), Status.CANCELLED, end_tasks=True)
    assert (await world.commit(step, [hand.seat(10)])).leased.offers == ()


async def test_any_commit_that_ends_a_job_ends_its_open_tasks(world: World) -> None:
    hand = await world.hand()
    tasks = await world.fan_out(2)
    job = tasks[0].rsplit("-", 2)[0]
    [offer] = await world.lease(hand.seat())
    await world.append(job, CANCEL)
    await world.commit(world.step(await world.claim_of(job), Status.FAILED))
    assert await world.waiting() == 0
    assert [stop.lease for stop in await world.stops()] == [hand.ref(offer)]


async def test_a_worker_is_told_to_stop_and_told_again_by_whatever_it_says_before_its_final_word(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    assert await world.stops() == []
    await cancel(world, offer.job_id)
    assert [(stop.lease, stop.reason) for stop in await world.stops()] == [(hand.ref(offer), StopReason.CANCELLED)]
    assert (await world.touch(extends=(hand.ref(offer),))).lost == (hand.ref(offer),)
    assert await world.complete(offer) is Superseded.JOB_CANCELLED
    assert await world.stops() == []
    assert await world.complete(offer) is Superseded.JOB_CANCELLED
    assert await world.ready() == []


async def test_an_offer_is_stopped_too(world: World) -> None:
    hand = await world.hand()
    offer = await world.offered(hand)
    await cancel(world, offer.job_id)
    assert [stop.lease for stop in await world.stops()] == [hand.ref(offer)]
    assert (await world.touch(accepts=(hand.ref(offer),))).lost == (hand.ref(offer),)
    await world.after(world.settings.lease)
    assert await world.waiting() == 0


async def test_a_task_in_back_off_ends_with_its_job(world: World) -> None:
    offer = await world.accepted(await world.hand())
    await world.complete(offer, BROKEN, 60_000)
    await cancel(world, offer.job_id)
    assert (await world.fire()).next_due is None
    await world.after(60_000)
    assert await world.waiting() == 0


async def test_chunks_of_a_cancelled_fan_out_are_never_spawned(world: World) -> None:
    tasks = await world.fan_out(2, rest=(5,))
    job = tasks[0].rsplit("-", 2)[0]
    await cancel(world, job)
    await world.storage.spawn(job, 0)
    assert await world.waiting() == 0
    assert (await world.fire()).next_due is None


async def test_a_losers_cancel_ends_no_task(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.append(offer.job_id, CANCEL)
    claim = replace(await world.claim_of(offer.job_id), claim_id="another")
    assert (await world.commit(world.step(claim, Status.CANCELLED, end_tasks=True))).conflict
    assert await world.stops() == []
    assert await world.complete(offer) is None


async def test_the_tasks_of_a_clean_up_live(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.append(offer.job_id, CANCEL)
    claim = await world.claim_of(offer.job_id)
    clean = world.step(claim, Status.RUNNING, end_tasks=True, keep=True)
    clean = replace(clean, job=replace(clean.job, cancelling=True))
    await world.commit(clean)
    claim = replace(claim, job=clean.job, events=())
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),))
    done = await world.commit(step, [hand.seat()])
    assert not done.cancel_pending
    [again] = done.leased.offers
    assert await world.complete(offer) is Superseded.JOB_CANCELLED
    assert await world.complete(again) is None
    assert await world.ready() == [offer.job_id]


async def test_a_step_may_end_what_is_open_and_create_anew(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.append(offer.job_id, CANCEL)
    claim = await world.claim_of(offer.job_id)
    step = world.step(claim, Status.WAITING_FOR_WORKER, tasks=(world.task(claim),), end_tasks=True)
    [again] = (await world.commit(step, [hand.seat()])).leased.offers
    assert again.task_id == step.tasks[0].id
    assert [stop.lease for stop in await world.stops()] == [hand.ref(offer)]
    assert await world.complete(again) is None


async def test_a_second_cancel_is_an_event_of_its_own_and_a_repeated_one_is_not(world: World) -> None:
    job = await world.create()
    assert await world.append(job, CANCEL, "first") is Appended.APPENDED
    assert await world.append(job, CANCEL, "first") is Appended.DUPLICATE
    assert await world.append(job, CANCEL, "second") is Appended.APPENDED


async def test_stops_are_told_only_for_sessions_that_live(world: World) -> None:
    hand = await world.hand()
    offer = await world.accepted(hand)
    await world.hand()
    await cancel(world, offer.job_id)
    assert await world.stops() == []
