"""The census's worker: parses Python files and counts what is in them.

    holon worker run blueprints.workers.census:worker

With CENSUS_LOG it appends a line to that file before it begins a task and before it gives its result.
"""

from __future__ import annotations

import ast
import heapq
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from holon.worker import Cancelled, Progress, Worker

LONGEST_KEPT = 10

# What is odd in the files that are counted is no news of ours.
warnings.filterwarnings("ignore", category=SyntaxWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning, module="<unknown>")

worker = Worker(max_concurrent=4)


class Function(TypedDict):
    """A function, and how many lines it takes."""

    name: str
    file: str
    line: int
    lines: int


class Broken(TypedDict):
    """A file that is no Python source, or cannot be read."""

    file: str
    reason: str


class Count(TypedDict):
    """What is in some files. `modules` says how many files import each top-level module."""

    totals: dict[str, int]
    modules: dict[str, int]
    longest: list[Function]
    broken: list[Broken]


@worker.skill
def count_source(
    folder: str, paths: list[str], task_id: str, attempt: int, progress: Progress, cancelled: Cancelled
) -> Count:
    """Count some files of a folder; `paths` are inside it."""
    _log("began", task_id, attempt)
    counted = Counting(folder)
    for number, path in enumerate(paths, start=1):
        if cancelled:
            break  # what is returned now is for nobody
        counted.add(path)
        progress(100 * number / len(paths))
    _log("ended", task_id, attempt)
    return counted.result()


class Counting:
    """A count that files are added to.

    Arguments:
        folder: where their paths begin.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._totals = Counter(files=0, bytes=0, lines=0, functions=0, classes=0, imports=0)
        self._modules: Counter[str] = Counter()
        self._longest: list[Function] = []
        self._broken: list[Broken] = []

    def add(self, file: str) -> None:
        """Count one more file; whatever is wrong with it is counted as well."""
        self._totals["files"] += 1
        try:
            source = (self._folder / file).read_bytes()
        except OSError as error:
            self._broken.append({"file": file, "reason": f"cannot be read: {error.strerror}"})
            return
        self._totals["bytes"] += len(source)
        self._totals["lines"] += len(source.splitlines())
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            self._broken.append({"file": file, "reason": f"line {error.lineno or 1}: {error.msg}"})
        except (ValueError, RecursionError, MemoryError) as error:
            self._broken.append({"file": file, "reason": str(error) or type(error).__name__})
        else:
            self._add_tree(file, tree)

    def result(self) -> Count:
        """What was counted so far."""
        return {
            "totals": dict(self._totals),
            "modules": dict(self._modules),
            "longest": self._longest,
            "broken": self._broken,
        }

    def _add_tree(self, file: str, tree: ast.Module) -> None:
        functions: list[Function] = []
        modules: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                functions.append({"name": node.name, "file": file, "line": node.lineno, "lines": lines})
            elif isinstance(node, ast.ClassDef):
                self._totals["classes"] += 1
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._totals["imports"] += 1
                modules.update(_modules(node))
        self._totals["functions"] += len(functions)
        self._modules.update(modules)
        self._longest = _longest([*self._longest, *functions])


def _longest(functions: Sequence[Function]) -> list[Function]:
    return heapq.nsmallest(LONGEST_KEPT, functions, key=lambda one: (-one["lines"], one["file"], one["line"]))


def _modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The top-level modules that a statement imports; none for one that is relative."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0]
    elif node.module and not node.level:
        yield node.module.partition(".")[0]


def _log(what: str, task_id: str, attempt: int) -> None:
    path = os.environ.get("CENSUS_LOG")
    if path:
        # One unbuffered write at the end of the file: it is there even when the process is killed right after.
        with Path(path).open("ab", buffering=0) as file:
            file.write(f"{what} {task_id} {attempt}\n".encode())
