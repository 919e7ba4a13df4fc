"""Census: what is in a folder of Python source. Workers count the files, in chunks side by side; this adds up.

Node and workers see the same folder at the same path. `blueprints/workers/census.py` is the worker.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

CHUNKS = 120
LONGEST_SHOWN = 10
MODULES_SHOWN = 20
BROKEN_SHOWN = 100

# Packages of others inside a library are not a part of it.
FOREIGN_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages"})

bp = Blueprint("census", api_version="v1", api_endpoint="/jobs/census")


@dataclass
class Request:
    """What a client sends: the absolute path of a folder, as the node and its workers see it."""

    folder: str


@bp.handler(is_start=True)
async def start(initial_data: Request, state_history: dict[str, Any], actions: ActionFactory) -> None:
    """List the files and give every chunk of them to a worker."""
    try:
        # Listing waits for a disk, so it has a thread: the node runs other jobs meanwhile.
        chunks = await asyncio.to_thread(list_chunks, initial_data.folder)
    except OSError as error:
        state_history["reason"] = f"{initial_data.folder} cannot be listed: {error.strerror}"
        actions.go_to("failed")
        return
    if not chunks:
        state_history["reason"] = f"{initial_data.folder} holds no Python file"
        actions.go_to("failed")
        return
    actions.dispatch_parallel(
        [{"task_type": "count_source", "params": {"folder": initial_data.folder, "paths": paths}} for paths in chunks],
        aggregate_into="add_up",
    )


@bp.aggregator
async def add_up(aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
    """Make one report of what the workers counted."""
    branches = aggregation_results.values()
    for branch in branches:
        if branch["status"] != "success":
            state_history["reason"] = f"task {branch['task_id']} ended {branch['status']}: {branch['error']}"
            actions.go_to("failed")
            return
    state_history["report"] = make_report(branch["data"] for branch in branches)
    actions.go_to("done")


@bp.handler(is_end=True)
async def done(report: dict[str, Any]) -> dict[str, Any]:
    """The report is the job's result."""
    return report


@bp.handler(is_end=True)
async def failed(reason: str) -> dict[str, str]:
    """Why there is no report."""
    return {"reason": reason}


def list_chunks(folder: str, chunks: int = CHUNKS) -> list[list[str]]:
    """Return the Python files under a folder, by their paths inside it, in chunks of about the same number of bytes.

    Hidden folders, packages of others and links to folders are left out, and so are names that JSON cannot hold.

    Arguments:
        chunks: how many at most.
    Raises:
        OSError: the folder cannot be listed.
    """
    sizes = dict(_list_files(folder))
    total = sum(sizes.values())
    found: list[list[str]] = []
    room = 0
    for file, size in sorted(sizes.items()):
        # What one chunk takes more than its share the next has less, so that there are never more than asked for.
        if room <= 0:
            found.append([])
            room += total
        found[-1].append(file)
        room -= size * chunks
    return found


def make_report(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of some counts, as the worker's skill makes them. It does not depend on how they were divided."""
    totals: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    longest: list[Mapping[str, Any]] = []
    broken: list[Mapping[str, Any]] = []
    for count in counts:
        totals.update(count["totals"])
        modules.update(count["modules"])
        longest.extend(count["longest"])
        broken.extend(count["broken"])
    longest.sort(key=lambda one: (-one["lines"], one["file"], one["line"]))
    broken.sort(key=lambda one: one["file"])
    by_use = sorted(modules.items(), key=lambda item: (-item[1], item[0]))
    return {
        "totals": {**totals, "modules": len(modules), "broken": len(broken)},
        "longest_functions": longest[:LONGEST_SHOWN],
        "most_imported": [{"module": module, "files": files} for module, files in by_use[:MODULES_SHOWN]],
        "broken_files": broken[:BROKEN_SHOWN],
    }


def _list_files(folder: str) -> Iterable[tuple[str, int]]:
    """Every file, with what it costs: its size in bytes, and one more for the file itself."""
    os.scandir(folder).close()  # os.walk passes over a folder that it cannot read, also when it is the first
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in FOREIGN_FOLDERS and not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if path.suffix == ".py" and path.is_file() and _is_text(str(path)):
                yield str(path.relative_to(folder)), path.stat().st_size + 1


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
