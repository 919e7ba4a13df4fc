"""What tasks needed is kept in the SQLite file once for all of them, and goes with the last of their jobs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from holon.domain.matching import Need
from tests.contract.backends import Sqlite
from tests.contract.world import T, World


def needs(place: Path) -> int:
    with closing(sqlite3.connect(place / "holon.db")) as db:
        (count,) = db.execute("SELECT count(*) FROM needs").fetchone()
        return int(count)


async def test_what_the_tasks_of_deleted_jobs_needed_is_deleted_too(tmp_path: Path) -> None:
    world = World(Sqlite(sealed=False), tmp_path, {})
    await world.open()
    for number in range(5):
        hand = await world.hand()
        task = await world.dispatch(Need(f"skill-{number}"))
        [offer] = await world.lease(hand.seat(1, Need(f"skill-{number}")))
        await world.complete(offer)
        await world.finish(await world.claim_of(task.rsplit("-", 2)[0]))
    assert needs(tmp_path) == 5
    assert await world.storage.purge(world.now + 1, 10) == 5
    assert needs(tmp_path) == 0
    stays = await world.dispatch(T)
    await world.finish(await world.start())
    assert await world.storage.purge(world.now + 1, 10) == 1
    assert needs(tmp_path) == 1
    await world.restart()
    assert [offer.task_id for offer in await world.lease((await world.hand()).seat(1))] == [stays]
    await world.close()


async def test_what_a_task_needs_survives_a_restart_though_every_job_before_was_deleted(tmp_path: Path) -> None:
    world = World(Sqlite(sealed=False), tmp_path, {})
    await world.open()
    done = await world.offered(await world.hand())
    await world.complete(done)
    await world.finish(await world.claim_of(done.job_id))
    assert await world.storage.purge(world.now + 1, 10) == 1
    waits = await world.dispatch(T)
    await world.restart()
    assert [offer.task_id for offer in await world.lease((await world.hand()).seat(1))] == [waits]
    await world.close()
