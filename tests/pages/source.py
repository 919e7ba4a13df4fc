"""The source of the project, for tests that hold a page or a rule against it: a process parses each file once."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


@cache
def files(*rooms: str) -> tuple[Path, ...]:
    """The files of rooms.

    Arguments:
        rooms: folders, or single files, from the project's root.
    """
    places = [REPOSITORY / room for room in rooms]
    return tuple(file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py"))))


@cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's syntax; the module is the first."""
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
