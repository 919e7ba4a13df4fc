"""The command line: `holon webhooks` shows what webhooks are signed with."""

from __future__ import annotations

import typer

from holon.cli.connection import with_client
from holon.cli.output import Json, safe, show_json

app = typer.Typer(help="Webhooks of a node.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def secret(as_json: Json = False) -> None:
    """Show the secret that signs the webhooks, for their receivers. Needs an administrator, or ADMIN_SOCKET.

    A node with WEBHOOK_SECRET does not show it.
    """
    found = with_client(lambda client: client.node.webhook_secret())
    if as_json:
        show_json({"secret": found})
    else:
        print(safe(found))
