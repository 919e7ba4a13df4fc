"""The command line: `holon tokens` makes tokens, and the form of them that a file may hold."""

from __future__ import annotations

import secrets
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from holon.cli.connection import with_client
from holon.cli.output import Json, safe, show_json, show_lines
from holon.errors import InvalidArgument

if TYPE_CHECKING:
    from holon.client import Client
    from holon.client.node_shapes import Rotation

app = typer.Typer(help="Tokens of clients and workers, and the keys behind them.", no_args_is_help=True)
_LEAST = 32
# In characters: a header carries it.
_MOST = 4096


class Secret(StrEnum):
    """What workers' tokens are made with."""

    SIGNING_KEY = "signing-key"
    REFRESH = "refresh-secret"


@app.command()
def new(as_json: Json = False) -> None:
    """Make a random token, and show it with its hash. The hash does not reveal the token."""
    from holon.security.tokens import hashed

    token = secrets.token_urlsafe(32)
    if as_json:
        show_json({"token": token, "hash": hashed(token)})
    else:
        show_lines((("token", token), ("hash", hashed(token))))


@app.command("hash")
def hash_(as_json: Json = False) -> None:
    """Print the hash of a token that you type, or of the one line on standard input."""
    from getpass import getpass

    from holon.security.tokens import hashed

    # One more than it may have and the end of its line may have.
    token = getpass("Token: ") if sys.stdin.isatty() else sys.stdin.read(_MOST + 3)
    token = token.removesuffix("\n").removesuffix("\r")
    if len(token) > _MOST:
        raise InvalidArgument(
            f"a token has at most {_MOST} characters, and this is longer; check which file it comes from"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument(
            "a token is one line of visible ASCII characters without spaces; `holon tokens new` makes one"
        )
    if len(token) < _LEAST:
        raise InvalidArgument(
            f"the token is shorter than {_LEAST} characters, so it could be guessed; `holon tokens new` makes one"
        )
    if as_json:
        show_json({"hash": hashed(token)})
    else:
        print(hashed(token))


@app.command()
def rotate(
    secret: Annotated[
        Secret, typer.Argument(help="The key that signs access tokens, or the secret of refresh tokens.")
    ],
    revoke: Annotated[
        bool,
        typer.Option("--revoke", help="Refuse tokens of the old one from now on, for example after a leak."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Replace the key or secret behind workers' tokens, on every node. Needs an administrator, or ADMIN_SOCKET.

    Tokens of the old one stay valid until they expire, unless you revoke them.
    """

    async def call(client: Client) -> Rotation:
        if secret is Secret.SIGNING_KEY:
            return await client.node.rotate_signing_key(revoke=revoke)
        return await client.node.rotate_refresh_secret(revoke=revoke)

    rotation = with_client(call)
    if as_json:
        show_json(asdict(rotation))
        return
    since = datetime.fromtimestamp(rotation.in_force_at, UTC)
    name = f" {safe(rotation.key_id)}" if rotation.key_id else ""
    old = "are refused" if revoke else "stay valid until they expire"
    print(f"the new {secret}{name} is valid from {since:%Y-%m-%d %H:%M:%S} UTC; tokens of the old one {old}")
