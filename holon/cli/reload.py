"""The command line: `holon reload` has a node read its files again."""

from __future__ import annotations

from typing import Annotated

import typer

from holon.cli.connection import with_client
from holon.cli.output import Json, safe, show_json


def reload(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="What to read, such as clients.", show_default="all")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make every node read its configuration files again. Needs the token of an administrator.

    A file with an error changes nothing.
    """
    reloaded = with_client(lambda client: client.node.reload(targets or ()))
    if as_json:
        show_json({"reloaded": reloaded})
    else:
        print(f"reloaded: {safe(', '.join(reloaded)) or 'nothing; the node has no such file'}")
