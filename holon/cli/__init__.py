"""The command line: `holon`. Every command imports what it needs when it runs, so that the others start at once."""

from __future__ import annotations

import gc
import os
import sys

# What is imported is no garbage: at the default of 700 new objects the collector would look through it all the time.
_THRESHOLD = 50_000


def main() -> None:
    """Run the command line; the process ends with one of the codes in `holon.cli.exits`."""
    gc.set_threshold(_THRESHOLD)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # It was closed, and what is opened next, such as the store, would have its number.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123  # for as long as the process is there
    from holon.cli.app import app
    from holon.cli.exits import ending

    with ending():
        app(prog_name="holon")
