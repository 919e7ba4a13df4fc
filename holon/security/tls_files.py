"""The server's TLS files: every door serves with the newest that were found good."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable

from holon.clock import Time
from holon.security.endings import EVERY_S, Endings
from holon.security.revocation import RevocationList
from holon.security.tls import ServerCredentials, TlsPaths, load_server_credentials

log = logging.getLogger(__name__)


class TlsFiles:
    """The newest credentials that could serve. Doors read `current` at each handshake: it is one snapshot, whole.

    Arguments:
        clock: by which certificates are valid, or end soon.
    Raises:
        ConfigError: as `load_server_credentials`; this blocks for reads.
    """

    def __init__(self, paths: TlsPaths, clock: Time) -> None:
        self._paths = paths
        self._clock = clock
        self._endings = Endings(clock)
        self._stale: set[RevocationList] = set()
        self._listeners: list[Callable[[], None]] = []
        self.current = load_server_credentials(paths, clock.now_ms())

    def __repr__(self) -> str:
        return f"TlsFiles({self._paths.certificate}, expires_at_ms={self.current.expires_at_ms})"

    def paths(self) -> Iterable[str]:
        """Where the files are; of a folder of revocation lists, those that are in it now. Blocks."""
        paths = self._paths
        return filter(None, (paths.certificate, paths.key, paths.authorities, *_files(paths.lists)))

    def read(self) -> ServerCredentials:
        """Read the files as they are now, and check them; blocks, and raises as `load_server_credentials`."""
        return load_server_credentials(self._paths, self._clock.now_ms(), self.current)

    def use(self, loaded: ServerCredentials) -> None:
        """Serve with these from now on, and tell those who listen, if they are others than before."""
        if loaded == self.current:
            return
        self.current = loaded
        log.info("new TLS files are in use: %s", loaded.endings[0].name)
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have this called whenever others are current."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Speak of what ends soon, until cancelled."""
        while True:
            self.speak_of_ends()
            await asyncio.sleep(EVERY_S)

    def speak_of_ends(self) -> None:
        """Say which certificates end soon, and which lists have, if that was not said yet."""
        self._endings.speak(self.current.endings)
        now = self._clock.now_ms()
        stale = {one for one in self.current.lists if now >= one.expires_at_ms}
        for one in stale - self._stale:
            log.error(
                "the revocation list of %s has expired, so newer revocations are not known; renew the list", one.name
            )
        self._stale = stale


def _files(path: str) -> Iterable[str]:
    if not os.path.isdir(path):  # noqa: PTH112  every second: no object is made for it
        return (path,)
    try:
        return sorted(one.path for one in os.scandir(path))
    except OSError:
        return ()
