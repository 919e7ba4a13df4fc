"""The command line: the tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from holon.cli import (
    blueprints,
    certs,
    check,
    init,
    jobs,
    keys,
    proto,
    reload,
    serve,
    tokens,
    uplink,
    webhooks,
    worker,
    workers,
)

app = typer.Typer(
    help="A durable workflow node: blueprints decide what happens next, workers do the tasks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.add_typer(worker.app, name="worker")
app.add_typer(workers.app, name="workers")
app.add_typer(uplink.app, name="uplink")
app.add_typer(jobs.app, name="jobs")
app.add_typer(blueprints.app, name="blueprints")
app.add_typer(certs.app, name="certs")
app.add_typer(tokens.app, name="tokens")
app.add_typer(keys.app, name="keys")
app.add_typer(proto.app, name="proto")
app.add_typer(webhooks.app, name="webhooks")
app.command("reload")(reload.reload)
app.command("check")(check.check)


def _version(wanted: bool) -> None:
    if wanted:
        from holon import __version__

        print(f"holon {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # its callback has used it
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass
