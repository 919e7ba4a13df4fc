"""The pages tell the truth of the tests: each file that one names is there, or in the project of `holon init`."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "holon/cli/template"
# `tests/unit/test_errors.py`, `tests/fuzz`, or by its name alone, which may stand for several: `test_bad_*`.
NAMED = re.compile(r"`(?:(tests/[\w/.*]+)|(test_\w*\*|test_[\w*]+\.py))`")
PAGES = {
    str(page.relative_to(ROOT)): NAMED.findall(page.read_text(encoding="utf-8"))
    for page in sorted(chain(ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md")))
}


@pytest.mark.parametrize("page", [page for page, named in PAGES.items() if named])
def test_the_tests_that_a_page_names_are_there(page: str) -> None:
    for path, name in PAGES[page]:
        places = (ROOT.glob(path), TEMPLATE.glob(path)) if path else ((ROOT / "tests").rglob(name),)
        assert list(chain.from_iterable(places)), path or name
