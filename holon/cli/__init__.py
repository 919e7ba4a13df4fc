"""The command line: `holon`. Every command imports what it needs when it runs, so that the others start at once."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the process ends with one of the codes in `holon.cli.exits`."""
    from holon.cli.app import app
    from holon.cli.exits import ending

    with ending():
        app(prog_name="holon")
