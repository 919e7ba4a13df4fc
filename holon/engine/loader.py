"""The loader: blueprints from files, with everything that is wrong with all of them in one report."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from holon.domain import integrity
from holon.domain.blueprint import Blueprint
from holon.domain.integrity import Problem
from holon.domain.paths import is_nodes_own
from holon.errors import BlueprintError
from holon.files import trust_problem

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One problem, and the file and blueprint that it is in; `blueprint` is None when the file itself is at fault."""

    file: Path
    blueprint: str | None
    problem: Problem

    def __str__(self) -> str:
        whose = f": blueprint {self.blueprint}" if self.blueprint else ""
        return f"{self.problem.severity}: {self.file}{whose}: {self.problem.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in some files: blueprints, each with its file, and problems in the order of the files."""

    blueprints: tuple[tuple[Path, Blueprint], ...]
    problems: tuple[FileProblem, ...]

    @property
    def errors(self) -> tuple[FileProblem, ...]:
        """The problems that keep the blueprints from being used."""
        return tuple(one for one in self.problems if one.problem.severity == "error")

    @property
    def warnings(self) -> tuple[FileProblem, ...]:
        """The problems that are for the author to judge."""
        return tuple(one for one in self.problems if one.problem.severity == "warning")


def load_directory(path: Path | str, *, mounted: bool = False) -> list[Blueprint]:
    """Import the blueprints of a directory: every `*.py` at its top but those whose names begin with `_`.

    The files are run. Warnings of files are logged; those of a blueprint are when it is registered.

    Arguments:
        mounted: as of `trust_problem`.
    Returns:
        the blueprints, in order of file name and definition.
    Raises:
        BlueprintError: anything is wrong with any file; its message lists all of it, and no blueprint is returned.
    """
    return _sound(examine_directory(path, mounted=mounted))


def examine_directory(path: Path | str, *, mounted: bool = False) -> Report:
    """As `load_directory`, but with every problem told and nothing raised for it.

    Raises:
        BlueprintError: (BLUEPRINTS_UNREADABLE) the directory cannot be listed, or another user could change what is
            in it.
    """
    for folder in (str(path), str(Path(path, "__pycache__"))):
        if problem := trust_problem(folder, mounted=mounted):
            raise BlueprintError(problem, code="BLUEPRINTS_UNREADABLE")
    try:
        files = sorted(one for one in Path(path).iterdir() if one.suffix == ".py" and not one.name.startswith("_"))
    except OSError as error:
        raise BlueprintError(
            f"the blueprints directory {path} cannot be read: {error.strerror}; check BLUEPRINTS_DIR",
            code="BLUEPRINTS_UNREADABLE",
        ) from error
    return examine(files, mounted=mounted)


def examine(files: Iterable[Path], *, mounted: bool = False) -> Report:
    """Import files and check every blueprint in them, alone and beside the others.

    One that another user could have written is not run.

    Arguments:
        mounted: as of `trust_problem`.
    """
    found: list[tuple[Path, Blueprint]] = []
    problems: list[FileProblem] = []
    for file in files:
        try:
            if problem := trust_problem(str(file), mounted=mounted):
                raise BlueprintError(problem)
            module = _import(file)
        except BlueprintError as error:
            problems.append(FileProblem(file, None, Problem("error", None, error.message)))
            continue
        fresh = _blueprints(module, known={id(blueprint) for _, blueprint in found})
        if not fresh:
            problems.append(
                FileProblem(file, None, Problem("warning", None, "it defines no Blueprint at its top level"))
            )
        for blueprint in fresh:
            problems.extend(FileProblem(file, blueprint.name, one) for one in integrity.check(blueprint))
            if clash := _clash(blueprint, found):
                problems.append(FileProblem(file, blueprint.name, clash))
            found.append((file, blueprint))
    by_name = {blueprint.name: blueprint for _, blueprint in found}
    for file, blueprint in found:
        for one in integrity.missing(blueprint, by_name.get):
            # A node may have it all the same, of a program or of another folder: it is an error at its start.
            text = f"{one.message} here; a node without it does not start"
            problems.append(FileProblem(file, blueprint.name, Problem("warning", one.state, text)))
    return Report(tuple(found), tuple(problems))


def _import(file: Path) -> ModuleType:
    """Run a file as a module under a name of its own, so that no two files and no installed package can clash."""
    try:
        digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    except UnicodeEncodeError as error:
        raise BlueprintError("its path is not UTF-8; rename the file or its folder") from error
    name = f"_holon_blueprints_{digest}_{file.stem}"
    loader = _SourceLoader(name, str(file.absolute()))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None:
        raise BlueprintError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    # Dataclasses and type hints look their module up while it is being run.
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if before is not None:
            sys.modules[name] = before
        else:
            del sys.modules[name]
        raise BlueprintError(reason_of(spec.origin or str(file), error)) from error
    return module


class _SourceLoader(SourceFileLoader):
    """Compiles a file each time: what is cached would be taken for a file that was edited in the same second."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"nothing is cached of {path}")


def reason_of(origin: str, error: BaseException) -> str:
    """What went wrong while a file was run, with the line of the file itself."""
    if isinstance(error, OSError) and error.filename == origin:
        return f"it cannot be read: {error.strerror}"
    if isinstance(error, SyntaxError) and error.filename == origin:
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == origin]
    where = f"line {lines[-1]}: " if lines else ""
    return where + (error.message if isinstance(error, BlueprintError) else f"{type(error).__name__}: {error}")


def _blueprints(module: ModuleType, known: set[int]) -> list[Blueprint]:
    fresh: dict[int, Blueprint] = {}
    for value in vars(module).values():
        if isinstance(value, Blueprint) and id(value) not in known:
            fresh.setdefault(id(value), value)
    return list(fresh.values())


def _clash(blueprint: Blueprint, found: list[tuple[Path, Blueprint]]) -> Problem | None:
    if blueprint.path and is_nodes_own(blueprint.path):
        return Problem("error", None, f"the path {blueprint.path} is used by the node itself; use another api_endpoint")
    for file, other in found:
        if other.name == blueprint.name:
            return Problem("error", None, f"the name {blueprint.name!r} is already taken by {file}")
        if blueprint.path and other.path == blueprint.path:
            text = f"the path {blueprint.path} is already taken by blueprint {other.name!r} in {file}"
            return Problem("error", None, text)
    return None


def _sound(report: Report) -> list[Blueprint]:
    for one in report.warnings:
        # Those of a blueprint are logged where it is registered.
        if one.blueprint is None:
            logger.warning("%s: %s", one.file, one.problem.message)
    if report.errors:
        count = len(report.errors)
        lines = "\n".join(f"  {one}" for one in report.errors)
        raise BlueprintError(f"the blueprints have {count} error{'s' * (count > 1)}; correct them and reload:\n{lines}")
    return [blueprint for _, blueprint in report.blueprints]
