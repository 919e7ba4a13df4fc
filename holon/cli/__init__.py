"""The command line: `holon`. Every command imports what it needs when it runs, so that the others start at once."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# What is imported is no garbage: at the default of 700 new objects the collector would look through it all the time.
_THRESHOLD = 50_000
# The exit code of an interrupt, as `ExitCode` has it, which is not imported yet.
_INTERRUPTED = 130


def main() -> None:
    """Run the command line; the process ends with one of the codes in `holon.cli.exits`."""
    gc.set_threshold(_THRESHOLD)
    # Nor is it at the end, when all of it goes at once.
    atexit.register(gc.freeze)
    with _interrupted_at_once():
        from holon.cli import streams

        streams.mend()
        from holon.cli.app import app
        from holon.cli.exits import check_arguments, ending
    with ending():
        check_arguments()
        app(prog_name="holon")


@contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """Have an interrupt end the process without a word: an import that it ends otherwise tells of that at length."""
    # Who starts it in the background has it take none, and another thread cannot be interrupted.
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
