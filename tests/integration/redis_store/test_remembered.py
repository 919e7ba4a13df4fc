"""What a server remembers of the kinds of jobs: of each store its own, and not more than so many."""

from __future__ import annotations

from contextlib import AsyncExitStack

from holon.ports import JobFilter
from tests.integration.redis_store.nodes import Nodes
from tests.redis_server import RedisServer


async def test_what_a_server_remembers_of_one_store_is_not_taken_for_another(each_server: RedisServer) -> None:
    async with AsyncExitStack() as opened:
        # The same happens in both: each row is in the one what it is in the other.
        one, other = [await Nodes(each_server, opened).add("a") for _ in range(2)]
        pairs = [(world, await world.hand()) for world in (one, other)]
        offers = [await world.accepted(hand) for world, hand in pairs]
        assert offers[0].task_id == offers[1].task_id
        assert await one.complete(offers[0]) is None
        assert (await other.task_record(offers[1].task_id)).state == "leased"
        assert await other.complete(offers[1]) is None
        assert (await other.complete(offers[1])) is None
        assert await one.ready() == await other.ready()


async def test_more_kinds_of_jobs_than_a_server_remembers_are_what_they_are(nodes: Nodes) -> None:
    world = await nodes.add("a")
    made = [world.new_job(owner=f"owner-{at}", blueprint=f"bp-{at}") for at in range(1_500)]
    # The first are created again at the end: by then they were forgotten.
    for jobs in (made[:500], made[500:1_000], made[1_000:], [world.new_job(owner="owner-0", blueprint="bp-0")]):
        await world.storage.create_jobs(jobs, 0)
    for new in (made[0], made[999], made[1_000], made[-1]):
        page, _ = await world.storage.jobs(JobFilter(owner=new.job.owner), 10)
        assert {one.job.blueprint for one in page} == {new.job.blueprint}
