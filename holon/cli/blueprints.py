"""The command line: `holon blueprints` looks at blueprint files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from holon.cli.output import Json, safe, show_json
from holon.errors import ConfigError

app = typer.Typer(help="Blueprints.", no_args_is_help=True)


@app.callback()
def _blueprints() -> None:
    pass


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(exists=True, help="A file or a folder of them; BLUEPRINTS_DIR by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check blueprints as a node does at its start. Runs the files. Exits 1 when one has an error."""
    from holon.engine.loader import examine, examine_directory

    if path is None:
        if not os.environ.get("BLUEPRINTS_DIR"):
            raise ConfigError("no blueprints are named: give a file or a folder, or set BLUEPRINTS_DIR")
        path = Path(os.environ["BLUEPRINTS_DIR"])
    report = examine([path]) if path.is_file() else examine_directory(path)
    if as_json:
        found = [
            {"name": blueprint.name, "path": blueprint.path, "states": list(blueprint.states), "file": str(file)}
            for file, blueprint in report.blueprints
        ]
        problems = [
            {
                "severity": one.problem.severity,
                "file": str(one.file),
                "blueprint": one.blueprint,
                "state": one.problem.state,
                "message": one.problem.message,
            }
            for one in report.problems
        ]
        show_json({"blueprints": found, "problems": problems})
    else:
        for problem in report.problems:
            print(safe(problem))
        counts = (len(report.blueprints), len(report.errors), len(report.warnings))
        print("{} blueprints, {} errors, {} warnings".format(*counts))
    if report.errors:
        raise typer.Exit(1)
