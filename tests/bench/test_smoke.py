"""The bench runs, and says what it promises to say. How fast anything is, is not asserted."""

from __future__ import annotations

import array
import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest

from tests.bench.__main__ import main
from tests.bench.disk import fsync_times
from tests.bench.http_client import Connection
from tests.bench.load import Load
from tests.bench.process import ROOT, BenchError, Child
from tests.bench.quiet import allow_files
from tests.bench.report import facts, percentile
from tests.bench.run import run

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


Bench: TypeAlias = Callable[..., dict[str, Any]]


@pytest.fixture
def bench_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], forked_children: None
) -> Bench:
    """The figures of a run by this process, whose nodes and workers are forked: a few times less work than `bench`."""
    monkeypatch.chdir(tmp_path)

    def run_it(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["scripts/bench", *arguments])
        code = main()
        out, err = capsys.readouterr()
        assert code == 0, err
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    return run_it


def test_a_scenario_ends_by_itself_and_its_last_line_has_the_promised_figures(tmp_path: Path) -> None:
    promised(tmp_path, figures(bench(tmp_path, "one-task", "--seconds", "0.5", "--json")), "one-task", 1)


@pytest.mark.parametrize(("scenario", "tasks", "seconds"), [("no-worker", 0, "0.5"), ("fan-out", 100, "1")])
def test_so_does_every_other(tmp_path: Path, bench_here: Bench, scenario: str, tasks: int, seconds: str) -> None:
    # As long as its jobs may take on a busy machine.
    promised(tmp_path, bench_here(scenario, "--seconds", seconds, "--json"), scenario, tasks)


def promised(tmp_path: Path, found: dict[str, Any], scenario: str, tasks: int) -> None:
    assert found.keys() >= PROMISED
    assert (found["scenario"], found["synchronous"]) == (scenario, "FULL")
    assert all(found[name] > 0 for name in PROMISED - {"scenario", "storage", "synchronous", "tasks_per_s"})
    assert found["tasks_per_s"] == pytest.approx(found["jobs_per_s"] * tasks, rel=0.01)
    assert list((tmp_path / ".holon").iterdir()) == []


def test_calls_tells_how_many_functions_a_job_calls(tmp_path: Path, bench_here: Bench) -> None:
    found = bench_here("calls", "--json")
    assert found["jobs"] >= 1_000
    assert found["calls_per_job"] > 1
    assert list((tmp_path / ".holon").iterdir()) == []


def test_a_node_is_measured_beside_itself_in_plaintext(tmp_path: Path, bench_here: Bench) -> None:
    found = bench_here("one-task", "--plaintext", "--seconds", "0.5", "--json")
    assert found.keys() >= PROMISED
    assert found["limit"] == "plaintext"
    assert found["limit_cpu_ms_per_job"] > 0
    assert list((tmp_path / ".holon").iterdir()) == []


def test_on_redis_it_tells_what_the_server_had_to_do_for_all_nodes(bench_here: Bench) -> None:
    found = bench_here("one-task", "--storage", "redis://", "--nodes", "2", "--seconds", "1", "--json")
    assert found.keys() >= PROMISED
    assert (found["storage"], found["nodes"]) == ("redis://", 2)
    assert 0 < found["store_calls_per_job"] < found["store_commands_per_job"]
    assert found["store_cpu_us_per_job"] > 0


def test_delegate_tells_what_each_level_of_holons_adds(bench_here: Bench) -> None:
    found = bench_here("delegate", "--depth", "2", "--seconds", "1", "--json")
    assert found.keys() >= PROMISED
    assert (found["depth"], found["limit"]) == (2, "alone")
    assert found["level_cpu_ratio"] > 0
    assert "level_p50_ms" in found


@pytest.mark.usefixtures("forked_children")
async def test_recovery_tells_how_soon_work_went_on_after_a_sigkill(tmp_path: Path) -> None:
    quick = {
        "HEARTBEAT_INTERVAL_SECONDS": "0.3",
        "WORKER_SILENCE_SECONDS": "1",
        "TASK_LEASE_SECONDS": "2",
    }
    found = facts(await run("recovery", "redis://", 0.0, tmp_path, nodes=2, settings=quick))
    assert found.keys() >= PROMISED
    assert (found["take_over_s"], found["lease_s"]) == (10, 2)
    assert found["recovery_node_s"] > 0
    assert found["recovery_worker_s"] > 0


def test_idle_workers_tells_what_a_worker_costs_and_nothing_of_jobs(bench_here: Bench) -> None:
    found = bench_here("idle-workers", "--workers", "20", "--storage", "memory://", "--seconds", "0.3", "--json")
    assert found.keys() >= PROMISED
    assert (found["workers"], found["jobs_per_s"], found["ratio_to_limit"]) == (20, None, None)
    assert 10 < found["kib_per_worker"] < 1000
    assert 10 < found["limit_kib_per_worker"] < 1000
    assert 0 <= found["idle_cpu_percent"] <= 100


def test_more_workers_than_the_system_allows_files_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    with pytest.raises(BenchError, match="500 workers need 700 open files, and the hard limit here is 256: raise it"):
        allow_files(500)


def test_a_process_that_logged_an_error_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"levelname":"INFO"}\n{"levelname":"ERROR","message":"gone wrong"}\n')
    assert Child("any", (), {}, log).errors() == '{"levelname":"ERROR","message":"gone wrong"}'


class OneJob:
    """A node that has one job, ended as given."""

    def __init__(self, **ended: Any) -> None:
        self._ended = {"id": "j", "status": "finished", "result": {"echo": 1}, "finished_at": 7.0} | ended

    async def post(self, path: str, body: bytes) -> tuple[int, Any]:
        return 200, self._ended

    async def get(self, path: str) -> tuple[int, Any]:
        return 200, {"jobs": [self._ended], "next_page_token": ""}


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


def refused(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["scripts/bench", *arguments])
    return main()


def test_a_store_that_is_there_already_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.db").touch()
    assert refused(monkeypatch, tmp_path, "one-task", "--storage", "sqlite:///old.db") == 1
    assert "old.db is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("recovery", "--storage", "memory://"), ("one-task", "--nodes", "2", "--storage", "sqlite:///x.db")],
)
def test_several_nodes_without_redis_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert refused(monkeypatch, tmp_path, *arguments) == 1
    assert "give --storage redis://" in capsys.readouterr().err


def test_what_is_no_store_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch, tmp_path, "one-task", "--storage", "mysql://there") == 2
    assert "STORAGE_URI" in capsys.readouterr().err


def test_percentiles_are_of_the_values_themselves() -> None:
    values = [number / 1000 for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([], 0.5)) == (50, 99, None)


def test_the_disk_is_written_as_often_as_asked_and_left_clean(tmp_path: Path) -> None:
    assert len(fsync_times(tmp_path, 3)) == 3
    assert list(tmp_path.iterdir()) == []
