"""docs/architecture.md tells the truth: what its rooms know is what their code imports, and its files are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

import pytest

from tests.pages.source import REPOSITORY, files, nodes

PAGE = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`holon\..*?) \| .+ \| (.*?) ?\|$", PAGE, re.MULTILINE)
# By room, what the page says that it knows.
KNOWS = {
    name: known for rooms, known in ROWS for name in re.findall(r"`(?:holon\.)?(\w+)[.\w]*`", rooms) if name != "web"
}
# Any room above the domain may know these.
ANYBODYS = {"errors", "clock", "randomness", "turns"}


def room_of(module: str) -> str:
    """The room of a module of the project; empty for anything else."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "holon" else ""


@lru_cache
def imported(room: str) -> frozenset[str]:
    """The rooms that a room's code imports from, also where it does so late."""
    return frozenset(_imported(room))


def _imported(room: str) -> Iterator[str]:
    place = f"holon/{room}"
    for file in files(place if (REPOSITORY / place).is_dir() else f"{place}.py"):
        for node in nodes(file):
            if isinstance(node, ast.Import):
                yield from (room_of(name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "holon":
                yield from (name.name for name in node.names if name.name in KNOWS)
            elif isinstance(node, ast.ImportFrom):
                yield room_of(node.module or "")


def test_every_room_stands_there() -> None:
    rooms = {path.stem for path in (REPOSITORY / "holon").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert KNOWS.keys() == rooms - {"__init__", "__pycache__", "errors", "proto", "web"}


@pytest.mark.parametrize("room", KNOWS)
def test_a_room_knows_what_it_imports(room: str) -> None:
    if "below" in KNOWS[room]:
        return
    known = set(re.findall(r"`(\w+)`", KNOWS[room]))
    found = imported(room) - {"", room}
    assert found - (ANYBODYS if room != "domain" else set()) <= known
    # A row may be of several rooms.
    together = {one for other, knows in KNOWS.items() if knows == KNOWS[room] for one in imported(other)}
    assert known <= together


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:holon|tests|scripts|docs|proto)/[\w./]*)`", PAGE))))
def test_its_files_are_there(path: str) -> None:
    assert (REPOSITORY / path).exists()
