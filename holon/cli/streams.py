"""The command line: the standard streams, as whoever started the process left them, made fit for any text."""

from __future__ import annotations

import codecs
import io
import os
import sys

_ESCAPED = "holon.escaped"


def mend() -> None:
    """Open what was closed, as of nothing, and let nothing that is read or printed fail for its characters."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It was closed, and what is opened next, such as the store, would have its number.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  for as long as the process is there
    codecs.register_error(_ESCAPED, _escaped)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, _ESCAPED), (sys.stderr, _ESCAPED)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What the encoding of an output lacks, as JSON writes it: so JSON stays what it was, and people can read it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end
