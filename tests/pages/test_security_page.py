"""docs/SECURITY.md tells the truth: every test that it names exists, and every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holon.config.settings import table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/SECURITY.md").read_text(encoding="utf-8")
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
# Of a worker of the SDK, or of a client; not of a node.
OTHERS = {"HOLON_CA"}
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for part in PAGE.split("| attack | control | setting | test |\n|---|---|---|---|\n")[1:]
    for line in part.split("\n\n")[0].splitlines()
]


def test_there_are_attacks_of_every_kind() -> None:
    assert len(ROWS) >= 40
    assert len({attack for attack, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_an_attack_has_its_control_and_tests_that_exist(row: list[str]) -> None:
    _, control, setting, tests = row
    named = re.findall(r"`(\w+)`", tests)
    assert control
    assert named
    assert set(named) <= TESTS
    assert set(re.findall(r"`(\w+)`", setting)) <= table().keys()


def test_every_name_on_the_page_is_one_of_a_test_or_a_setting() -> None:
    names = set(re.findall(r"`(test_\w+|[A-Z][A-Z0-9_]{4,})(?:=[^`]*)?`", PAGE))
    assert names - OTHERS <= TESTS | table().keys()
