"""`holon init`: the project that it makes passes its own tests, and runs by the commands of its README."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli_node import GUARD, Started, environment, holon, holon_here, serve

pytestmark = pytest.mark.own_store("the project as it is made, on the default store")
FILES = ["README.md", ".gitignore", "pyproject.toml", "blueprints/greet.py", "greeter.py", "tests/test_greet.py"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_project_passes_its_tests_and_runs(tmp_path: Path, started: list[Started]) -> None:
    made = holon(tmp_path, "init", "my project")
    assert made.code == 0, made.err
    folder = tmp_path / "my project"
    assert sorted(contents(folder)) == sorted(FILES)
    assert [line for line in made.out.splitlines() if line.startswith("my project/")] == [
        f"my project/{name}" for name in FILES
    ]
    assert "  cd 'my project'\n" in made.out

    tested = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "2 passed" in tested.stdout

    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) == 20
    commands = [shlex.split(line)[1:] for line in re.findall(r"^    (holon .*)$", readme, re.MULTILINE)]
    begin, work, create = commands
    assert [f"  holon {shlex.join(command)}" for command in commands] == made.out.splitlines()[-3:]
    assert begin == ["serve", "--dev"]
    node, _ = serve(folder, "--dev")
    started.append(node)
    started.append(Started(folder, *work))
    created = holon_here(folder, *create, "--json")
    assert created.code == 0, created.err + node.log
    assert created.json["result"] == {"text": "Hello, Ada!"}


@pytest.mark.parametrize("name", ["README.md", ".gitignore", "tests/test_greet.py"])
def test_a_file_in_the_way_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    (tmp_path / "pyproject.toml").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    refused = holon_here(tmp_path, "init")
    assert refused.code == 1
    existing = ", ".join(one for one in FILES if one in (name, "pyproject.toml"))
    assert f"{tmp_path} already has {existing}; nothing was written" in refused.err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused = holon_here(tmp_path, "init", "file/project")
    assert refused.code == 1
    assert "file/project/README.md cannot be written: " in refused.err


def test_the_files_are_listed_as_json(tmp_path: Path) -> None:
    made = holon_here(tmp_path, "init", "--json")
    assert made.json == {"files": FILES}
