"""The command line: `holon check` shows the effective settings, and what is wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import typer

from holon.cli.exits import ExitCode
from holon.cli.output import Json, safe, show_json, show_lines
from holon.errors import BlueprintError, ConfigError, Violation

if TYPE_CHECKING:
    from holon.config import Config


def check(as_json: Json = False) -> None:
    """Show the settings that a node would have here, secrets hidden, and check them and the files that they name.

    Runs the files of BLUEPRINTS_DIR, as a start does. Exits 2 when anything is wrong.
    """
    from holon.config import Config
    from holon.node.access import client_entries
    from holon.node.admitting import read_rules

    config = Config()
    checks = (
        config.check,
        partial(client_entries, config),
        partial(read_rules, config),
        partial(_check_blueprints, config),
    )
    found = [error for check in checks if (error := _problem(check))]
    # What only who reads the files whole knows: that the doors can serve with them, and the parent be shown them.
    if not found:
        found += [error for check in (_load_tls, _check_parents) if (error := _problem(partial(check, config)))]
    if as_json:
        wrong = [{"field": one.field, "reason": one.reason} for error in found for one in error.details]
        show_json({"settings": config.effective(), "problems": wrong})
    else:
        show_lines(
            (name, str(value).lower() if isinstance(value, bool) else value)
            for name, value in config.effective().items()
        )
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


def _check_blueprints(config: Config) -> None:
    from holon.config.places import folder_problem
    from holon.engine.loader import examine_directory

    folder = config.BLUEPRINTS_DIR
    # One that is not there is a wrong setting, which is told already.
    if not folder or folder_problem(folder):
        return
    try:
        errors = [str(one).removeprefix("error: ") for one in examine_directory(folder).errors]
    except BlueprintError as error:
        raise ConfigError(error.message, details=[Violation("BLUEPRINTS_DIR", error.message)]) from error
    if errors:
        lines = "\n".join(f"  {one}" for one in errors)
        raise ConfigError(
            f"the blueprints of BLUEPRINTS_DIR have {len(errors)} error{'s' * (len(errors) > 1)}; correct them and "
            f"start again:\n{lines}",
            details=[Violation("BLUEPRINTS_DIR", one) for one in errors],
        )


def _problem(check: Callable[[], object]) -> ConfigError | None:
    try:
        check()
    except ConfigError as error:
        return error
    return None
