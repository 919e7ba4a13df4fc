"""docs/quickstart.md: a reader who follows the page in a new folder sees what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli_node import COMMAND, GUARD, Ran, Started, environment, holon_here, serve
from tests.e2e.test_readme import examples

pytestmark = pytest.mark.own_store("it sets nothing but what the page says")
PAGE = "docs/quickstart.md"


def shell(folder: Path, commands: str) -> Ran:
    """What bash prints for a block of the page, with `holon` as the command."""
    done = subprocess.run(
        ["bash", "-uc", f'holon() {{ {shlex.join(COMMAND)} "$@"; }}\n{commands}'],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def commands_of(block: str) -> list[list[str]]:
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line.startswith("holon ")]


def test_a_reader_makes_runs_breaks_and_extends_a_project(tmp_path: Path, started: list[Started]) -> None:
    make, begin, create = examples(PAGE, "A first job", "sh")
    made = shell(tmp_path, make)
    assert made.code == 0, made.err
    folder = tmp_path / "greetings"
    assert commands_of(begin) == [["serve", "--dev"], ["worker", "run", "greeter:worker"]]
    work = commands_of(begin)[1]

    node, doors = serve(folder, "--dev")
    started.append(node)
    worker = Started(folder, *work)
    started.append(worker)
    ran = shell(folder, create.replace("http://127.0.0.1:8080", doors["http"]))
    assert ran.code == 0, ran.err + node.log
    by_command, _, by_http = ran.out.partition('{"id":"')
    for shown in (by_command, by_http):
        assert "finished" in shown
        assert "Hello, Ada!" in shown
    assert worker.end() == 0

    (failing,) = examples(PAGE, "When the work fails", "python")
    (folder / "greeter.py").write_text(failing, encoding="utf-8")
    started.append(Started(folder, *work))
    (bob,) = examples(PAGE, "When the work fails", "sh")
    ran = shell(folder, bob)
    assert "quarantined" in ran.out, ran.err + node.log
    assert "PERMANENT_ERROR" in ran.out

    (party,) = examples(PAGE, "Many tasks at once", "python")
    (folder / "blueprints/party.py").write_text(party, encoding="utf-8")
    assert holon_here(folder, "reload", "blueprints").code == 0
    (create,) = examples(PAGE, "Many tasks at once", "sh")
    ran = shell(folder, create)
    assert ran.code == 0, ran.err + node.log
    assert '{"texts":["Hello, Ada!","Hello, Cleo!"]}' in ran.out


def test_the_page_shows_the_files_that_holon_init_makes(tmp_path: Path) -> None:
    made = holon_here(tmp_path, "init", "--json").json["files"]
    (table,) = re.findall(r"^`holon init` writes.*?^\| file \|.*?\n\n", _page(), re.DOTALL | re.MULTILINE)
    assert sorted(re.findall(r"`([\w./]+)`", table.partition("|")[2])) == sorted(made)
    blueprint, worker = examples(PAGE, "A first job", "python")
    assert (tmp_path / "blueprints/greet.py").read_text(encoding="utf-8").endswith(f'"""\n\n{blueprint}')
    assert (tmp_path / "greeter.py").read_text(encoding="utf-8").endswith(f'"""\n\n{worker}')
    (tests,) = examples(PAGE, "Test it", "python")
    in_file = (tmp_path / "tests/test_greet.py").read_text(encoding="utf-8")
    assert all(part in in_file for part in tests.split("\n\n"))


def _page() -> str:
    return (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
