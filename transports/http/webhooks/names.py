"""Webhooks: the addresses of a name, looked up so that a name server which does not answer holds up nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import TypeAlias

from holon.domain.networks import Address

# So many names are looked up at the same time. The system gives up on one after some ten seconds.
MOST = 64
Look: TypeAlias = Callable[[str], list[str]]


class NameUnknown(Exception):
    """Expected: a name has no address, or it could not be looked up now."""


def look_up(name: str) -> list[str]:
    """The addresses of a name as the system has them; blocks, and raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Names:
    """Looks up names, each in a thread of its own, which nothing waits for at the end.

    Arguments:
        look: finds the addresses of a name; blocks.
    """

    def __init__(self, look: Look = look_up) -> None:
        self._look = look
        # Many may ask for the same name at once: it is looked up once for all of them.
        self._sought: dict[str, asyncio.Future[list[Address]]] = {}

    def __repr__(self) -> str:
        return f"Names(sought={len(self._sought)})"

    async def addresses(self, name: str) -> list[Address]:
        """Those of a name, of either kind in turn: one kind may lead nowhere from here.

        Raises:
            NameUnknown: there is none, too many others are looked up, or there is no thread for it.
        """
        sought = self._sought.get(name)
        if sought is None:
            if len(self._sought) >= MOST:
                raise NameUnknown(f"{MOST} lookups of other host names are in progress")
            sought = self._begin(name, asyncio.get_running_loop())
        # Who gives up on it must not take it from the others.
        return await asyncio.shield(sought)

    def _begin(self, name: str, loop: asyncio.AbstractEventLoop) -> asyncio.Future[list[Address]]:
        sought: asyncio.Future[list[Address]] = loop.create_future()
        try:
            threading.Thread(target=self._seek, args=(name, sought, loop), name="webhook-name", daemon=True).start()
        except RuntimeError as error:
            raise NameUnknown("no thread could be started to look up its host name") from error
        self._sought[name] = sought
        sought.add_done_callback(lambda done: self._done(name, done))
        return sought

    def _done(self, name: str, sought: asyncio.Future[list[Address]]) -> None:
        del self._sought[name]
        if not sought.cancelled():
            # Perhaps nobody waits for it any more.
            sought.exception()

    def _seek(self, name: str, sought: asyncio.Future[list[Address]], loop: asyncio.AbstractEventLoop) -> None:
        # The loop may be over by then.
        with suppress(RuntimeError):
            try:
                found = _mixed([ip_address(one) for one in self._look(name)])
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                loop.call_soon_threadsafe(sought.set_exception, NameUnknown(f"its host name was not found: {why}"))
            else:
                loop.call_soon_threadsafe(sought.set_result, found)


def _mixed(found: list[Address]) -> list[Address]:
    unique = list(dict.fromkeys(found))
    first = [one for one in unique if one.version == unique[0].version]
    others = [one for one in unique if one.version != unique[0].version]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]
