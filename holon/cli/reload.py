"""The command line: `holon reload` has a node read its files again."""

from __future__ import annotations

from typing import Annotated

import typer

from holon.cli.connection import with_client
from holon.cli.output import Json, safe, show_json


def reload(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="What to read, such as clients; all by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Have every node read its configuration files again; a bad one changes nothing. Needs an administrator's token."""
    reloaded = with_client(lambda client: client.node.reload(targets or ()))
    if as_json:
        show_json({"reloaded": reloaded})
    else:
        print(f"reloaded: {safe(', '.join(reloaded)) or 'nothing, for the node reads no such file'}")
