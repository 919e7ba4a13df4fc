"""The command line: `holon uplink`: the holons above and below the node's own."""

from __future__ import annotations

from typing import Annotated

import typer

from holon.cli.connection import NAMED, with_client
from holon.cli.output import Json, safe, show_json
from holon.errors import InvalidArgument

app = typer.Typer(help=f"The holons above and below this one. {NAMED}", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def accept(
    worker: Annotated[
        str | None, typer.Argument(metavar="WORKER", help="The child, by its worker id; else the parent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let another holon come in the place of the one that is known: its store was replaced, and that was meant."""
    if worker == "":
        # For a node it would be the parent, and whom it trusts is not for a variable that is unset to say.
        raise InvalidArgument("WORKER names no child; name one, or leave it out for the parent")
    known = with_client(lambda client: client.node.accept_holon(worker or ""))
    if as_json:
        show_json({"holon_id": known})
    else:
        print(f"{safe(worker or 'the parent')} was holon {safe(known)}; the next that comes in its place is taken")
