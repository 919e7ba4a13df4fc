"""The page of figures is written from results, and stands as they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as command
from tests.bench.figures import render
from tests.bench.process import ROOT

PAGE = ROOT / "docs/figures.md"
WHERE = {
    "date": "2026-01-02",
    "cpu": "A processor",
    "cores": 2,
    "memory_gib": 8,
    "system": "Linux 6.1",
    "python": "3.13.5",
    "versions": {"Holon": "0.1.0", "SQLite": "3.46.1"},
    "conditions": "nothing else ran",
}


def result(scenario: str = "one-task", limit: str = "stripped", **given: Any) -> dict[str, Any]:
    figures = {
        "jobs": 100,
        "jobs_per_s": 3000.0,
        "tasks_per_s": 3000.0,
        "p50_ms": 20.0,
        "p99_ms": 30.0,
        "node_cpu_ms_per_job": 0.2,
        "limit_jobs_per_s": 15000.0,
        "limit_p50_ms": 5.0,
        "limit_cpu_ms_per_job": 0.05,
        "seconds": 5.0,
        "fsync_p50_ms": 0.2,
        "fsync_paced_p50_ms": 0.5,
    }
    return WHERE | figures | {"scenario": scenario, "limit": limit, "nodes": 1, "storage": "sqlite:///x.db"} | given


IDLE: dict[str, Any] = {"jobs": None, "workers": 1000, "kib_per_worker": 110.0, "idle_cpu_percent": 4.0}
OF_LIMIT: dict[str, Any] = {"limit_kib_per_worker": 94.0, "limit_idle_cpu_percent": 3.0}
KILLED: dict[str, Any] = {"take_over_s": 10.0, "lease_s": 30.0, "recovery_node_s": 8.0, "recovery_worker_s": 28.6}
RESULTS = [
    result(),
    result(node_cpu_ms_per_job=0.3, limit_cpu_ms_per_job=0.06, jobs_per_s=2500.0),
    result("no-worker", tasks_per_s=0.0),
    result(limit="plaintext"),
    result(limit="unencrypted"),
    result("delegate", "alone", depth=2, level_p50_ms=3.0, level_cpu_ratio=1.2),
    result(storage="redis://", store_calls_per_job=0.07, store_cpu_us_per_job=100.0),
    result("idle-workers", **IDLE, **OF_LIMIT),
    result("recovery", jobs=None, seconds=None, fsync_p50_ms=None, fsync_paced_p50_ms=None, **KILLED),
]


def test_the_page_has_a_table_and_its_conditions_for_each_kind_of_result() -> None:
    sections = render(RESULTS).split("\n## ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [
        "One node on SQLite",
        "Beside a stripped node",
        "Mutual TLS",
        "Encryption",
        "Holons below",
        "On Redis",
        "Recovery",
        "Idle workers",
    ]
    for section in sections:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) > 2
        assert len({row.count("|") for row in rows}) == 1
        told = section.strip().splitlines()[-1]
        assert told.startswith(
            "Measured 2026-01-02; A processor, 2 cores, 8 GiB; Linux 6.1; Python 3.13.5; Holon 0.1.0"
        )
        assert told.endswith("Conditions: nothing else ran.")


def test_a_range_is_of_all_runs_of_a_kind() -> None:
    page = render(RESULTS)
    assert "| one-task | 2,500-3,000 | 3,000 | 20.0 | 30.0 | 0.200-0.300 | 2 |" in page
    assert "| no-worker | 3,000 | | 20.0 | 30.0 | 0.200 | 1 |" in page
    assert "| one-task | 15,000 | 5.0 | 0.050-0.060 | 4.0-5.0 |" in page


def test_what_was_not_measured_has_no_table() -> None:
    assert "## Recovery" not in render(RESULTS[:2])


def test_the_page_of_the_project_is_written_from_its_results() -> None:
    lines = PAGE.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    assert PAGE.read_text(encoding="utf-8") == render([json.loads(line) for line in lines])


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scripts/bench", *arguments])
    return command.main()


@pytest.mark.usefixtures("forked_children")
def test_all_measures_and_writes_the_page_which_can_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "RUNS", (("no-worker",), ("no-worker", "--encrypted")))
    page = tmp_path / "figures.md"
    given = ("all", "--figures", str(page), "--seconds", "0.3", "--conditions", "tests ran")
    assert bench(monkeypatch, *given) == 0
    text = page.read_text(encoding="utf-8")
    assert "## One node on SQLite" in text
    assert "## Encryption" in text
    assert "Conditions: tests ran." in text
    page.unlink()
    assert bench(monkeypatch, "--figures", str(page)) == 0
    assert page.read_text(encoding="utf-8") == text


def test_without_results_there_is_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(monkeypatch, "--figures", str(tmp_path / "figures.md")) == 1
    assert "figures.jsonl is not there: measure with scripts/bench all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give a scenario, or all and --figures PAGE"),
        (("all",), "give a scenario, or all and --figures PAGE"),
        (("all", "--figures", "x.md"), "say with --conditions what else runs"),
        (("one-task", "--figures", "x.md"), "--figures is with all, or alone"),
        (("one-task", "--encrypted", "--plaintext"), "give --plaintext or --encrypted"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
