"""The page on concepts: its program runs and prints what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.cli_node import environment

PAGE = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text(encoding="utf-8")


def test_the_program_prints_the_history_on_the_page(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (printed,) = re.findall(r"^```\n(job_created.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "one_job.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "one_job.py"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.rstrip() for line in done.stdout.splitlines()] == printed.splitlines()


def test_each_noun_of_the_table_has_a_section() -> None:
    nouns = re.findall(r"^\| \[(\w+)\]\(#\1\) \|", PAGE, re.MULTILINE)
    sections = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert len(nouns) == 7
    assert [section.lower() for section in sections] == nouns
