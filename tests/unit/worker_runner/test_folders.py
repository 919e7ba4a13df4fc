"""What is left of a worker that was killed goes with the next one's first folder; what another holds stays."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from holon.worker import folders

MAKES_ONE = "from holon.worker import folders; print(folders.make()[0], flush=True); input()"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(folders, "_swept", threading.Lock())
    return tmp_path


def another(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has made a folder."""
    command = [sys.executable, "-c", MAKES_ONE]
    env = {"TMPDIR": str(place), "PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(command, text=True, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_folder_of_a_worker_that_was_killed_goes_and_that_of_one_that_lives_stays(place: Path) -> None:
    (killed, left), (alive, held) = another(place), another(place)
    (left / "files").mkdir()
    (left / "files" / "large").write_bytes(b"x")
    # One of an older release, or of somebody else: it is not known who lives.
    (unknown := place / "holon-task-unknown").mkdir()
    killed.kill()
    killed.communicate()
    try:
        mine, lock = folders.make()
        for thread in threading.enumerate():
            if thread.name == "holon-left-folders":
                thread.join()
        assert sorted(place.iterdir()) == sorted([mine, held, unknown])
        folders.remove(mine, lock)
        assert not mine.exists()
    finally:
        alive.kill()
        alive.communicate()
