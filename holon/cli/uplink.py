"""The command line: `holon uplink`: the holons above and below the node's own."""

from __future__ import annotations

from typing import Annotated

import typer

from holon.cli.connection import NAMED, with_client
from holon.cli.output import Json, safe, show_json
from holon.errors import InvalidArgument

app = typer.Typer(help=f"The parent and the children of a holon. {NAMED}", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def accept(
    worker: Annotated[
        str | None, typer.Argument(metavar="WORKER", help="Worker id of the child.", show_default="the parent")
    ] = None,
    as_json: Json = False,
) -> None:
    """Accept a new holon in the place of a known one, after its store was replaced on purpose."""
    if worker == "":
        # For a node it would be the parent, and whom it trusts is not for a variable that is unset to say.
        raise InvalidArgument("WORKER is empty; give a worker id, or leave it out for the parent")
    known = with_client(lambda client: client.node.accept_holon(worker or ""))
    if as_json:
        show_json({"holon_id": known})
    else:
        print(f"{safe(worker or 'the parent')} was holon {safe(known)}; the next one in its place is accepted")
