"""The bench runs, and says what it promises to say. How fast anything is, is not asserted."""

from __future__ import annotations

import array
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from tests.bench.disk import fsync_times
from tests.bench.http_client import Connection
from tests.bench.load import Load
from tests.bench.process import ROOT, BenchError
from tests.bench.report import percentile

PROMISED = {
    "scenario",
    "storage",
    "jobs_per_s",
    "tasks_per_s",
    "p50_ms",
    "p99_ms",
    "node_cpu_ms_per_job",
    "limit_jobs_per_s",
    "ratio_to_limit",
    "synchronous",
    "fsync_p50_ms",
    "fsync_p99_ms",
    "fsync_paced_p50_ms",
    "fsync_paced_p99_ms",
}


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.bench", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def figures(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("scenario", "tasks"), [("one-task", 1), ("fan-out", 100)])
def test_a_scenario_ends_by_itself_and_its_last_line_has_the_promised_figures(
    tmp_path: Path, scenario: str, tasks: int
) -> None:
    found = figures(bench(tmp_path, scenario, "--seconds", "0.5", "--json"))
    assert found.keys() >= PROMISED
    assert (found["scenario"], found["synchronous"]) == (scenario, "FULL")
    assert all(found[name] > 0 for name in PROMISED - {"scenario", "storage", "synchronous"})
    assert found["tasks_per_s"] == pytest.approx(found["jobs_per_s"] * tasks, rel=0.01)
    assert list((tmp_path / ".holon").iterdir()) == []


class OneJob:
    """A node that has one job, ended as given."""

    def __init__(self, **ended: Any) -> None:
        self._ended = {"id": "j", "status": "finished", "result": {"echo": 1}, "finished_at": 7.0} | ended

    async def post(self, path: str, body: bytes) -> tuple[int, Any]:
        return 202, {"status": "accepted", "job_id": "j"}

    async def get(self, path: str) -> tuple[int, Any]:
        return 200, self._ended if path.endswith("/j") else {"jobs": [self._ended], "next_page_token": ""}


async def run_one(node: OneJob) -> list[float]:
    connection = cast("Connection", node)
    load = Load([connection], "/api/v1/jobs/echo", 1, lambda number: {"echo": number})
    observed = asyncio.create_task(load.observe(connection))
    await asyncio.sleep(0)
    load.hear(array.array("I", [1]))
    await observed
    return [job.finished for job in await load.verified()]


async def test_a_job_with_its_own_echo_is_counted() -> None:
    assert await run_one(OneJob()) == [7.0]


@pytest.mark.parametrize("ended", [{"result": {"echo": 2}}, {"status": "failed", "result": None}])
async def test_a_job_that_ended_otherwise_fails_the_run(ended: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="job j was made with 1 and ended as"):
        await run_one(OneJob(**ended))


def test_a_store_that_is_there_already_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.db").touch()
    run = bench(tmp_path, "one-task", "--storage", "sqlite:///old.db")
    assert run.returncode == 1
    assert "old.db is there already" in run.stderr


def test_what_is_no_store_is_a_usage_error(tmp_path: Path) -> None:
    run = bench(tmp_path, "one-task", "--storage", "mysql://there")
    assert run.returncode == 2
    assert "STORAGE_URI" in run.stderr


def test_percentiles_are_of_the_values_themselves() -> None:
    values = [number / 1000 for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([], 0.5)) == (50, 99, None)


def test_the_disk_is_written_as_often_as_asked_and_left_clean(tmp_path: Path) -> None:
    assert len(fsync_times(tmp_path, 3)) == 3
    assert list(tmp_path.iterdir()) == []
