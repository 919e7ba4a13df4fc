"""The command line: `holon tokens` makes tokens, and the form of them that a file may hold."""

from __future__ import annotations

import secrets
import sys

import typer

from holon.cli.output import Json, show_json, show_lines
from holon.errors import InvalidArgument

app = typer.Typer(help="Tokens of clients, and what is kept of them in clients.toml.", no_args_is_help=True)
_LEAST = 32


@app.command()
def new(as_json: Json = False) -> None:
    """Make a random token, and show it with its hashed form. Nobody can find it again from that."""
    from holon.security.tokens import hashed

    token = secrets.token_urlsafe(32)
    if as_json:
        show_json({"token": token, "hash": hashed(token)})
    else:
        show_lines((("token", token), ("hash", hashed(token))))


@app.command("hash")
def hash_(as_json: Json = False) -> None:
    """Print the hashed form of a token that is typed in, or comes as the one line of standard input."""
    from holon.security.tokens import hashed

    token = typer.prompt("Token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    token = token.removesuffix("\n").removesuffix("\r")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument("a token is one line of visible ASCII characters without spaces: a header carries it")
    if len(token) < _LEAST:
        raise InvalidArgument(
            f"the token has under {_LEAST} characters, and could be found by trying; `holon tokens new` makes one"
        )
    if as_json:
        show_json({"hash": hashed(token)})
    else:
        print(hashed(token))
