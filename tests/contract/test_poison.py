"""Poison: what crashes its node, or its workers, again and again ends in quarantine, and takes nothing else along."""

from __future__ import annotations

from holon.domain.events import CancelRequested, TaskEnded, Woken
from holon.domain.job import Status
from holon.domain.retries import Verdict, verdict
from holon.domain.task import FAILURE, WORKER_LOST
from holon.ports import Superseded
from tests.claims import claimed
from tests.contract.world import Factory, World


async def crash(world: World, job: str) -> None:
    """The job is claimed, and its run ends without a word."""
    await world.release(await world.claim_of(job), counted=True)


async def test_deliveries_count_the_claims_since_the_last_commit(world: World) -> None:
    job = await world.create()
    await crash(world, job)
    await crash(world, job)
    claim = await world.claim_of(job)
    assert claim.deliveries == 3
    await world.commit(world.step(claim, Status.RUNNING))
    assert (await world.claim_of(job)).deliveries == 1


async def test_a_clean_release_forgets_the_deliveries(world: World) -> None:
    job = await world.create()
    await crash(world, job)
    await world.release(await world.claim_of(job))
    assert (await world.claim_of(job)).deliveries == 1


async def test_a_job_is_delivered_until_somebody_commits_and_then_knows_how_often(world: World) -> None:
    job = await world.create()
    for _ in range(world.settings.max_deliveries):
        await crash(world, job)
    claim = await world.claim_of(job)
    assert claim.deliveries == world.settings.max_deliveries + 1
    await world.commit(world.step(claim, Status.QUARANTINED))
    assert (await world.record(job)).job.status is Status.QUARANTINED
    assert [event.type for event in await world.told(job)].count("job_completed") == 1
    assert await world.ready() == []


async def test_deliveries_are_raised_before_a_handler_runs_and_not_by_keeping_the_claim(world: World) -> None:
    claim = await world.start()
    await world.commit(world.step(claim, Status.RUNNING, keep=True))
    await world.release(claim, counted=True)
    assert (await world.claim_of(claim.job.id)).deliveries <= 2


async def test_an_append_does_not_forget_the_deliveries(world: World) -> None:
    job = await world.create()
    await crash(world, job)
    await world.append(job, Woken(0))
    assert (await world.claim_of(job)).deliveries == 2


async def test_a_quarantined_job_ends_its_open_tasks(world: World) -> None:
    hand = await world.hand()
    await world.fan_out(2)
    [offer] = await world.lease(hand.seat())
    await world.append(offer.job_id, CancelRequested("ann"))
    await world.commit(world.step(await world.claim_of(offer.job_id), Status.QUARANTINED))
    assert await world.waiting() == 0
    assert [stop.lease for stop in await world.stops()] == [hand.ref(offer)]
    assert await world.complete(offer) is Superseded.JOB_ALREADY_TERMINATED


async def test_a_suspect_is_handed_over_alone(world: World) -> None:
    jobs = [await world.create() for _ in range(4)]
    for claim in await claimed(world.storage):
        await world.release(claim, counted=True)
    for _ in jobs:
        [suspect] = await claimed(world.storage)
        assert suspect.deliveries == 2
        await world.create()
        assert await world.ready() == []
        await world.finish(suspect)
    assert len(await world.ready()) == len(jobs)


async def test_a_suspect_waits_until_nothing_runs_beside_it(world: World) -> None:
    crashing = await world.start()
    suspect, beside = crashing.job.id, await world.start()
    await world.release(crashing, counted=True)
    assert suspect not in await world.ready()
    await world.finish(beside)
    assert suspect in await world.ready()


async def test_what_comes_late_under_a_lost_claim_does_not_end_the_newer_one(world: World) -> None:
    lost = await world.start()
    await world.release(lost, counted=True)
    suspect = await world.claim_of(lost.job.id)
    assert (await world.finish(lost)).conflict
    await world.release(lost)
    # Wherever these are, none runs beside the suspect.
    others = [await world.create() for _ in range(6)]
    assert await world.ready() == []
    await world.finish(suspect)
    assert sorted(await world.ready()) == sorted(others)


async def test_a_suspect_is_not_kept_waiting_by_jobs_that_came_later(world: World) -> None:
    crashing = await world.start()
    suspect, beside = crashing.job.id, await world.start()
    await world.release(crashing, counted=True)
    later = await world.create()
    assert await world.ready() == []
    await world.finish(beside)
    assert await world.ready() == [suspect]
    await world.finish(await world.claim_of(suspect))
    assert await world.ready() == [later]


async def test_one_crashing_job_does_not_condemn_those_claimed_beside_it(world: World) -> None:
    good, bad = [await world.create(), await world.create()], await world.create()
    rounds = 0
    while not (await world.record(bad)).job.status.terminal:
        claims = await claimed(world.storage)
        assert claims
        if bad not in [claim.job.id for claim in claims]:
            for claim in claims:
                assert claim.deliveries <= 2
                await world.finish(claim)
        elif claims[0].deliveries > world.settings.max_deliveries:
            await world.commit(world.step(claims[0], Status.QUARANTINED))
        else:
            rounds += 1
            for claim in claims:
                await world.release(claim, counted=True)
    assert rounds == world.settings.max_deliveries
    assert [(await world.record(job)).job.status for job in good] == [Status.FINISHED] * 2


async def test_a_task_that_ends_so_many_sessions_ends_as_worker_lost(store: Factory) -> None:
    world = await store(max_losses=3)
    task = await world.dispatch()
    for _ in range(3):
        assert await world.ready() == []
        hand = await world.hand()
        [offer] = await world.lease(hand.seat())
        await world.touch(accepts=(hand.ref(offer),))
    await world.hand()
    claim = await world.claim_of(offer.job_id)
    [(_, event)] = claim.events
    assert isinstance(event, TaskEnded)
    assert (event.task_id, event.outcome.status) == (task, FAILURE)
    assert event.outcome.error is not None
    assert event.outcome.error.code == WORKER_LOST
    assert verdict(event.outcome) is Verdict.QUARANTINE
    assert await world.waiting() == 0


async def test_a_lease_that_runs_out_after_its_session_ended_is_a_loss(store: Factory) -> None:
    world = await store(max_losses=2)
    await world.dispatch()
    for number in range(2):
        assert await world.ready() == [], f"after {number} losses"
        hand = await world.hand(f"w{number}")
        [offer] = await world.lease(hand.seat())
        await world.touch(accepts=(hand.ref(offer),))
        await world.storage.close_session(hand.worker_id, hand.session_id)
        await world.after(world.settings.lease)
    assert await world.ready() == [offer.job_id]


async def test_an_offer_whose_session_ended_is_a_loss(store: Factory) -> None:
    world = await store(max_losses=2)
    await world.dispatch()
    for number in range(2):
        assert await world.ready() == [], f"after {number} losses"
        hand = await world.hand(f"w{number}")
        [offer] = await world.lease(hand.seat())
        await world.storage.close_session(hand.worker_id, hand.session_id)
        await world.after(world.settings.offer)
    assert await world.ready() == [offer.job_id]


async def test_what_a_node_does_by_itself_is_lost_however_often_nodes_end(store: Factory) -> None:
    world = await store(max_losses=2)
    await world.dispatch()
    for number in range(4):
        hand = await world.hand("@node")
        assert await world.ready() == [], f"after {number} losses"
        [offer] = await world.lease(hand.seat())
        await world.touch(accepts=(hand.ref(offer),))


async def test_what_a_node_does_by_itself_is_given_back_at_once_however_often_nodes_leave(world: World) -> None:
    await world.dispatch()
    for _ in range(9):
        hand = await world.hand("@node")
        [offer] = await world.lease(hand.seat())
        await world.touch(accepts=(hand.ref(offer),))
        await world.hand_back(hand, offer)


async def test_losses_are_ten_by_default(world: World) -> None:
    await world.dispatch()
    for number in range(10):
        assert await world.ready() == [], f"after {number} losses"
        [offer] = await world.lease((await world.hand()).seat())
    await world.hand()
    assert await world.ready() == [offer.job_id]


async def test_a_reject_or_a_lapsed_offer_on_a_live_session_is_no_loss(store: Factory) -> None:
    world = await store(max_losses=1)
    hand = await world.hand()
    await world.dispatch()
    for _ in range(3):
        [offer] = await world.lease(hand.seat())
        await world.hand_back(hand, offer, again_after=None)
        await world.after(world.settings.lease)
        [offer] = await world.lease(hand.seat())
        await world.after(world.settings.offer)
        await world.hand_back(hand, offer)
        await world.after(world.settings.lease)
    assert await world.ready() == []
    assert await world.waiting() == 1


async def test_a_branch_that_is_lost_too_often_counts_as_failed(store: Factory) -> None:
    world = await store(max_losses=1)
    [branch] = await world.fan_out(1)
    [offer] = await world.lease((await world.hand()).seat())
    await world.hand()
    await world.claim_of(offer.job_id)
    [(task, outcome)] = await world.storage.branches(offer.job_id, 0)
    assert task == branch
    assert outcome.error is not None
    assert outcome.error.code == WORKER_LOST


async def test_the_losses_of_one_task_are_not_those_of_another(store: Factory) -> None:
    world = await store(max_losses=2)
    for _ in range(3):
        await world.dispatch()
        hand = await world.hand()
        [offer] = await world.lease(hand.seat())
        await world.hand()
        [offer] = await world.lease((await world.hand()).seat())
        assert await world.ready() == []
        assert await world.complete(offer) is None
        await world.finish(await world.claim_of(offer.job_id))
