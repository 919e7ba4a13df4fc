"""The server's TLS files, followed while the node runs: every door takes the newest ones that can serve."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from holon.clock import Clock
from holon.errors import ConfigError
from holon.files import Facts, facts_of
from holon.security.revocation import RevocationList
from holon.security.tls import Ending, ServerCredentials, TlsPaths, load_server_credentials
from holon.telemetry.metrics import TlsMetrics

log = logging.getLogger(__name__)

EVERY_S = 1.0
# How many days before its end a certificate is spoken of, once each.
WARN_DAYS = (30, 7, 1, 0)
_DAY_MS = 86_400_000

# What tells that a file was written or replaced, also by a link that leads elsewhere now.
_Seen: TypeAlias = tuple[Facts, ...]


class TlsFiles:
    """The newest credentials that could serve. Doors read `current` at each handshake: it is one snapshot, whole.

    While `run` runs, the files are looked at every second, in a thread. Files that cannot serve change nothing: the old
    ones go on, and it is logged and counted once the same files are still there at the next look, as a pair is
    sometimes replaced in two steps.

    Arguments:
        clock: by which certificates are valid, or end soon.
        every: seconds between two looks.
    Raises:
        ConfigError: as `load_server_credentials`; this blocks for reads.
    """

    def __init__(self, paths: TlsPaths, clock: Clock, *, every: float = EVERY_S) -> None:
        self.metrics = TlsMetrics()
        self._paths = paths
        self._clock = clock
        self._every = every
        self._seen = self._stat()
        self._refused: tuple[_Seen, str] | None = None
        self._told: dict[Ending, int] = {}
        self._stale: set[RevocationList] = set()
        self._listeners: list[Callable[[], None]] = []
        self.current = load_server_credentials(paths, clock.now_ms())
        self._heard = self.current

    def __repr__(self) -> str:
        return f"TlsFiles({self._paths.certificate}, expires_at_ms={self.current.expires_at_ms})"

    @property
    def name(self) -> str:
        """What they are called where a reload names its targets."""
        return "tls"

    def read(self) -> Callable[[], Iterable[tuple[str, str]]]:
        """Read the files as they are now, and say how to put them in force; see `holon.engine.reloading.Part`."""
        seen = self._stat()
        loaded = load_server_credentials(self._paths, self._clock.now_ms())
        return partial(self._apply, seen, loaded)

    def look(self) -> None:
        """Look at the files. Blocks for the reads: `run` does it in a thread."""
        seen = self._stat()
        if seen != self._seen:
            self._load(seen)
        self._speak_of_ends()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `run` call this, on its loop, once others are current."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Exception:
                log.exception("the TLS files could not be looked at; the certificate of before goes on")
            self._tell()
            await asyncio.sleep(self._every)

    def _apply(self, seen: _Seen, loaded: ServerCredentials) -> Iterable[tuple[str, str]]:
        self._take(seen, loaded)
        self._tell()
        return ()

    def _tell(self) -> None:
        if self._heard is not self.current:
            self._heard = self.current
            for listener in self._listeners:
                listener()

    # One look at a time -----------------------------------------------------------------------------------------------

    def _stat(self) -> _Seen:
        paths = self._paths
        return tuple(facts_of(path) for path in (paths.certificate, paths.key, paths.authorities, *_files(paths.lists)))

    def _load(self, seen: _Seen) -> None:
        try:
            loaded = load_server_credentials(self._paths, self._clock.now_ms())
        except ConfigError as error:
            self._refuse(seen, error.message)
            return
        self._take(seen, loaded)

    def _take(self, seen: _Seen, loaded: ServerCredentials) -> None:
        self._seen, self._refused = seen, None
        if loaded == self.current:
            return
        self.current = loaded
        self.metrics.reloads.add("success")
        log.info("new TLS files are in use: %s", loaded.endings[0].name)

    def _refuse(self, seen: _Seen, reason: str) -> None:
        if self._refused == (seen, reason):
            return
        if self._refused is None or self._refused[0] != seen:
            # Perhaps half of it is written only: what is still so at the next look is said.
            self._refused = (seen, "")
            return
        self._refused = (seen, reason)
        self.metrics.reloads.add("failure")
        log.warning("the TLS files have changed and cannot be used; the certificate of before goes on: %s", reason)

    def _speak_of_ends(self) -> None:
        now = self._clock.now_ms()
        told: dict[Ending, int] = {}
        for ending in self.current.endings:
            left = ending.at_ms - now
            near = min((days for days in WARN_DAYS if left <= days * _DAY_MS), default=None)
            if near is None:
                continue
            told[ending] = near
            if self._told.get(ending) != near:
                _warn(ending, left)
        self._told = told
        stale = {one for one in self.current.lists if now >= one.expires_at_ms}
        for one in stale - self._stale:
            log.error("the revocation list of %s has expired: what was revoked since is not known; renew it", one.name)
        self._stale = stale


def _files(path: str) -> Iterable[str]:
    if not os.path.isdir(path):  # noqa: PTH112  every second: no object is made for it
        return (path,) if path else ()
    try:
        return sorted(one.path for one in os.scandir(path))
    except OSError:
        return ()


def _warn(ending: Ending, left_ms: int) -> None:
    if left_ms <= 0:
        log.error("the certificate %s has expired: renew it now, callers refuse it or are refused", ending.name)
    else:
        log.warning("the certificate %s expires in %.1f days: renew it", ending.name, left_ms / _DAY_MS)
