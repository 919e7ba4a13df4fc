"""When the files of jobs go, and the example of their page."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory, TaskFiles
from holon.engine import job_files
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.engine.job_files import FilesPlace, JobFiles
from holon.engine.loader import examine
from holon.storage.blobs import S3Blobs
from holon.testing import running_node
from tests.contract.backends import Memory
from tests.contract.world import World
from tests.integration.task_files_site import files, s3
from tests.s3_server import S3Server

__all__ = ["files", "s3"]


async def until(so: Callable[[], object]) -> None:
    """Wait for what is done in its own time, and told to nobody."""
    async with asyncio.timeout(60):
        while not so():  # noqa: ASYNC110  it is another program's files
            await asyncio.sleep(0.01)


async def test_what_a_node_that_died_has_left_is_deleted_by_the_next_one(s3: S3Server, tmp_path: Path) -> None:
    """It died after a job's end, and before it had deleted anything; and another job's work is left to the next."""
    world = World(Memory(), None, {})  # type: ignore[arg-type]  # memory needs no place
    await world.open()
    over, alive = await world.start(), await world.start()
    blobs = S3Blobs(s3.client())
    mine = FilesPlace(blobs, tmp_path / "mine", "a-holon")
    kept = JobFiles(mine, world.storage, Blueprints(Contracts()), keep_ms=10**9)
    others = JobFiles(FilesPlace(blobs, tmp_path / "theirs", "another"), world.storage, Blueprints(Contracts()), 10**9)
    for claim in (over, alive):
        await kept.of(claim.job.id).write_text("a/b", "x")
    await kept.of("0-purged").write_text("a", "x")
    await others.of("0-theirs").write_text("a", "x")
    s3.put("jobs/0-nobodys/a")
    await world.finish(over)
    for name in (f"mine/{over.job.id}", f"mine/{alive.job.id}", "mine/0-purged", "theirs/0-theirs"):
        os.utime(tmp_path / name, (0, 0))
    # Its first handler is at work, and the job is not stored yet.
    kept.of("0-unborn").path("a").touch()
    # The mark is old by the clock of the next node.
    world.clock.advance(10**12)
    running = asyncio.create_task(JobFiles(mine, world.storage, Blueprints(Contracts()), keep_ms=10**9).run())
    stays = [f".holon/jobs/a-holon/{alive.job.id}", ".holon/jobs/another/0-theirs"]
    stays += sorted(["jobs/0-nobodys/a", "jobs/0-theirs/a", f"jobs/{alive.job.id}/a/b"])
    here = sorted([tmp_path / "mine" / alive.job.id, tmp_path / "mine/0-unborn", tmp_path / "theirs/0-theirs"])
    await until(lambda: (s3.everything(), sorted(tmp_path.glob("*/*"))) == (stays, here))
    running.cancel()
    await world.close()
    for key in s3.everything():
        await blobs.delete([key])


async def test_files_that_are_kept_go_when_their_job_is_deleted(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_files, "EVERY_S", 0.05)
    bp = Blueprint("files", api_endpoint="/jobs/files", api_version="v1")

    @bp.handler(is_start=True)
    async def start(task_files: TaskFiles, actions: ActionFactory) -> None:
        await task_files.write_text("kept", "x")
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    settings: dict[str, Any] = {
        **s3.settings,
        "S3_AUTO_CLEANUP": False,
        "TASK_FILES_DIR": str(tmp_path / "files"),
        "STORAGE_URI": f"sqlite:///{tmp_path / 'holon.db'}",
    }
    async with running_node(bp, **settings) as node:
        job = await node.run("files", {})
    assert s3.keys("jobs/") == [f"jobs/{job.id}/kept"]
    async with running_node(bp, **settings, JOB_RETENTION=0.1):
        await until(lambda: not s3.everything())


# The page ----------------------------------------------------------------------------------------------------------


async def test_the_examples_of_the_page_run(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/files.md").read_text(encoding="utf-8")
    text, of_worker = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "report.py").write_text(text, encoding="utf-8")
    report = examine([tmp_path / "report.py"])
    assert report.problems == ()
    settings: dict[str, Any] = {**s3.settings, "S3_AUTO_CLEANUP": False, "TASK_FILES_DIR": str(tmp_path / "files")}
    example = types.ModuleType("example_of_files")
    monkeypatch.setitem(sys.modules, example.__name__, example)
    exec(compile(of_worker, "docs/files.md", "exec"), example.__dict__)
    # What speaks to this machine goes through no proxy.
    monkeypatch.setenv("no_proxy", "*")
    async with running_node(report.blueprints[0][1], **settings) as node:
        worker = node.new_worker("w1")

        worker.skill("draw")(example.draw)
        async with worker:
            job = await node.run("report", {"rows": 100})
    size = len("<svg>100 99,9801</svg>")
    assert (job.status, job.result) == ("finished", {"bytes": size})
    names = ["in/table.csv", "out/picture.svg", "out/summary.json"]
    assert s3.keys("jobs/") == [f"jobs/{job.id}/{name}" for name in names]
