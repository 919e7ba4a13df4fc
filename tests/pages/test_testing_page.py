"""docs/testing.md: its examples are files that pytest runs, and its tables say what the kit has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from holon.testing import WAITS
from tests.e2e.cli_node import GUARD
from tests.pages.source import REPOSITORY

PAGE = (REPOSITORY / "docs/testing.md").read_text(encoding="utf-8")
BLUEPRINT, *TESTS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", TESTS, ids=[f"example {number}" for number in range(len(TESTS))])
def test_an_example_passes(text: str, tmp_path: Path) -> None:
    (tmp_path / "greet.py").write_text(BLUEPRINT, encoding="utf-8")
    (tmp_path / "test_greet.py").write_text(text, encoding="utf-8")
    settings = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{text.count('async def test_')} passed" in ran.stdout


def test_the_settings_of_the_kit_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| ([0-9., ]+) \|$", PAGE, re.MULTILINE)
    said: dict[str, float] = {}
    for names, values in rows:
        every = re.findall(r"`([A-Z_]+)`", names)
        numbers = [float(one) for one in values.split(", ")]
        said |= dict(zip(every, numbers * (len(every) // len(numbers)), strict=True))
    assert said == WAITS
