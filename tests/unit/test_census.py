"""The census: which files it lists, what a worker counts in them, and how the counts add up, however divided."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from blueprints.census import bp, list_chunks, make_report
from blueprints.workers.census import Counting, count_source, worker
from holon.context import JobContext
from holon.domain.decisions import AskedTask, DispatchParallel, GoTo
from holon.engine.arguments import arguments
from holon.engine.loader import examine
from holon.worker import Cancelled
from scripts.demonstration import evidence

SOURCE = """\
import os, sys.path
from json import loads
from . import sibling


class Outer:
    async def method(self):
        def inner():
            return 1


def last():
    return 2
"""


def write(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(folder)


def count(folder: str, *paths: str) -> Any:
    counting = Counting(folder)
    for path in paths:
        counting.add(path)
    return counting.result()


async def run(state: str, **fields: Any) -> tuple[Any, dict[str, Any]]:
    context = JobContext(
        job_id="j", blueprint_name=bp.name, current_state=state, initial_data=fields.pop("initial_data", {}), **fields
    )
    (handler,) = bp.states[state].handlers
    answer = await handler.function(**arguments(handler, context))
    return context.actions.decision or answer, context.state_history


def test_the_examples_load_without_a_problem() -> None:
    report = examine(sorted(Path("blueprints").resolve().glob("*.py")))
    assert report.problems == ()
    assert {blueprint.name for _, blueprint in report.blueprints} >= {"census", "hello"}


def test_chunks_hold_every_file_once_and_are_of_about_one_size(tmp_path: Path) -> None:
    folder = write(tmp_path, **{f"m{number}": "x\n" * (number + 1) for number in range(50)})
    chunks = list_chunks(folder, 7)
    assert sorted(file for chunk in chunks for file in chunk) == sorted(f"m{number}.py" for number in range(50))
    sizes = [sum((tmp_path / file).stat().st_size for file in chunk) for chunk in chunks]
    assert len(chunks) <= 7
    assert max(sizes) < 2 * sum(sizes) / len(sizes)


def test_there_are_never_more_chunks_than_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path, a="x" * 1000, b="", c="", d="x" * 10, e="", f="x" * 10)
    for most in range(1, 7):
        assert len(list_chunks(folder, most)) <= most
    empty = write(tmp_path / "empty", a="", b="", c="", d="")
    assert list_chunks(empty, 2) == [["a.py", "b.py"], ["c.py", "d.py"]]


def test_only_python_source_of_the_folder_itself_is_listed(tmp_path: Path) -> None:
    kept = {"a": "", "sub__b": ""}
    foreign = {"site-packages__c": "", ".hidden__d": ""}
    folder = write(tmp_path, **kept, **foreign)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "e.py").touch()
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    (file,) = list_chunks(folder, 1)
    assert file == ["a.py", "sub/b.py"]


def test_a_file_is_counted_by_what_it_holds(tmp_path: Path) -> None:
    found = count(write(tmp_path, m=SOURCE), "m.py")
    assert found["totals"] == {
        "files": 1, "bytes": len(SOURCE), "lines": 13, "functions": 3, "classes": 1, "imports": 3,
    }  # fmt: skip
    assert found["modules"] == {"os": 1, "sys": 1, "json": 1}
    assert [(one["name"], one["line"], one["lines"]) for one in found["longest"]] == [
        ("method", 7, 3), ("inner", 8, 2), ("last", 12, 2),
    ]  # fmt: skip


def test_a_file_that_is_no_python_is_counted_and_named(tmp_path: Path) -> None:
    folder = write(tmp_path, bad="def f(:\n", deep="(" * 5000)
    (tmp_path / "null.py").write_bytes(b"x = 1\0")
    found = count(folder, "bad.py", "deep.py", "gone.py", "null.py")
    assert found["totals"]["files"] == 4
    assert [one["file"] for one in found["broken"]] == ["bad.py", "deep.py", "gone.py", "null.py"]
    assert found["broken"][0]["reason"].startswith("line 1: ")
    assert found["broken"][2]["reason"] == "cannot be read: No such file or directory"


def test_a_report_does_not_depend_on_how_the_files_were_divided(tmp_path: Path) -> None:
    functions = "".join(f"def f{number}():\n" + "    pass\n" * (number % 4 + 1) for number in range(15))
    folder = write(tmp_path, a=SOURCE, b=functions, c=functions, d="def f(:", e="import os\n")
    paths = ["a.py", "b.py", "c.py", "d.py", "e.py"]
    together = make_report([count(folder, *paths)])
    apart = make_report([count(folder, path) for path in reversed(paths)])
    assert together == apart
    assert together["totals"]["broken"] == 1
    assert together["most_imported"][0] == {"module": "os", "files": 2}
    assert len(together["longest_functions"]) == 10


async def test_the_start_gives_every_chunk_to_a_worker(tmp_path: Path) -> None:
    folder = write(tmp_path, a="x = 1\n", b="y = 2\n")
    decision, _ = await run("start", initial_data={"folder": folder})
    assert isinstance(decision, DispatchParallel)
    assert decision.aggregate_into == "add_up"
    tasks = [branch for branch in decision.branches if isinstance(branch, AskedTask)]
    assert [task.params for task in tasks] == [
        {"folder": folder, "paths": ["a.py"]},
        {"folder": folder, "paths": ["b.py"]},
    ]
    (skill,) = worker.skills
    assert {task.skill for task in tasks} == {skill.name}
    assert skill.bind(tasks[0].params, {})["paths"] == ["a.py"]


@pytest.mark.parametrize(("name", "reason"), [("gone", "cannot be listed"), ("", "holds no Python file")])
async def test_a_folder_without_source_fails_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    decision, history = await run("start", initial_data={"folder": str(tmp_path / name)})
    assert decision == GoTo("failed")
    assert reason in history["reason"]


async def test_the_branches_become_one_report(tmp_path: Path) -> None:
    folder = write(tmp_path, a=SOURCE, b=SOURCE)
    results = {
        f"t{number}": {"status": "success", "data": count(folder, path)} for number, path in enumerate(("a.py", "b.py"))
    }
    decision, history = await run("add_up", aggregation_results=results)
    assert decision == GoTo("done")
    report, _ = await run("done", state_history=history)
    assert report["totals"]["functions"] == 6


async def test_a_branch_that_failed_fails_the_census() -> None:
    results = {"t1": {"task_id": "t1", "status": "failure", "error": {"code": "TIMEOUT_ERROR"}}}
    decision, history = await run("add_up", aggregation_results=results)
    assert decision == GoTo("failed")
    assert "t1" in history["reason"]


def test_what_a_killed_worker_held_is_what_it_began_and_did_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("CENSUS_LOG", str(log))
    folder = write(tmp_path, a=SOURCE)
    assert evidence.tasks_held(log) == []
    count_source(folder, ["a.py"], "j-1-0", 1, progress=lambda *_: None, cancelled=Cancelled())  # type: ignore[arg-type]
    assert evidence.tasks_held(log) == []
    with log.open("a") as file:
        file.write("began j-1-1 1\nbegan j-1-0 2\n")
    assert evidence.tasks_held(log) == ["j-1-1", "j-1-0"]


def finished(task: str, worker_id: str, attempt: int, status: str = "success") -> dict[str, Any]:
    return {"task_id": task, "worker_id": worker_id, "attempt": attempt, "status": status}


def test_what_does_not_add_up_after_a_kill_is_told(tmp_path: Path) -> None:
    logs = {"one": tmp_path / "one", "two": tmp_path / "two"}
    logs["one"].write_text("began j-1-0 1\nended j-1-0 1\nbegan j-1-1 2\nended j-1-1 2\n")
    logs["two"].write_text("began j-1-1 1\n")
    tasks = [finished("j-1-0", "one", 1), finished("j-1-1", "one", 2)]
    assert evidence.doubts(tasks, ["j-1-1"], logs, "two") == []
    assert [one.task_id for one in evidence.reruns(tasks, "two")] == ["j-1-1"]
    assert evidence.share(tasks) == {"one": 2}
    assert evidence.stage(logs["two"], "j-1-1", 1) is evidence.Stage.BEGUN
    assert evidence.stage(logs["one"], "j-1-1", 2) is evidence.Stage.ENDED
    assert evidence.stage(logs["two"], "j-1-2", 1) is evidence.Stage.OFFERED
    for wrong in (
        [*tasks, tasks[0]],
        [finished("j-1-0", "one", 1, "running"), tasks[1]],
        tasks[:1],
        [tasks[0], finished("j-1-1", "two", 2)],
        [tasks[0], finished("j-1-1", "one", 3)],
    ):
        assert len(evidence.doubts(wrong, ["j-1-1"], logs, "two")) == 1
    logs["one"].write_text("")
    assert evidence.doubts(tasks, ["j-1-1"], logs, "two") == ["task 1 is not in the log of one"]
