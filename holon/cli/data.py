"""The command line: JSON that is given as an option, in a file or on standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from holon.errors import InvalidArgument


def read_data(text: str) -> Any:
    """What `--data` says: JSON, `@FILE` for a file's, `-` for standard input's.

    Raises:
        InvalidArgument: it cannot be read, or (INVALID_JSON) is none.
    """
    from holon.engine.payloads import decode

    where = "standard input" if text == "-" else text[1:] if text.startswith("@") else "--data"
    if not where:
        raise InvalidArgument("--data has no file name after its @")
    try:
        if text == "-":
            raw = sys.stdin.buffer.read()
        elif text.startswith("@"):
            raw = Path(where).read_bytes()
        else:
            raw = text.encode()
    except OSError as error:
        raise InvalidArgument(f"{where} cannot be read: {error.strerror}") from error
    if not raw:
        raise InvalidArgument(f"{where} is empty; give a JSON value", code="INVALID_JSON")
    try:
        # As strict as the doors: what they refuse must not be changed into what they take.
        return decode(raw, f"{where} is not valid JSON")
    except InvalidArgument as error:
        raise InvalidArgument(error.message, code="INVALID_JSON") from error
