"""A store that could store some results of a batch only: each is answered by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from holon import Blueprint
from holon.context import ActionFactory
from holon.domain.value import replace
from holon.ports import Completed, Result, Seat
from holon.storage.memory import MemoryStorage
from holon.testing import running_node
from tests.integration.test_metrics import figure, figures_of

TASKS = 4


class Partly(MemoryStorage):
    """A store that takes the result of one task, the first that it is told of, only when it `is_back`."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = ""
        self.is_back = asyncio.Event()
        self.told: Counter[str] = Counter()

    async def complete(self, results: Sequence[Result], worker_id: str, seats: Sequence[Seat]) -> Completed:
        self.told.update(one.task_id for one in results)
        self.refused = self.refused or results[0].task_id
        taken = [one for one in results if one.task_id != self.refused or self.is_back.is_set()]
        done = await super().complete(taken, worker_id, seats)
        verdicts = iter(done.verdicts)
        return replace(
            done,
            verdicts=tuple(next(verdicts) if one in taken else None for one in results),
            unstored=frozenset(one.lease_id for one in results if one not in taken),
        )


async def test_only_what_was_not_stored_is_sent_again_and_keeps_its_slot() -> None:
    bp = Blueprint("one", api_endpoint="/jobs/one", api_version="v1")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "finished"})

    @bp.handler(is_end=True)
    async def finished() -> None:
        pass

    store = Partly()
    together = asyncio.Barrier(TASKS)
    async with running_node(bp, storage=store) as node:
        worker = node.new_worker("w1", max_concurrent=TASKS)
        ran: Counter[str] = Counter()

        @worker.skill("t")
        async def t(task_id: str) -> dict[str, str]:
            ran[task_id] += 1
            if len(ran) <= TASKS:
                # Their results go in one batch.
                await together.wait()
            return {}

        async with worker:
            await worker.ready()
            jobs = [(await node.client.create_job("one", {})).job_id for _ in range(TASKS)]
            waits = {job: asyncio.create_task(node.client.wait_for(job, timeout=20)) for job in jobs}
            for number, wait in enumerate(asyncio.as_completed(waits.values()), 2):
                await wait
                if number == TASKS:
                    break
            [left] = [job for job, wait in waits.items() if not wait.done()]
            assert store.refused.startswith(left)
            # The slots of the others are free.
            await node.run("one", {})
            store.is_back.set()
            ended = await asyncio.gather(*waits.values())
        assert [job.status for job in ended] == TASKS * ["finished"]
        assert set(ran.values()) == {1}
        assert store.told.pop(store.refused) >= 2
        assert set(store.told.values()) == {1}
        figures = await figures_of(node)
        assert figure(figures, "holon_task_results_total", verdict="success") == TASKS + 1
