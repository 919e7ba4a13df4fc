"""The command line: `holon`. Every command imports what it needs when it runs, so that the others start at once."""

from __future__ import annotations

import atexit
import gc

# What is imported is no garbage: at the default of 700 new objects the collector would look through it all the time.
_THRESHOLD = 50_000


def main() -> None:
    """Run the command line; the process ends with one of the codes in `holon.cli.exits`."""
    gc.set_threshold(_THRESHOLD)
    # Nor is it at the end, when all of it goes at once.
    atexit.register(gc.freeze)
    from holon.cli import streams

    streams.mend()
    from holon.cli.app import app
    from holon.cli.exits import ending

    with ending():
        app(prog_name="holon")
