"""The command line: `holon blueprints` looks at blueprint files, and at the blueprints of a node."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holon.cli.connection import NAMED, named_node, with_client
from holon.cli.dev import BLUEPRINTS
from holon.cli.output import Json, safe, show_json, show_table
from holon.errors import ConfigError, HolonError

if TYPE_CHECKING:
    from holon.client import BlueprintInfo, Client

app = typer.Typer(help=f"Blueprints in files and on a node. {NAMED}", no_args_is_help=True)


@app.command()
def check(
    path: Annotated[
        str | None,
        typer.Argument(metavar="PATH", help="A file or a folder.", show_default="BLUEPRINTS_DIR, else ./blueprints"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check blueprints as a node does at its start. Exits 1 if one has an error.

    The check runs the files. If a node is set, transitions are compared with the statuses that its workers declare.
    """
    from holon.config import Config
    from holon.domain.integrity import branching_tasks, unknown_statuses
    from holon.engine.loader import FileProblem, examine, examine_directory

    named = _by_default() if path is None else path
    if not named:
        # As a path it would be the folder that this runs in, whose files would run.
        raise ConfigError("PATH is empty; give a file or a folder, or leave it out")
    where = Path(named)
    # False also where it may not be looked at, which the other says then.
    is_file = os.path.isfile(where)  # noqa: PTH113  a path's own raises that
    mounted = Config().SECRETS_MOUNTED
    report = examine([where], mounted=mounted) if is_file else examine_directory(where, mounted=mounted)
    declared = _declared()
    found_too = [
        FileProblem(file, blueprint.name, problem)
        for file, blueprint in report.blueprints
        for task in branching_tasks(blueprint)
        for problem in unknown_statuses(task, (declared or {}).get(task.skill, ())).values()
    ]
    report = replace(report, problems=(*report.problems, *found_too))
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
        known = None if declared is None else sorted(declared)
        show_json({"blueprints": found, "problems": problems, "known_skills": known})
    else:
        for problem in report.problems:
            print(safe(problem))
        if declared is not None:
            skills = ", ".join(declared) or "none"
            print(safe(f"compared with the statuses of the skills of connected workers: {skills}"))
        counts = (len(report.blueprints), len(report.errors), len(report.warnings))
        print("blueprints: {}, errors: {}, warnings: {}".format(*counts))
    if report.errors:
        raise typer.Exit(1)


def _declared() -> dict[str, list[frozenset[str]]] | None:
    """By skill, the statuses that the offerings of the named node's workers declare, of each; None: not known."""

    async def go(client: Client) -> dict[str, list[frozenset[str]]]:
        declared: dict[str, list[frozenset[str]]] = {}
        async for one in client.node.list_skills():
            declared.setdefault(one.name, []).append(frozenset(one.statuses))
        return declared

    try:
        return None if named_node() is None else with_client(go)
    except HolonError as error:
        print(
            safe(f"holon: transitions are not compared with the statuses of workers: {error.message}"), file=sys.stderr
        )
        return None


def _by_default() -> str:
    """The folder of blueprints that `holon serve --dev` would take here."""
    if named := os.environ.get("BLUEPRINTS_DIR"):
        return named
    if BLUEPRINTS.is_dir():
        return str(BLUEPRINTS)
    raise ConfigError(f"there is no folder ./{BLUEPRINTS}; give a file or a folder, or set BLUEPRINTS_DIR")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the blueprints of a node."""

    async def go(client: Client) -> list[BlueprintInfo]:
        return [one async for one in client.node.list_blueprints()]

    found = with_client(go)
    if as_json:
        blueprints = [
            {
                "name": one.name,
                "api_endpoint": one.api_endpoint,
                "api_version": one.api_version,
                "input_schema": one.input_schema,
                "output_schema": one.output_schema,
                "price": one.price,
            }
            for one in found
        ]
        show_json({"blueprints": blueprints, "next_page_token": ""})
    else:
        show_table(("NAME", "PATH"), ((one.name, one.api_endpoint) for one in found))


@app.command()
def graph(
    name: Annotated[str, typer.Argument(metavar="BLUEPRINT", help="Name of the blueprint.")], as_json: Json = False
) -> None:
    """Print the states and transitions of a blueprint as a graph in the DOT language.

    With Graphviz, `holon blueprints graph NAME | dot -Tsvg > graph.svg` draws it.
    """
    found = with_client(lambda client: client.node.get_blueprint(name))
    if as_json:
        show_json({"name": found.name, "graph": found.graph})
    elif found.graph is not None:
        print(safe(found.graph.dot), end="")
