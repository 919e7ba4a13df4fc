"""The seal: AES-256-GCM under data keys, which are themselves encrypted under the keys of the settings.

A sealed record is MARK, the layout's version, the id of the key, the wrapped data key, a nonce, and the text with its
tag. No other record begins with the mark, nor does any JSON or UTF-8: what was stored without a key is known by that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import count
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holon.clock import Clock, SystemClock
from holon.errors import KeyUnknown, SealBroken

log = logging.getLogger(__name__)

MARK = b"\xc1"
LAYOUT = b"\x01"
_ID = 8
_NONCE = 12
_TAG = 16
_DATA_KEY = 32
_WRAPPED = len(MARK + LAYOUT) + _ID
_HEADER = _WRAPPED + _NONCE + _DATA_KEY + _TAG
# What sealing adds to a record, in bytes.
OVERHEAD = _HEADER + _NONCE + _TAG
# A data key is used for a day, and for so many records: nonces are random, and must not come twice.
DAY_MS = 86_400_000
MAX_RECORDS = 2**32
# So many data keys are kept open: each process makes one a day.
MAX_OPEN = 1_024
# So many places, or keys, with which nothing can be opened are remembered, so that each is logged once, or seldom.
MAX_TOLD = 1_000
# What has a key that is not here is logged so often, by the key: there may be as much of it as there are jobs.
UNKNOWN_EVERY_MS = 60_000


def key_id(key: bytes) -> str:
    """What a key is known by: the first bytes of its SHA-256."""
    return sha256(key).digest()[:_ID].hex()


class _DataKey:
    """What records are sealed with for a while."""

    __slots__ = ("cipher", "header", "until", "used")

    def __init__(self, key: bytes, until: int) -> None:
        secret, nonce = os.urandom(_DATA_KEY), os.urandom(_NONCE)
        head = MARK + LAYOUT + bytes.fromhex(key_id(key))
        self.header = head + nonce + AESGCM(key).encrypt(nonce, secret, head)
        self.cipher = AESGCM(secret)
        self.until = until
        # Whoever makes it uses it once.
        self.used = count(2)


class Seal:
    """Seals what goes to the disk or the server, and opens what comes back; without keys it leaves all as it is.

    Each record has a place (its table, its row, and what it is of that row), which is authenticated with it, and found
    out nowhere else. An empty record stays empty. Safe in any thread.

    Arguments:
        keys: of 32 random bytes each; the first seals, and all of them open.
        clock: what says when a data key is a day old.
        most: how many records a data key seals at most.
    """

    def __init__(self, keys: Sequence[bytes] = (), clock: Clock | None = None, *, most: int = MAX_RECORDS) -> None:
        self._clock = clock or SystemClock()
        self._most = most
        self._renewing = Lock()
        self._told: set[str] = set()
        # When a key that is not here was last logged, and how many records of it were met since.
        self._missed: dict[str, tuple[int, int]] = {}
        self._data_key: _DataKey | None = None
        self._key = keys[0] if keys else None
        self.open_with(keys)

    def __repr__(self) -> str:
        return f"Seal({', '.join(self.key_ids) or 'off'})"

    @property
    def on(self) -> bool:
        """Whether anything is sealed."""
        return self._key is not None

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The keys that it can open with, by their ids."""
        return tuple(key.hex() for key in self._ciphers)

    def open_with(self, keys: Sequence[bytes]) -> None:
        """From now on open with these keys; what seals stays the same until `seal_with`."""
        self._ciphers = {bytes.fromhex(key_id(key)): AESGCM(key) for key in keys}
        self._cipher_of = lru_cache(maxsize=MAX_OPEN)(self._unwrapped)

    def seal_with(self, key: bytes) -> None:
        """From now on seal with this key, which is one of those to open with."""
        with self._renewing:
            self._key, self._data_key = key, None

    def seal(self, table: str, row: str, what: str | int, record: bytes) -> bytes:
        """A record as it is to be stored in this place."""
        key = self._key
        if key is None or not record:
            return record
        data_key = self._data_key
        if data_key is None or self._clock.now_ms() >= data_key.until or next(data_key.used) > self._most:
            data_key = self._renewed(data_key)
        nonce = os.urandom(_NONCE)
        place = f"{table}:{row}:{what}".encode()
        return b"".join((data_key.header, nonce, data_key.cipher.encrypt(nonce, record, place)))

    def open(self, table: str, row: str, what: str | int, stored: bytes) -> bytes:
        """A record as it was before it was sealed for this place; one that is not sealed is as it is.

        Raises:
            KeyUnknown: it was sealed with a key that is not here.
            SealBroken: it has been changed, or was sealed for another place.
        """
        if stored[:1] != MARK:
            return stored
        place = f"{table}:{row}:{what}"
        try:
            if stored[1:2] != LAYOUT or len(stored) < OVERHEAD:
                raise SealBroken(f"{place} is damaged, or sealed in a layout that this release does not know")
            cipher = self._cipher_of(stored[:_HEADER])
            return cipher.decrypt(stored[_HEADER : _HEADER + _NONCE], stored[_HEADER + _NONCE :], place.encode())
        except KeyError:
            key = stored[2:_WRAPPED].hex()
            unknown = KeyUnknown(
                f"{place} is sealed with the key {key}, which this node does not have: add it to ENCRYPTION_KEY_FILE "
                "(or set ENCRYPTION_KEY)"
            )
            self._tell_unknown(key, unknown)
            raise unknown from None
        except (InvalidTag, ValueError):
            error = SealBroken(
                f"{place} cannot be opened: it was changed, or moved there from another place; restore it from a backup"
            )
        except SealBroken as other:
            error = other
        self._tell(place, error)
        raise error

    def outdated(self, stored: bytes) -> bool:
        """Whether a record was sealed with another key than the one that seals now; one that is not sealed was not."""
        key = self._key
        return key is not None and stored[:1] == MARK and stored[2:_WRAPPED].hex() != key_id(key)

    def seal_text(self, table: str, row: str, what: str | int, text: str) -> str | bytes:
        """As `seal`, of text; bytes where it is sealed."""
        return self.seal(table, row, what, text.encode()) if text and self._key is not None else text

    def open_text(self, table: str, row: str, what: str | int, stored: str | bytes) -> str:
        """As `open`, of text."""
        return stored if isinstance(stored, str) else self.open(table, row, what, stored).decode()

    def _renewed(self, old: _DataKey | None) -> _DataKey:
        with self._renewing:
            # Whoever else waited for this has made one.
            if self._data_key is None or self._data_key is old:
                if self._key is None:
                    raise AssertionError("a seal that is off seals nothing")
                self._data_key = _DataKey(self._key, self._clock.now_ms() + DAY_MS)
            return self._data_key

    def _unwrapped(self, header: bytes) -> AESGCM:
        key = self._ciphers[header[2:_WRAPPED]]
        nonce = header[_WRAPPED : _WRAPPED + _NONCE]
        return AESGCM(key.decrypt(nonce, header[_WRAPPED + _NONCE :], header[:_WRAPPED]))

    def _tell_unknown(self, key: str, error: KeyUnknown) -> None:
        now = self._clock.now_ms()
        last, more = self._missed.get(key, (now - UNKNOWN_EVERY_MS, 0))
        if now - last < UNKNOWN_EVERY_MS:
            self._missed[key] = (last, more + 1)
            return
        if len(self._missed) >= MAX_TOLD:
            self._missed.clear()
        self._missed[key] = (now, 0)
        log.error("%s%s", error.message, f"; met {more} times more since this was last logged" if more else "")

    def _tell(self, place: str, error: SealBroken) -> None:
        if place not in self._told:
            if len(self._told) >= MAX_TOLD:
                self._told.clear()
            self._told.add(place)
            log.error("%s", error.message)
