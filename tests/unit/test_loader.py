"""What loading blueprints from files promises: all of them, or one report of everything that is wrong."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.engine.loader import examine, examine_directory, load_directory
from holon.errors import BlueprintError
from tests.strangers import owned_by_another

EXAMPLES = Path(__file__).parents[2] / "blueprints"

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from holon.domain.blueprint import Blueprint

@dataclass
class Input:
    n: int = 0

bp = Blueprint("NAME", api_endpoint="/jobs/NAME")
same = bp

@bp.handler(is_start=True)
async def start(initial_data: Input, actions):
    actions.go_to("end")

@bp.handler(is_end=True)
async def end(): ...
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def test_every_blueprint_of_every_file_is_found_once_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        b=GOOD.replace("NAME", "two"),
        a=GOOD.replace("NAME", "one")
        + GOOD.replace("NAME", "first")[1:]
        .replace("from __future__ import annotations\n", "")
        .replace("bp", "other")
        .replace("same", "also"),
    )
    assert [one.name for one in load_directory(tmp_path)] == ["one", "first", "two"]


def test_a_file_whose_name_is_no_utf_8_is_told_by_it_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path, good=GOOD.replace("NAME", "good"))
    (tmp_path / os.fsdecode(b"b\xff.py")).write_text(GOOD.replace("NAME", "bad"))
    report = examine_directory(tmp_path)
    assert [blueprint.name for _, blueprint in report.blueprints] == ["good"]
    [error] = report.errors
    assert error.problem.message == "its path is not UTF-8; rename the file or its folder"
    with pytest.raises(BlueprintError, match="is not UTF-8"):
        load_directory(tmp_path)


def test_only_python_files_at_the_top_that_do_not_begin_with_an_underscore_are_run(tmp_path: Path) -> None:
    write(tmp_path, __init__="raise SystemExit", _private="raise SystemExit", good=GOOD.replace("NAME", "good"))
    (tmp_path / "notes.txt").write_text("not Python")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper", bad="raise SystemExit")
    assert [one.name for one in load_directory(tmp_path)] == ["good"]


def test_files_of_one_name_in_two_folders_do_not_meet_and_shadow_nothing(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, json=GOOD.replace("NAME", folder))
    assert load_directory(tmp_path / "x")[0].name == "x"
    assert load_directory(tmp_path / "y")[0].name == "y"
    assert not str(sys.modules["json"].__file__).startswith(str(tmp_path))


def test_every_problem_of_every_file_is_in_one_report(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_good=GOOD.replace("NAME", "good"),
        b_syntax="x = 1\ndef broken(:\n",
        c_import="import holon\nimport not_there_at_all\n",
        d_raises="def f():\n    return 1 / 0\n\nf()\n",
        e_exits="import sys\nsys.exit(3)\n",
        f_decorator=GOOD.replace("NAME", "f") + "\n@bp.handler\nasync def end(): ...\n",
        g_name="from holon.domain.blueprint import Blueprint\n\nbp = Blueprint('no good')\n",
        h_dangling=GOOD.replace("NAME", "h").replace('go_to("end")', 'go_to("gone")'),
        i_same=GOOD.replace("NAME", "good"),
        j_path=GOOD.replace("NAME", "j").replace("/jobs/j", "/jobs/good"),
        k_own=GOOD.replace("NAME", "k").replace("/jobs/k", "/v1/jobs"),
        l_own=GOOD.replace("NAME", "l").replace("/jobs/l", "/v1/jobs/l/cancel"),
    )
    with pytest.raises(BlueprintError) as error:
        load_directory(tmp_path)
    lines = error.value.message.splitlines()
    assert lines[0] == "the blueprints have 12 errors; correct them and reload:"
    expected = [
        ("b_syntax.py", "line 2: SyntaxError"),
        ("c_import.py", "line 2: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("d_raises.py", "line 2: ZeroDivisionError"),
        ("e_exits.py", "line 2: SystemExit: 3"),
        ("f_decorator.py", "line 20: end ("),
        ("g_name.py", "line 3: blueprint name 'no good'"),
        ("h_dangling.py: blueprint h", "h_dangling.py:15): go_to leads to 'gone', which is not a state"),
        ("h_dangling.py: blueprint h", "leads to 'end'"),
        ("i_same.py: blueprint good", "the name 'good' is already taken by"),
        ("j_path.py: blueprint j", "the path /api/jobs/good is already taken by blueprint 'good'"),
        ("k_own.py: blueprint k", "the path /api/v1/jobs is used by the node itself; use another api_endpoint"),
        ("l_own.py: blueprint l", "the path /api/v1/jobs/l/cancel is used by the node itself"),
    ]
    for line, (file, text) in zip(lines[1:], expected, strict=True):
        assert f"error: {tmp_path / file}" in line
        assert text in line


def test_a_report_tells_problems_without_raising(tmp_path: Path) -> None:
    write(tmp_path, a=GOOD.replace("NAME", "a"), b="x = (", c="x = 1")
    report = examine_directory(tmp_path)
    assert [(file.name, one.name) for file, one in report.blueprints] == [("a.py", "a")]
    assert [one.file.name for one in report.errors] == ["b.py"]
    assert [str(one) for one in report.warnings] == [
        f"warning: {tmp_path}/c.py: it defines no Blueprint at its top level"
    ]


def test_each_warning_is_logged_once_and_keeps_nothing_from_loading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = GOOD.replace("NAME", "loose").replace('go_to("end")', "go_to(initial_data.n)")
    write(tmp_path, loose=text, none="x = 1")
    with caplog.at_level(logging.WARNING):
        [loose] = load_directory(tmp_path)
        Blueprints(Contracts()).register(loose)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/none.py: it defines no Blueprint at its top level",
        f"blueprint loose: state 'end' ({tmp_path}/loose.py:17): no reachable state leads to 'end'",
    ]


def test_a_file_that_failed_can_be_corrected_and_loaded(tmp_path: Path) -> None:
    write(tmp_path, one="raise ValueError('not yet')")
    with pytest.raises(BlueprintError, match="line 1: ValueError: not yet"):
        load_directory(tmp_path)
    write(tmp_path, one=GOOD.replace("NAME", "corrected_at_last"))
    assert [one.name for one in load_directory(tmp_path)] == ["corrected_at_last"]


def test_a_missing_file_and_a_missing_directory_say_so(tmp_path: Path) -> None:
    (tmp_path / "nowhere.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(BlueprintError, match=r"nowhere.py: it cannot be read: No such file"):
        load_directory(tmp_path)
    with pytest.raises(BlueprintError, match=r"cannot be read: No such file.*BLUEPRINTS_DIR"):
        load_directory(tmp_path / "nowhere")


def test_a_directory_may_be_named_relatively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, one="x = 1\nraise ValueError('here')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlueprintError, match=r"error: one.py: line 2: ValueError: here"):
        load_directory(".")


def test_an_empty_directory_has_no_blueprints(tmp_path: Path) -> None:
    assert load_directory(tmp_path) == []


def test_the_hello_example_is_sound_and_says_what_it_takes() -> None:
    hello = {one.name: one for one in load_directory(EXAMPLES)}["hello"]
    assert hello.path == "/api/v1/jobs/hello"
    assert (hello.input_schema or {})["properties"] == {"name": {"type": "string"}}
    assert list(hello.states) == ["start", "greeted"]


def test_a_file_that_another_user_may_have_written_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, bad="raise SystemExit('it ran')")
    bad = tmp_path.resolve() / "bad.py"
    bad.chmod(0o666)
    with pytest.raises(BlueprintError, match=f"chmod o-w {bad}$"):
        load_directory(tmp_path.resolve())
    bad.chmod(0o644)
    with monkeypatch.context() as patched:
        owned_by_another(patched, bad)
        with pytest.raises(BlueprintError, match=r"bad\.py belongs to another user"):
            load_directory(tmp_path.resolve())
    for folder in (tmp_path.resolve(), tmp_path.resolve() / "__pycache__"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        with pytest.raises(BlueprintError, match=f"chmod o-w {folder}"):
            load_directory(tmp_path.resolve())
        folder.chmod(0o755)
    (tmp_path / "bad.py").write_text(GOOD.replace("NAME", "good"))
    tmp_path.chmod(0o777)
    assert [one.name for one in load_directory(tmp_path, mounted=True)] == ["good"]
    # A file that is named alone may be where others have files as well, as in /tmp.
    tmp_path.chmod(0o1777)
    assert not examine([tmp_path / "bad.py"]).errors
