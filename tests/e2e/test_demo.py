"""The demo, as a user runs it, but for the environment that it makes: on a small folder, in real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scripts.demonstration.failure import Failed
from scripts.demonstration.programs import free_ports
from tests.redis_server import RedisServer

pytestmark = pytest.mark.own_store("the demo's default, and Redis once")
ROOT = Path(__file__).parents[2]
GUARD_SECONDS = 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Source that takes workers a second or two: long enough that one can be killed in the middle."""
    place = tmp_path / "source"
    place.mkdir()
    for number in range(60):
        body = "".join(f"def f{one}(a, b):\n    return [a + b * {one} for c in a if c]\n" for one in range(600))
        (place / f"m{number}.py").write_text(f"import os\n{body}", encoding="utf-8")
    (place / "broken.py").write_text("def f(:\n", encoding="utf-8")
    return place


@contextlib.contextmanager
def demo(tmp_path: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A running demo; what it started is ended whatever happens."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.demonstration", *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for pid in left_running(tmp_path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def left_running(tmp_path: Path) -> list[int]:
    """The processes that a demo of this test started, and itself: those with the test's folder in their environment."""
    option = "axEww" if sys.platform == "darwin" else "axeww"
    listing = subprocess.run(["ps", option, "-o", "pid=,command="], capture_output=True, check=True, text=True)
    return [int(line.split()[0]) for line in listing.stdout.splitlines() if f"TMPDIR={tmp_path}" in line]


def run(tmp_path: Path, *arguments: str | Path) -> tuple[int, str, str]:
    with demo(tmp_path, *arguments) as process:
        out, err = process.communicate(timeout=GUARD_SECONDS)
        assert left_running(tmp_path) == []
        return process.returncode, out, err


def counted_right(tmp_path: Path, out: str) -> None:
    """The count is right, and what a killed worker was in the middle of was done by another."""
    (held,) = re.findall(r"SIGKILL  worker-2, .*, in tasks ([\d, ]+)$", out, re.MULTILINE)
    again = re.findall(r"│ +(\d+) │ worker-2 +│ in the middle +│ worker-1 +│ +2 │", out)
    assert sorted(held.split(", ")) == sorted(again)
    levels = (r"job survey  \S+  finished .*", r" +└─ task census .* by child", r" +└─ job census .* at holon \S+$")
    assert re.search("\n".join(levels), out, re.MULTILINE)
    assert "equal  to the count by one process alone, in every number" in out
    report = json.loads((tmp_path / ".holon/census.json").read_text(encoding="utf-8"))
    assert report["totals"]["files"] == 61
    assert report["totals"]["functions"] == 36_000
    assert report["broken_files"] == [{"file": "broken.py", "reason": "line 1: invalid syntax"}]


@pytest.mark.slow
def test_the_demo_counts_right_though_a_worker_is_killed_and_leaves_nothing_running(
    tmp_path: Path, folder: Path
) -> None:
    code, out, err = run(tmp_path, folder)
    assert code == 0, out + err
    assert err == ""
    counted_right(tmp_path, out)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_demo_that_is_interrupted_leaves_nothing_running(tmp_path: Path, folder: Path) -> None:
    with demo(tmp_path, folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "SIGKILL" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=GUARD_SECONDS)
        assert left_running(tmp_path) == []
    assert process.returncode == 130
    assert "stopped by SIGINT; nothing is left running" in err
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_demo_that_is_kept_can_be_looked_at_and_stopped_as_it_says_on_redis_too(tmp_path: Path, folder: Path) -> None:
    with (
        closing(RedisServer()) as redis,
        demo(tmp_path, folder, "--keep", "--storage", redis.uri()) as process,
    ):
        out, err = process.communicate(timeout=GUARD_SECONDS)
        assert process.returncode == 0, out + err
        counted_right(tmp_path, out)
        said = out[out.index("ask it with") :].splitlines()[1:]
        look = "\n".join(line for line in said[:5])
        shown = subprocess.run(["sh", "-ec", look], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        (job,) = re.findall(r"job  (\S+), accepted", out)
        assert shown.count(job) >= 2
        assert "task_finished" in shown
        assert "─ task count_source" in shown
        assert '"status":"finished"' in shown
        (stop,) = re.findall(r"stop  (kill .*)$", out, re.MULTILINE)
        subprocess.run(["sh", "-ec", stop], check=True)
        ends = time.monotonic() + 20
        while left_running(tmp_path) and time.monotonic() < ends:
            time.sleep(0.05)
        assert left_running(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_without_source_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run(tmp_path, tmp_path / "empty")
    assert code == 1
    assert f"failed: the job ended failed: {tmp_path / 'empty'} holds no Python file" in err


def test_a_node_that_cannot_start_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("no database at all" * 100, encoding="utf-8")
    code, _, err = run(tmp_path, tmp_path, "--storage", "sqlite:///notes.db")
    assert code == 1
    assert "failed: node ended by itself" in err
    assert "the last lines of node.log:" in err
    assert "notes.db" in err
    assert "nothing is left running" in err


@pytest.mark.parametrize("arguments", [("gone",), (".", "--storage", "nosql://x"), (".", "--unknown")])
def test_a_mistake_in_the_command_line_is_told_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = run(tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert "scripts/demo: error: " in err


def test_a_lack_of_ports_is_told() -> None:
    assert len(set(free_ports(3))) == 3
    with pytest.raises(Failed, match=r"only \d+ of the ports 20000 to 20001 are free, and 3 are needed"):
        free_ports(3, range(20_000, 20_002))
