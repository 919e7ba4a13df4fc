"""docs/schedules.md tells the truth: its example can be used; its keys, limits and figures are those of the code."""

from __future__ import annotations

import ast
import re
from datetime import UTC
from pathlib import Path

from holon.domain.client import SCHEDULER
from holon.engine import scheduler, schedules_file
from holon.engine.schedules_file import read_schedules
from tests.pages.source import REPOSITORY

PAGE = (REPOSITORY / "docs/schedules.md").read_text(encoding="utf-8")


def test_its_example_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "schedules.toml"
    file.write_text(PAGE.split("```toml\n")[1].split("```")[0])
    schedules = read_schedules(str(file), UTC, 7 * 86_400.0)
    assert [str(one.timetable) for one in schedules] == [
        "daily at 02:00 (UTC)",
        "every 300 s",
        "on mon, thu at 07:30 (UTC)",
        "on the days 1, 15 of each month at 09:00 (UTC)",
    ]


def test_it_lists_every_key_and_limit() -> None:
    keys = [key for cells in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE, re.MULTILINE) for key in cells.split(", ")]
    assert {f"`{key}`" for key in schedules_file._KEYS} <= set(keys)
    assert f"1 to {schedules_file.LONGEST_INTERVAL_S}" in PAGE
    assert f"at most {schedules_file.MOST_SCHEDULES:,} schedules" in PAGE
    assert f"| {schedules_file.CATCH_UP_S:.0f}, or `JOB_RETENTION` if that is less |" in PAGE
    assert f"at most {schedules_file.LONGEST_CATCH_UP_S // 86_400} days" in PAGE
    assert f"within {scheduler.LOOK_EVERY_S:.0f} s" in PAGE
    assert f"belong to `{SCHEDULER}`" in PAGE
    assert f"`{SCHEDULER}`, `{scheduler.PLAN}`" in PAGE


def test_it_lists_what_may_become_of_a_slot() -> None:
    source = ast.parse((REPOSITORY / "holon/engine/scheduler.py").read_text(encoding="utf-8"))
    returned = {
        str(node.value.value)
        for node in ast.walk(source)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    listed = re.findall(r"^\| `(\w+)` \| [a-z]", PAGE.split("| `result` | meaning |")[1], re.MULTILINE)
    assert set(listed) == returned | {"missed"}
