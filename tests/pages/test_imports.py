"""What the pages import, readers can import."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(one for one in (ROOT / "docs").rglob("*.md") if "node_modules" not in one.parts)]
IMPORT = re.compile(r"\bfrom holon[\w.]* import [\w, ]*\w")
FOUND = {statement for page in PAGES for statement in IMPORT.findall(page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("statement", sorted(FOUND))
def test_every_import_on_a_page_can_be_made(statement: str) -> None:
    exec(statement, {})
