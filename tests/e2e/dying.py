"""A node that is killed once, at one moment of a delegation, a part of a job, or a call: `serve()` instead of `holon`.

DIE_AT names the moment, DIE_COUNT the how many-th time, DIE_ONCE the file that says that it has died already. Without
DIE_AT it lives.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holon.cli import main
from holon.engine.children.bonds import Bonds
from holon.engine.children.doing import Doing
from holon.engine.children.own import Own
from holon.engine.signals import Signals
from holon.transports.grpc.clerk import Clerk
from holon.transports.grpc.outgoing import Outgoing
from holon.uplink.books import Books
from holon.uplink.parent import Parent
from holon.worker.reports import Reports

PROGRAM = "from tests.e2e.dying import serve; serve()"
# By moment: whose method, and whether it dies after it.
IN_CHILD: dict[str, tuple[Any, str, bool]] = {
    "offered": (Parent, "offered", False),
    "created": (Reports, "accept", False),
    "accepted": (Reports, "accept", True),
    "ended": (Reports, "finish", False),
    "told": (Reports, "finish", True),
    "acknowledged": (Parent, "settled", False),
    "forgotten": (Books, "forgotten", True),
}
IN_PARENT: dict[str, tuple[Any, str, bool]] = {
    "reported": (Clerk, "report", False),
    "answered": (Outgoing, "answer", False),
}
MOMENTS = {**IN_CHILD, **IN_PARENT}
# Of a job that is a part of another, on the same holon.
IN_PART: dict[str, tuple[Any, str, bool]] = {
    "taken": (Doing, "begin", False),
    "made": (Doing, "_make", True),
    "over": (Own, "_complete", False),
    "told above": (Own, "_complete", True),
    "cut": (Bonds, "cut", True),
}
# Of what a client brings: it is durable, and not answered yet.
IN_CALL: dict[str, tuple[Any, str, bool]] = {"signalled": (Signals, "send", True)}


def serve() -> None:
    """Serve, and die at the moment."""
    mortal()
    main()


def mortal() -> None:
    """Have this process die at the moment, if it has one and none before it has died so."""
    if "DIE_AT" in os.environ and not (marker := Path(os.environ["DIE_ONCE"])).exists():
        owner, name, after = {**MOMENTS, **IN_PART, **IN_CALL}[os.environ["DIE_AT"]]
        setattr(owner, name, _dying(getattr(owner, name), after, marker))


def _dying(method: Callable[..., Any], after: bool, marker: Path) -> Callable[..., Any]:
    times = itertools.count(1)

    def die() -> None:
        if next(times) == int(os.environ["DIE_COUNT"]):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def call(*arguments: Any) -> Any:
        if not after:
            die()
        result = method(*arguments)
        if after and not hasattr(result, "__await__"):
            die()
        return _then(result, die) if after and hasattr(result, "__await__") else result

    return call


async def _then(result: Any, die: Callable[[], None]) -> Any:
    done = await result
    die()
    return done
