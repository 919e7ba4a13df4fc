"""Certificates that end: how soon, which is spoken of in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from holon.clock import Time
from holon.files import read_public
from holon.security.identity import certificates_in

log = logging.getLogger(__name__)

# How many days before its end a certificate is spoken of, once each; and how often that is looked at, in seconds.
WARN_DAYS = (30, 7, 1, 0)
EVERY_S = 60.0
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Ending:
    """One certificate of the files, and when it ends.

    Attributes:
        name: its file and subject, for people.
        serial: its serial number, which tells it from the one that takes its place.
        at_ms: epoch milliseconds.
    """

    name: str
    serial: int
    at_ms: int


def ending_of(path: str, certificate: x509.Certificate) -> Ending:
    """When a certificate of a file ends."""
    name = f"{certificate.subject.rfc4514_string()} in {path}"
    return Ending(name, certificate.serial_number, int(certificate.not_valid_after_utc.timestamp() * 1000))


class Endings:
    """Speaks of certificates that end soon, of each once a threshold of WARN_DAYS.

    Arguments:
        clock: by which they end.
    """

    def __init__(self, clock: Time) -> None:
        self._clock = clock
        self._told: dict[Ending, int] = {}

    def __repr__(self) -> str:
        return f"Endings(told={len(self._told)})"

    def speak(self, endings: Iterable[Ending]) -> None:
        """Say what is to be said of these, if it was not said yet."""
        now = self._clock.now_ms()
        told: dict[Ending, int] = {}
        for ending in endings:
            left = ending.at_ms - now
            near = min((days for days in WARN_DAYS if left <= days * _DAY_MS), default=None)
            if near is None:
                continue
            told[ending] = near
            if self._told.get(ending) != near:
                _warn(ending, left)
        self._told = told


class OwnCertificate:
    """A certificate that this node shows to others, read anew every minute, as whoever shows it does each time.

    Arguments:
        path: of the file; the first certificate in it is the one.
        clock: by which it ends.

    Attributes:
        expires_at_ms: when it ends, in epoch milliseconds; None while the file cannot be read.
    """

    def __init__(self, path: str, clock: Time) -> None:
        self._path = path
        self._endings = Endings(clock)
        self.expires_at_ms: int | None = None

    def __repr__(self) -> str:
        return f"OwnCertificate({self._path}, expires_at_ms={self.expires_at_ms})"

    async def run(self) -> None:
        """Look at it until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Read the file, and say what is to be said of it."""
        endings = [ending_of(self._path, one) for one in await asyncio.to_thread(self._read)]
        self.expires_at_ms = endings[0].at_ms if endings else None
        self._endings.speak(endings)

    def _read(self) -> tuple[x509.Certificate, ...]:
        try:
            return certificates_in(read_public(self._path))
        except ValueError:
            # Whoever shows it says so.
            return ()


def _warn(ending: Ending, left_ms: int) -> None:
    if left_ms <= 0:
        log.error("the certificate %s has expired; renew it now, because TLS connections with it fail", ending.name)
    else:
        at = f"{datetime.fromtimestamp(ending.at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
        left = f"{left_ms / _DAY_MS:.1f} days" if left_ms > _DAY_MS else f"{left_ms / _HOUR_MS:.1f} hours"
        log.warning("the certificate %s expires at %s UTC, in %s; renew it", ending.name, at, left)
