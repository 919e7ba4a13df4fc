"""The drill of docs/deploy/backup.md: a store is copied while its node works, lost, and restored from the copy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from pathlib import Path

from tests.conftest import Measured
from tests.e2e.processes import Node, ended_with_test, until, work_log
from tests.store_file import jobs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/deploy/backup.md"
BLUEPRINTS = ROOT / "tests/e2e/blueprints"
QUICK = {"HEARTBEAT_INTERVAL_SECONDS": 0.5, "WORKER_SILENCE_SECONDS": 1.5, "TASK_LEASE_SECONDS": 3}


async def backup(store: Path, folder: Path) -> tuple[int, str, str]:
    """Run the program as the page says; its exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "docs/deploy/backup.py", store, folder, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().strip(), err.decode()


def restore(copy: str, store: Path) -> None:
    """Put a copy in the place of a store that nobody uses any more."""
    for file in store.parent.glob(f"{store.name}*"):
        file.unlink()
    shutil.copyfile(copy, store)


def moment_of(copy: str) -> int:
    """When it was made, in epoch milliseconds."""
    return int(Path(copy).stat().st_mtime * 1000)


def is_private(copy: str) -> bool:
    return Path(copy).stat().st_mode & 0o077 == 0


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_jobs_of_before_a_backup_are_there_after_its_restore_and_go_on(
    tmp_path: Path, measured: Measured
) -> None:
    node = Node(tmp_path, BLUEPRINTS, **QUICK)
    worker = node.worker("w1", "echo_worker.py", MAX_CONCURRENT=8)
    store, copies = tmp_path / "holon.db", tmp_path / "copies"
    copies.mkdir()
    async with ended_with_test(node, worker):
        await node.start()
        await worker.start()
        accepted = {await node.create("/jobs/echo", {"n": n}): n for n in range(8)}
        for job_id in accepted:
            await node.ended(job_id)
        # Eight at the worker, the others wait for it.
        for n in range(8, 32):
            accepted[await node.create("/jobs/echo", {"n": n, "seconds": 0.5})] = n
        await until(lambda: len(work_log(tmp_path, "w1")) > 16, "the worker is at work")

        enough = asyncio.Event()

        async def more() -> None:
            while not enough.is_set():
                await node.create("/jobs/echo", {"n": 0})

        writing = [asyncio.create_task(more()) for _ in range(4)]
        code, copy, errors = await backup(store, copies)
        assert (code, errors) == (0, "")
        enough.set()
        await asyncio.gather(*writing)
        late = await node.create("/jobs/echo", {"n": 99})

        await node.process.end()
        restore(copy, store)
        over = Counter(job.over for job in jobs(Path(copy)))
        assert over[True] >= 8
        assert over[False] >= 1

        await node.start()
        assert (await node.api.get(f"/api/v1/jobs/{late}")).status_code == 404
        for job_id, n in accepted.items():
            job = await node.ended(job_id)
            assert (job["status"], job["result"]) == ("finished", {"echo": n})
            events = await node.history(job_id)
            assert Counter(event["event_type"] for event in events)["job_completed"] == 1
            assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        anew = await node.create("/jobs/echo", {"n": 100})
        assert (await node.ended(anew))["result"] == {"echo": 100}
        measured(f"the copy has {over[True]} jobs that are over and {over[False]} that are not")
    assert names(copies) == [Path(copy).name]
    assert is_private(copy)


async def test_history_that_tells_of_what_a_restore_undid_is_set_right_as_the_page_says(tmp_path: Path) -> None:
    store, history = tmp_path / "holon.db", tmp_path / "history.db"
    node = Node(tmp_path, BLUEPRINTS, HISTORY_DATABASE_URI=f"sqlite:///{history}", **QUICK)
    first, second = (node.worker(name, "echo_worker.py") for name in ("w1", "w2"))
    async with ended_with_test(node, first, second):
        await node.start()
        await first.start()
        over = [await node.create("/jobs/echo", {"n": n}) for n in range(2)]
        for job_id in over:
            await node.ended(job_id)
        await first.end(signal.SIGTERM)
        # Nobody is there to do these, so they are as they are when the store is copied.
        waiting = [await node.create("/jobs/echo", {"n": n}) for n in range(2)]
        code, copy, errors = await backup(store, tmp_path)
        assert (code, errors) == (0, "")
        moment = moment_of(copy)
        await second.start()
        for job_id in waiting:
            await node.ended(job_id)
        late = await node.create("/jobs/echo", {"n": 99})
        await node.ended(late)
        # A drain moves what is left of history.
        assert await node.process.end(signal.SIGTERM) == 0

        restore(copy, store)
        [script] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        with contextlib.closing(sqlite3.connect(history)) as db:
            db.executescript(script.replace("holon_", "").replace(":moment", str(moment)))

        await node.start()
        assert (await node.api.get(f"/api/v1/jobs/{late}")).status_code == 404
        for job_id in (*over, *waiting):
            assert (await node.ended(job_id))["status"] == "finished"
        assert await node.process.end(signal.SIGTERM) == 0
        with contextlib.closing(sqlite3.connect(history)) as db:
            told = db.execute("SELECT id, status, sequence FROM jobs").fetchall()
            lines = db.execute("SELECT type, job FROM history ORDER BY job, sequence").fetchall()
        assert {(job_id, status) for job_id, status, _ in told} == {(one, "finished") for one in (*over, *waiting)}
        assert sum(sequence for _, _, sequence in told) == len(lines)
        assert sorted(job for kind, job in lines if kind == "job_completed") == sorted((*over, *waiting))


async def test_a_backup_that_cannot_be_made_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    code, out, errors = await backup(tmp_path / "nothing.db", tmp_path)
    assert (code, out) == (1, "")
    assert "nothing.db was not copied" in errors
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + bytes(4_080))
    code, out, errors = await backup(broken, tmp_path)
    assert (code, out) == (1, "")
    assert names(tmp_path) == [broken.name]
