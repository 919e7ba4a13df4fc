"""As many at once as a node, or a worker, may have: none of it is too much for one call."""

from __future__ import annotations

from holon.domain.matching import Need
from tests.claims import claimed
from tests.contract.world import World

# More than a script of Redis hands to one command.
MANY = 9_000


async def many_ready(world: World) -> None:
    for _ in range(MANY // 1_000):
        await world.storage.create_jobs([world.new_job() for _ in range(1_000)])


async def test_a_session_is_leased_to_however_many_needs_it_names(world: World) -> None:
    needs = [Need("t", max_cost=cost) for cost in range(MANY)]
    hand = await world.hand()
    task = await world.dispatch(needs[-1])
    [offer] = await world.lease(hand.seat(1, *needs))
    assert offer.task_id == task


async def test_thousands_of_jobs_are_claimed_at_once(world: World) -> None:
    await many_ready(world)
    assert len(await claimed(world.storage)) == MANY
