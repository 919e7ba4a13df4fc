"""The SQLite store's file: who may open it, which versions of it, and what a killed process leaves in it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from holon.clock import ManualClock
from holon.domain.events import CancelRequested, HistoryEvent
from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.errors import ConfigError, StoreUnavailable
from holon.ports import Appended, NewJob, Step, StoreSettings
from holon.storage.sqlite import SqliteStorage
from tests.claims import claimed

SETTINGS = StoreSettings("node-1")
GUARD = 60.0


def new(job_id: str) -> NewJob:
    return NewJob(Job(job_id, "bp", "ann", {}, "start"), (HistoryEvent("job_created", 1, "start"),))


async def test_the_file_and_its_directory_are_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "holon.db"
    async with SqliteStorage(path, SETTINGS) as store:
        await store.create_jobs([new("0-a")])
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_a_second_node_is_refused_and_told_the_first_ones_process(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"
    async with SqliteStorage(path, SETTINGS):
        with pytest.raises(ConfigError, match=rf"process {os.getpid()}\b"):
            await SqliteStorage(path, SETTINGS).__aenter__()
    async with SqliteStorage(path, SETTINGS):
        pass


@pytest.mark.parametrize("first", ["holon.db", "link.db"])
async def test_a_second_node_is_refused_by_whatever_name_it_has_for_the_file(tmp_path: Path, first: str) -> None:
    (tmp_path / "link.db").symlink_to("holon.db")
    (tmp_path / "folder").symlink_to(tmp_path)
    async with SqliteStorage(tmp_path / first, SETTINGS):
        for name in ("holon.db", "link.db", "folder/holon.db", "folder/link.db"):
            with pytest.raises(ConfigError, match=rf"{name} belongs to another node \(process {os.getpid()}\)"):
                await SqliteStorage(tmp_path / name, SETTINGS).__aenter__()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has locks of a descriptor on a file")
async def test_a_second_node_is_refused_though_it_has_another_name_for_the_file_that_is_no_link_to_it(
    tmp_path: Path,
) -> None:
    async with SqliteStorage(tmp_path / "holon.db", SETTINGS):
        (tmp_path / "hard.db").hardlink_to(tmp_path / "holon.db")
        with pytest.raises(ConfigError, match=r"hard\.db belongs to another node"):
            await SqliteStorage(tmp_path / "hard.db", SETTINGS).__aenter__()
    async with SqliteStorage(tmp_path / "hard.db", SETTINGS):
        pass


@pytest.fixture
def somebody() -> Iterator[Path]:
    """A folder of everybody, for whoever is not root: for root nothing is read-only."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        if user == 0:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


async def test_a_file_that_may_only_be_read_is_refused(somebody: Path) -> None:
    path = somebody / "holon.db"
    async with SqliteStorage(path, SETTINGS):
        pass
    path.chmod(0o400)
    with pytest.raises(ConfigError, match=rf"{path} cannot be opened: .*Permission denied.*STORAGE_URI"):
        await SqliteStorage(path, SETTINGS).__aenter__()


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (n INTEGER)")
    db.close()
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="is no store of this version"):
        await SqliteStorage(path, SETTINGS).__aenter__()
    assert path.read_bytes() == content


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is some text that is long enough to be looked at" * 100)
    with pytest.raises(ConfigError, match=r"text\.db"):
        await SqliteStorage(path, SETTINGS).__aenter__()
    with pytest.raises(ConfigError, match="STORAGE_URI"):
        await SqliteStorage(tmp_path, SETTINGS).__aenter__()


async def test_i9_the_clock_never_goes_backwards_within_a_file(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"
    async with SqliteStorage(path, SETTINGS, ManualClock(2_000_000)) as store:
        await store.create_jobs([new("0-a")])
    async with SqliteStorage(path, SETTINGS, ManualClock(1_000_000)) as store:
        assert store.now() == 2_000_000


async def test_i9_nor_where_the_newest_that_a_file_told_of_has_ended_or_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"
    clock = ManualClock(2_000_000)
    async with SqliteStorage(path, SETTINGS, clock) as store:
        await store.create_jobs([new("0-a")])
        [claim] = await claimed(store)
        clock.advance(1_000)
        over = replace(claim.job, step=1, status=Status.FINISHED)
        await store.commit(Step(claim.claim_id, "c", over), ())
    async with SqliteStorage(path, SETTINGS, ManualClock(1_000_000)) as store:
        assert store.now() == 2_001_000
        assert await store.purge(store.now() + 1, 10) == 1
    async with SqliteStorage(path, SETTINGS, ManualClock(1_000_000)) as store:
        assert store.now() == 2_001_000


@pytest.mark.parametrize(("back_s", "told"), [(30, False), (3_600, True)])
async def test_a_clock_that_was_set_back_since_the_last_write_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, back_s: int, told: bool
) -> None:
    path = tmp_path / "holon.db"
    now = ManualClock().now_ms()
    for at in (now, now - back_s * 1000):
        clock = ManualClock(at)
        async with SqliteStorage(path, SETTINGS, clock) as store:
            await store.create_jobs([new(f"0-{at}")])
        assert clock.now_ms() == now
    found = [
        line for line in caplog.messages if "2023-11-14 22:13:20 UTC, 3600 s ahead of this machine's clock" in line
    ]
    assert bool(found) is told


async def test_settings_may_come_after_the_store_is_made(tmp_path: Path) -> None:
    store = SqliteStorage(tmp_path / "holon.db", clock=ManualClock())
    store.configure(StoreSettings("node-1", max_inbox=1))
    async with store:
        await store.create_jobs([new("0-a")])
        asked = [await store.append("0-a", CancelRequested("ann"), key) for key in "ab"]
        assert asked == [Appended.APPENDED, Appended.FULL]


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = SqliteStorage(tmp_path / "holon.db", SETTINGS)
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.fire(1)
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.job("0-a")
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.purge(0, 1)


def test_only_two_degrees_of_durability_are_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FULL or NORMAL"):
        SqliteStorage(tmp_path / "holon.db", SETTINGS, synchronous="OFF")


WRITER = """
import asyncio, sys
from holon.domain.job import Job
from holon.ports import NewJob, StoreSettings
from holon.storage.sqlite import SqliteStorage
from tests.claims import claimed

async def main():
    async with SqliteStorage(sys.argv[1], StoreSettings("node-1")) as store:
        async def lane(lane):
            for n in range(10_000):
                await store.create_jobs([NewJob(Job(f"0-{lane}-{n}", "bp", "ann", {}, "start"), ())])
                print(f"0-{lane}-{n}", flush=True)
        await asyncio.gather(*map(lane, range(8)))

asyncio.run(main())
"""


def test_i1_every_acknowledged_job_survives_a_kill_and_the_lock_does_not(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"

    async def missing(jobs: list[str]) -> list[str]:
        async with SqliteStorage(path, SETTINGS) as store:
            return [job_id for job_id in jobs if await store.job(job_id) is None]

    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip() for _ in range(500)]
        with pytest.raises(ConfigError, match=rf"process {writer.pid}\b"):
            asyncio.run(missing([]))
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.read().split("\n")[:-1]
    assert "" not in told
    assert asyncio.run(missing(told)) == []
