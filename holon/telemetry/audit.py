"""The audit log: one line for each act that matters to security: who, what, on what, and what came of it.

Lines go to the logger `holon.audit`, whatever LOG_LEVEL is. A line never holds a token: callers name clients and
workers, not what they presented. `docs/access.md` lists the acts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from holon.errors import HolonError

LOGGER = "holon.audit"
log = logging.getLogger(LOGGER)

OK = "ok"
# Whoever asked has gone before there was an answer: it may be done, or not.
LEFT = "left"
# What strangers say is told no further than this.
MOST = 512
# So many refused calls of a kind a second are told one by one, after as many at once; the next line counts the others.
REFUSALS_PER_S = 5.0
REFUSALS_AT_ONCE = 20


class Left(Exception):
    """Expected: whoever asked is gone before there was an answer."""


@dataclass(frozen=True, slots=True)
class By:
    """Who does something, and how that came.

    Attributes:
        via: `http`, `grpc`, `admin`, `worker`; `signal`, `file` or `node` where nobody called.
        who: the client, the worker, or `operator`; empty when it is not known.
        peer: the address that the call came from.
        trace: the trace that the call belongs to, as `traceparent`.
    """

    via: str
    who: str = ""
    peer: str = ""
    trace: str = ""


def note(act: str, by: By, *, on: str = "", result: str = OK, **more: str | int) -> None:
    """Write one line.

    Arguments:
        act: a word for what was done or tried, such as `job_cancelled`.
        on: what it was done to: a job, a worker, targets, a route.
        result: `ok`, or the code of the error.
        more: what else belongs to this act; none of it a secret.
    """
    facts = {
        "act": act, "result": result, "who": by.who, "via": by.via, "on": on, "peer": by.peer, "trace": by.trace, **more
    }  # fmt: skip
    line = {name: _plain(fact) for name, fact in facts.items() if fact != ""}
    log.info("%s", json.dumps(line), extra={"audit": line})


@contextmanager
def audited(act: str, by: By, on: Callable[[], str], **more: str | int) -> Iterator[None]:
    """Write one line of what is done in this block, once it is over, whatever came of it.

    Arguments:
        act, by, more: as `note` has them.
        on: what it was done to, as far as that is known by then.
    """
    result = HolonError.code
    try:
        yield
        result = OK
    except HolonError as error:
        result = error.code
        raise
    except (asyncio.CancelledError, Left):
        result = LEFT
        raise
    finally:
        note(act, by, on=on(), result=result, **more)


def _plain(fact: str | int) -> str | int:
    """A text that neither begins a line of its own nor drives a terminal, whoever wrote it."""
    if isinstance(fact, int):
        return fact
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in fact[:MOST])


class _Room:
    """How much may be told of one kind of refusal, as of when, and how many were not since the last that was."""

    __slots__ = ("at", "left", "untold")

    def __init__(self, now: float) -> None:
        self.left = float(REFUSALS_AT_ONCE)
        self.at = now
        self.untold = 0


class Refusals:
    """Calls that were refused: told, but not so often that who is refused could fill the log.

    Each kind by itself: strangers with wrong tokens must not be able to keep from the log that a refresh token was used
    twice, or what somebody known has tried.

    Arguments:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # By whether it is somebody known, and the code, of which there are a few.
        self._rooms: dict[tuple[bool, str], _Room] = {}

    def __repr__(self) -> str:
        return f"Refusals(untold={sum(room.untold for room in self._rooms.values())})"

    def note(self, by: By, on: str, result: str) -> None:
        """Write a line, as `note`, or count it for the next one of its kind."""
        now = self._now()
        room = self._rooms.setdefault((bool(by.who), result), _Room(now))
        room.left = min(REFUSALS_AT_ONCE, room.left + (now - room.at) * REFUSALS_PER_S)
        room.at = now
        if room.left < 1:
            room.untold += 1
            return
        room.left -= 1
        more = {"untold": room.untold} if room.untold else {}
        room.untold = 0
        note("call_refused", by, on=on, result=result, **more)
