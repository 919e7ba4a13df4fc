"""Marks: which keys a store has records of. Each is a small document, sealed with its key before anything else is.

So a node that lacks a key finds out at its start, and not at some record.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from holon.errors import ConfigError, SealBroken, StoreUnavailable, Violation
from holon.ports import Change, Document, DocumentHints, Shared, change_document, place_of
from holon.stores.sealing.seal import Seal, key_id
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

KIND = "encryption_keys"
# Hints can be lost: this is how long another node's new key can then go unseen.
LOOK_EVERY_S = 30.0
_WORD = b"holon"
_ADD = "add it to ENCRYPTION_KEY_FILE (or set ENCRYPTION_KEY)"


class Marks:
    """Makes and follows the marks of one store.

    Arguments:
        store: where they are.
        seal: what this node seals with.
        keys: those of the settings; the first is the one to seal with.
        kept: how long a mark stays whose key seals no more, in milliseconds: as long as its records may.

    Attributes:
        hints: is to be told when documents change; perhaps it is a mark.
    """

    def __init__(self, store: Shared, seal: Seal, keys: Sequence[bytes], kept: int) -> None:
        self._store = store
        self._seal = seal
        self._keys = tuple(keys)
        self._kept = kept
        self._marked: frozenset[str] = frozenset()
        self._missed: frozenset[str] = frozenset()
        self._due = True
        # The key that was logged as the one that seals.
        self._told = b""
        self._away = Seldom(log)
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"Marks({', '.join(sorted(self._marked))})"

    async def begin(self) -> None:
        """Look at the marks, and make this node's; before anything is sealed.

        Raises:
            ConfigError: the store has records that no key here opens.
            StoreUnavailable: the store is away.
        """
        check(await self._look(), self._seal)
        await self._mark()

    def missing(self, keys: Sequence[bytes]) -> str:
        """What speaks against going on with these keys alone; empty when nothing does."""
        gone = self._marked.intersection(self._seal.key_ids) - set(map(key_id, keys))
        return _missing(gone) if gone else ""

    def use(self, keys: Sequence[bytes]) -> None:
        """From now on open with these keys; and seal with the first, as soon as that is marked."""
        self._keys = tuple(keys)
        self._seal.open_with(self._keys)
        self._due = True
        self.hints.wake()

    async def run(self) -> None:
        """Mark the keys that `use` brought, and follow those of other nodes, until cancelled."""
        while True:
            wait = LOOK_EVERY_S
            try:
                if self._due:
                    await self._mark()
                self._tell(await self._look())
            except StoreUnavailable as error:
                self._away.warn("the marks of encryption keys are made and looked at later", why=error.message)
                wait = error.again_after
            await self.hints.wait(wait)

    async def _look(self) -> Sequence[Document]:
        marks = await self._store.documents(KIND)
        self._marked = frozenset(mark.key for mark in marks)
        return marks

    async def _mark(self) -> None:
        keys = self._keys
        if keys:
            await self._put(keys[0], lasting=True)
            self._seal.seal_with(keys[0])
            if keys[0] != self._told:
                log.info("what is stored is sealed with the key %s from now on", key_id(keys[0]))
                self._told = keys[0]
            for key in keys[1:]:
                await self._put(key, lasting=False)
        self._due = keys is not self._keys

    async def _put(self, key: bytes, *, lasting: bool) -> None:
        """Have the mark of a key as it is to be; a key that never sealed has none until it does."""
        name = key_id(key)

        def change(mark: Document | None) -> tuple[bool, Change | None]:
            if lasting == (mark is not None and mark.expires_at is None):
                return False, None
            word = Seal((key,)).seal(*place_of(KIND, name), _WORD)
            return True, Change(word, None if lasting else self._kept)

        if await change_document(self._store, KIND, name, change):
            self._marked |= {name}

    def _tell(self, marks: Iterable[Document]) -> None:
        missed = frozenset(mark.key for mark in marks) - set(self._seal.key_ids)
        for name in sorted(missed - self._missed):
            log.error("another node of this store seals with the key %s, which is not here: %s", name, _ADD)
        self._missed = missed


def check(marks: Iterable[Document], seal: Seal) -> None:
    """Return when a seal opens all that these marks are of.

    Raises:
        ConfigError: it lacks a key.
    """
    stored = list(marks)
    gone = {mark.key for mark in stored} - set(seal.key_ids)
    if gone:
        reason = _missing(gone)
        raise ConfigError(f"ENCRYPTION_KEY_FILE: {reason}", details=[Violation("ENCRYPTION_KEY_FILE", reason)])
    for mark in stored:
        try:
            seal.open(*place_of(KIND, mark.key), mark.value)
        except SealBroken as error:
            raise ConfigError(f"the store's mark of an encryption key cannot be opened: {error.message}") from error


def _missing(names: Iterable[str]) -> str:
    return f"the store has records sealed with the key {', '.join(sorted(names))}, which is not here: {_ADD}"
