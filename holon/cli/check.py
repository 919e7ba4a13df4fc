"""The command line: `holon check` shows the effective settings, and what is wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import typer

from holon.cli.exits import ExitCode
from holon.cli.output import Json, safe, show_json, show_lines
from holon.errors import BlueprintError, ConfigError, Violation

if TYPE_CHECKING:
    from holon.config import Config
    from holon.domain.blueprint import Blueprint
    from holon.engine.schedules_file import Schedule


def check(as_json: Json = False) -> None:
    """Show the settings of a node started here, without secrets, and check them and their files.

    The check runs the files of BLUEPRINTS_DIR, and compares schedules with them. Exits 2 if anything is wrong.
    """
    from holon.config import Config
    from holon.node.access import client_entries
    from holon.node.admitting import read_rules

    config = Config()
    blueprints: list[Blueprint] = []
    schedules: list[Schedule] = []
    checks = (
        config.check,
        partial(client_entries, config),
        partial(read_rules, config),
        lambda: blueprints.extend(_blueprints(config)),
        lambda: schedules.extend(_schedules(config)),
    )
    found = [error for check in checks if (error := _problem(check))]
    # What only who reads the files whole knows: that the doors can serve with them, and the parent be shown them.
    if not found:
        more = (
            _load_tls,
            _check_parents,
            _check_store,
            partial(_check_jobs, schedules=schedules, blueprints=blueprints),
        )
        found += [error for check in more if (error := _problem(partial(check, config)))]
    due = _due(schedules)
    if as_json:
        wrong = [{"field": one.field, "reason": one.reason} for error in found for one in error.details]
        named = [{"name": one.name, "blueprint": one.blueprint, "next_at": at} for one, at in due]
        show_json({"settings": config.effective(), "schedules": named, "problems": wrong})
    else:
        show_lines(
            (name, str(value).lower() if isinstance(value, bool) else value)
            for name, value in config.effective().items()
        )
        for one, at in due:
            print(safe(f"schedule {one.name}: {one.blueprint}, {one.timetable}, next at {at}"))
        for error in found:
            print(f"\n{safe(error.message)}", file=sys.stderr)
    if found:
        raise typer.Exit(ExitCode.USAGE)


def _load_tls(config: Config) -> None:
    from holon.clock import SystemClock
    from holon.node.settings import tls_paths
    from holon.security.tls import load_server_credentials

    if config.tls:
        load_server_credentials(tls_paths(config), SystemClock().now_ms())


def _check_parents(config: Config) -> None:
    from holon.clock import SystemClock
    from holon.node.settings import parent_tls_paths
    from holon.security.tls import check_parent_files

    check_parent_files(parent_tls_paths(config), SystemClock().now_ms())


def _check_store(config: Config) -> None:
    """Raises ConfigError for a file that a node would refuse; it may be a running node's."""
    from holon.config import StorageURI
    from holon.stores.sqlite_file import check_file

    if (file := StorageURI.parse(config.STORAGE_URI).path) is not None:
        check_file(file)


def _blueprints(config: Config) -> Sequence[Blueprint]:
    """Those of BLUEPRINTS_DIR; raises ConfigError."""
    from holon.config.places import folder_problem
    from holon.domain.integrity import missing
    from holon.engine.blueprints import lacks_files
    from holon.engine.loader import examine_directory

    folder = config.BLUEPRINTS_DIR
    # One that is not there is a wrong setting, which is told already.
    if not folder or folder_problem(folder):
        return ()
    try:
        report = examine_directory(folder, mounted=config.SECRETS_MOUNTED)
    except BlueprintError as error:
        raise ConfigError(error.message, details=[Violation("BLUEPRINTS_DIR", error.message)]) from error
    errors = [str(one).removeprefix("error: ") for one in report.errors]
    if not config.keeps_files:
        errors += [f"{file}: {reason}" for file, one in report.blueprints if (reason := lacks_files(one))]
    # `holon serve` has no others: what is a warning elsewhere keeps that from starting.
    by_name = {one.name: one for _, one in report.blueprints}
    errors += [
        f"{file}: blueprint {one.name}: {problem.message}"
        for file, one in report.blueprints
        for problem in missing(one, by_name.get)
    ]
    if errors:
        lines = "\n".join(f"  {one}" for one in errors)
        raise ConfigError(
            f"the blueprints in BLUEPRINTS_DIR have {len(errors)} error{'s' * (len(errors) > 1)}; correct them and "
            f"start again:\n{lines}",
            details=[Violation("BLUEPRINTS_DIR", one) for one in errors],
        )
    return [blueprint for _, blueprint in report.blueprints]


def _schedules(config: Config) -> Sequence[Schedule]:
    """Those of SCHEDULES_CONFIG_PATH; raises ConfigError."""
    from holon.config.rules import is_zone
    from holon.node.scheduling import schedules_of

    # One that is not known is a wrong setting, which is told already.
    return schedules_of(config) if is_zone(config.TZ) else ()


def _check_jobs(config: Config, schedules: Sequence[Schedule], blueprints: Sequence[Blueprint]) -> None:
    from holon.engine.blueprints import Blueprints
    from holon.engine.contracts import Contracts
    from holon.engine.inputs import Inputs
    from holon.engine.scheduler import asked_of
    from holon.node.scheduling import check_jobs

    if not config.BLUEPRINTS_DIR:
        # A program has its blueprints in its own code.
        return
    contracts = Contracts()
    known, inputs = Blueprints(contracts), Inputs(contracts, config.INLINE_PAYLOAD_MAX_BYTES)
    known.register_all(blueprints)
    check_jobs(config, schedules, lambda one: inputs.check_now(asked_of(one, 0), *known.for_jobs(one.blueprint)))


def _due(schedules: Sequence[Schedule]) -> list[tuple[Schedule, str]]:
    """Schedules, each with when it is due next, for people."""
    from holon.clock import SystemClock
    from holon.engine.timetable import said

    now = SystemClock().now_ms()
    return [(one, said(one.timetable, one.timetable.next(now))) for one in schedules]


def _problem(check: Callable[[], object]) -> ConfigError | None:
    try:
        check()
    except ConfigError as error:
        return error
    return None
