"""The command line: `holon keys` makes keys that what is stored is encrypted with."""

from __future__ import annotations

import secrets
from base64 import b64encode

import typer

from holon.cli.output import Json, show_json

app = typer.Typer(help="Keys that encrypt the store.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def new(as_json: Json = False) -> None:
    """Make a random key for ENCRYPTION_KEY or ENCRYPTION_KEY_FILE. --json adds the id that the log shows."""
    from holon.config.encryption_keys import KEY_BYTES
    from holon.stores.sealing import key_id

    key = secrets.token_bytes(KEY_BYTES)
    text = b64encode(key).decode()
    if as_json:
        show_json({"key": text, "id": key_id(key)})
    else:
        print(text)
