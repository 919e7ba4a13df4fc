"""The demo: its command line. `scripts/demo` makes the environment and runs this."""

from __future__ import annotations

import argparse
import shutil
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from holon.config.storage_uri import StorageURI
from holon.errors import ConfigError
from scripts.demonstration.failure import Failed, Interrupted, Interruptions
from scripts.demonstration.programs import Programs
from scripts.demonstration.screen import Screen
from scripts.demonstration.story import Story, Wishes

LINES_OF_LOG = 20


def main() -> int:
    """Run the demo; returns 0, 1 when it failed, or 128 and the signal's number when it was stopped."""
    wishes = read_wishes()
    screen = Screen()
    interruptions = Interruptions()
    interruptions.listen()
    place = Path(tempfile.mkdtemp(prefix="holon-demo-"))
    needed = wishes.keep
    began = time.monotonic()
    try:
        with Programs(place, interruptions) as programs:
            Story(wishes, screen, programs, place).run()
    except (Failed, OSError) as error:
        needed = True
        tell_failure(error, place)
        return 1
    except Interrupted as stopped:
        needed = False
        print(f"\nscripts/demo: stopped by {stopped}; nothing is left running", file=sys.stderr)
        return 128 + stopped.number
    finally:
        if not needed:
            shutil.rmtree(place, ignore_errors=True)
    left = "the node, its child and the workers are left running" if wishes.keep else "nothing is left running"
    screen.verdict(f"It works, after {time.monotonic() - began:.0f} s; {left}.")
    return 0


def read_wishes() -> Wishes:
    """Read the command line; a mistake in it ends the program with status 2."""
    parser = argparse.ArgumentParser(prog="scripts/demo")
    parser.add_argument("folder", nargs="?", type=Path, default=sysconfig.get_path("stdlib"), metavar="FOLDER")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--storage", default="", metavar="URI")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if not folder.is_dir():
        parser.error(f"{given.folder} is no folder")
    if given.storage:
        try:
            StorageURI.parse(given.storage)
        except ConfigError as error:
            parser.error(f"--storage: {error.message}")
    return Wishes(folder, given.storage, given.keep)


def tell_failure(error: Exception, place: Path) -> None:
    """Say on stderr what went wrong, with the end of the log that knows more."""
    print(f"\nscripts/demo: failed: {error}", file=sys.stderr)
    log = error.log if isinstance(error, Failed) else None
    if log is not None and log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"the last lines of {log.name}:", *lines[-LINES_OF_LOG:], sep="\n  ", file=sys.stderr)
    print(f"nothing is left running; every log is in {place}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
