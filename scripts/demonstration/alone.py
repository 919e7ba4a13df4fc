"""The demo: the same count by one process and without any node, to compare with. Writes the report to a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from blueprints.census import list_chunks, make_report
from blueprints.workers.census import Counting


def main(folder: str, output: str) -> None:
    """Count a folder."""
    counting = Counting(folder)
    for chunk in list_chunks(folder):
        for path in chunk:
            counting.add(path)
    Path(output).write_text(json.dumps(make_report([counting.result()])), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
