"""A server's TLS files in a folder of their own, which tests replace while doors serve with them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from holon.clock import SystemClock
from holon.engine.reloading import Reloading
from holon.node.admitting import tls_part
from holon.node.following import Following
from holon.security.certificates import Authority, KeyPair, describe, issue_server, issue_worker, open_authority
from holon.security.tls import TlsPaths
from holon.security.tls_files import TlsFiles

GUARD = 10.0
LOOK_S = 0.02


class Site:
    """The files, and those that follow them."""

    def __init__(self, folder: Path, lists: str = "") -> None:
        self.folder = folder
        self.authority = open_authority(folder / "authority")
        self.server = issue_server(self.authority, folder)
        self.ca = folder / "ca.pem"
        shutil.copy(self.authority.files.certificate, self.ca)
        self.files = TlsFiles(
            TlsPaths(str(self.server.certificate), str(self.server.key), str(self.ca), lists=lists),
            SystemClock(),
        )
        self.reloading = Reloading([tls_part(self.files)])
        self.following = Following(self.reloading, every=LOOK_S)

    @classmethod
    @asynccontextmanager
    async def followed(cls, folder: Path, lists: str = "") -> AsyncIterator[Self]:
        """The files, followed as a node does; `lists` is where those of revoked certificates are, if anywhere."""
        site = cls(folder, lists)
        following = asyncio.create_task(site.following.run())
        try:
            yield site
        finally:
            following.cancel()
            await asyncio.wait((following,))

    def worker(self, worker_id: str = "w1", authority: Authority | None = None, days: int = 397) -> KeyPair:
        return issue_worker(authority or self.authority, self.folder, worker_id, days=days)

    @property
    def serial(self) -> str:
        """Of the server's certificate as it is in its file now."""
        return describe(self.server.certificate)[0].serial

    async def renewed(self) -> str:
        """Issue a new certificate and key, and wait until they are in use; its serial."""
        before = self.files.current
        issue_server(self.authority, self.folder)
        await self.until(lambda: self.files.current is not before)
        return self.serial

    def counted(self, result: str) -> float:
        return self.reloading.metrics.reloads.values.get((result,), 0)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD):
            while not condition():  # noqa: ASYNC110  it looks from outside, and nothing tells it
                await asyncio.sleep(LOOK_S / 4)

    def trust(self, own: KeyPair | None = None) -> ssl.SSLContext:
        """A client's context."""
        context = ssl.create_default_context(cafile=str(self.authority.files.certificate))
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        return context


def serial_of(writer: asyncio.StreamWriter) -> str:
    """The serial of the certificate that the other side of a connection shows."""
    shown: Any = writer.get_extra_info("peercert")
    return str(shown["serialNumber"]).lstrip("0").lower()


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """Let a client speak this version alone; Python says of the old ones that they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
