"""The command line: `holon check` shows the effective settings, and what is wrong with them."""

from __future__ import annotations

import sys

import typer

from holon.cli.exits import ExitCode
from holon.cli.output import Json, safe, show_json, show_lines
from holon.errors import ConfigError


def check(as_json: Json = False) -> None:
    """Show the settings that a node would have here, secrets hidden, and check them. Exits 2 when any is wrong."""
    from holon.clock import SystemClock
    from holon.config import Config
    from holon.node.settings import tls_paths
    from holon.security.tls import load_server_credentials

    config = Config()
    problem: ConfigError | None = None
    try:
        config.check()
        if config.tls:
            # What only the doors know: that all of them can serve with the files.
            load_server_credentials(tls_paths(config), SystemClock().now_ms())
    except ConfigError as error:
        problem = error
    if as_json:
        wrong = [{"field": one.field, "reason": one.reason} for one in problem.details] if problem else []
        show_json({"settings": config.effective(), "problems": wrong})
    else:
        show_lines(
            (name, str(value).lower() if isinstance(value, bool) else value)
            for name, value in config.effective().items()
        )
        if problem:
            print(f"\n{safe(problem.message)}", file=sys.stderr)
    if problem:
        raise typer.Exit(ExitCode.USAGE)
