"""The bench: a node that counts how many Python functions of the project it calls. It is several times slower."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from types import FrameType
from typing import Any

import holon
import holon.transports
from holon.node import run_alone
from tests.bench.node import main

_OURS = tuple(f"{path}/" for package in (holon, holon.transports) for path in package.__path__)


class Counter:
    """Counts calls of functions in `holon` and `transports`, without generated code, in all threads."""

    def __init__(self) -> None:
        self._ours: dict[str, bool] = {}
        self._by_thread: dict[int, int] = defaultdict(int)

    def begin(self) -> None:
        """Count from now on."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def total(self) -> int:
        """How many there were."""
        return sum(self._by_thread.values())

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            path = frame.f_code.co_filename
            ours = self._ours.get(path)
            if ours is None:
                ours = self._ours[path] = path.startswith(_OURS) and "_pb2" not in path
            if ours:
                self._by_thread[threading.get_ident()] += 1


if __name__ == "__main__":
    counter = Counter()
    counter.begin()
    run_alone(main(int(sys.argv[1]), counter.total))
