"""The end of a run of the model: everything is driven to its end, and must have happened once."""

from __future__ import annotations

from holon.domain.job import Status
from holon.ports import Opening, Result
from tests.contract.model import Model


async def settle(model: Model) -> None:
    """No more faults: everything that was acknowledged must come to its end, by timers and claims alone."""
    model.faults = False
    for worker in model.workers.values():
        worker.held.clear()
        worker.session_id, worker.credits = model.world.unique("session-"), 5
        await model.world.storage.open_session(Opening(worker.worker_id, worker.session_id, 5))
    for _ in range(5_000):
        for job in list(model.held):
            await model.commit(model.held.pop(job))
        model.run_jobs(10)
        await model.lease()
        for worker in model.workers.values():
            for offer in list(worker.held.values()):
                await model.send(worker, Result(offer.task_id, offer.lease_id, model.outcome(worker)))
        while model.spawns:
            await model.spawn()
        fired = await model.world.fire()
        model.spawns |= set(fired.spawns)
        if model.held or model.spawns or any(worker.held for worker in model.workers.values()):
            continue
        if fired.next_due is not None:
            model.world.clock.advance(max(0, fired.next_due - model.world.now))
        elif not await model.world.storage.needs():
            # What was ready is claimed once this is answered.
            await model.world.storage.counts()
            if not model.held:
                return
    raise AssertionError("it does not come to an end")


async def judge(model: Model) -> None:
    """What must be true of everything that was acknowledged."""
    assert model.held == {}
    assert dict(await model.world.storage.needs()) == {}
    await model.telling.finish()
    assert model.telling.told == model.hooked, "an end was told of nobody, or not told"
    for job, program in model.programs.items():
        record = await model.world.record(job)
        status, told = record.job.status, await model.world.told(job)
        assert status.terminal, f"{job} is stuck: {record}"
        types = [event.type for event in told]
        assert types.count("job_created") == 1
        assert types.count("job_completed") == 1
        assert types.count("state_finished") == record.job.step, f"{job}: a step was written twice, or not"
        ends = [(event.task_id, event.details["generation"]) for event in told if event.type == "task_finished"]
        assert len(ends) == len(set(ends)), f"{job}: one try of a task ended twice"
        expected = [{"fast": "fan"}.get(what, what) for what, _, _ in program]
        trace = record.job.state_history["trace"]
        assert trace == expected[: len(trace)], f"{job}: {trace} is not {expected}"
        if status is Status.FINISHED:
            assert trace == expected, f"{job} finished early"
        elif status is Status.CANCELLED:
            assert job in model.cancelled
        elif status is Status.FAILED:
            assert job in model.broke or "fast" in [what for what, _, _ in program]
