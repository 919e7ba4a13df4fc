"""Chaos: what workers and clients write down for the checker, in files that are only added to."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

FILES = "*.notes"


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that a process saw or did.

    Attributes:
        at: epoch milliseconds, by this machine's own clock.
        by: the worker or client.
        what: which kind of thing it was.
        facts: the rest.
    """

    at: int
    by: str
    what: str
    facts: dict[str, Any]


class Notebook:
    """Writes notes; one that was written outlives the process, whatever kills it. Safe from any thread."""

    def __init__(self, folder: Path, by: str) -> None:
        self._by = by
        self._file = os.open(folder / f"{by}.notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, **facts: Any) -> None:
        """Add a note."""
        line = {"at": time.time_ns() // 1_000_000, "by": self._by, "what": what, **facts}
        os.write(self._file, orjson.dumps(line) + b"\n")


def read(path: Path) -> list[Note]:
    """The notes of one file, in their order. A last line that its writer's death cut short is left out."""
    if not path.exists():
        return []
    notes = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        facts = orjson.loads(line)
        notes.append(Note(facts.pop("at"), facts.pop("by"), facts.pop("what"), facts))
    return notes
