"""Ports: documents as nodes work with them: changed with a bound, sealed by their place, looked at after a hint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from holon.domain.value import Value
from holon.errors import StoreUnavailable
from holon.ports.shared import Document, Shared

T = TypeVar("T")

# Each time somebody else was faster, so past this many the store is asked by more than it is there for.
TRIES = 10
_AGAIN_S = 1.0


class Change(Value):
    """What a document is to hold from now on; None deletes it. `expires_in` is as `Shared.put_document` has it."""

    value: bytes | None
    expires_in: int | None = None


async def change_document(
    store: Shared, kind: str, key: str, change: Callable[[Document | None], tuple[T, Change | None]]
) -> T:
    """Change a document by what it holds now, and not by what it held when somebody else has changed it meanwhile.

    Arguments:
        change: what is asked, and what the document is to hold for that; None leaves it as it is. It is called again
            for each version that was there first, and what it raises ends the change.
    Returns:
        what `change` said of the version that counts.
    Raises:
        StoreUnavailable: the store is away, or others were faster TRIES times; whoever asked may ask again.
    """
    for _ in range(TRIES):
        document = await store.document(kind, key)
        answer, wanted = change(document)
        if wanted is None:
            return answer
        version = 0 if document is None else document.version
        put = store.put_document(kind, key, wanted.value, version=version, expires_in=wanted.expires_in)
        if await put is not None:
            return answer
    raise contended(kind)


def contended(kind: str) -> StoreUnavailable:
    """The refusal of a change after TRIES, each of which came too late."""
    return StoreUnavailable(f"too many changes to the same {kind} at the same time; retry later", retry_after=_AGAIN_S)


class OwnDocument:
    """A document that one node writes, such as what it tells the others of itself; no other writes it meanwhile.

    Which version it has is remembered, so that writing is one call: it is asked for where it is another one, for the
    document ran out, or is of the process before this one.
    """

    def __init__(self, store: Shared, kind: str, key: str) -> None:
        self._store = store
        self._kind = kind
        self._key = key
        self._version = 0

    def __repr__(self) -> str:
        return f"OwnDocument({self._kind}/{self._key}, version={self._version})"

    async def write(self, value: bytes | None, expires_in: int | None = None) -> int:
        """Have it hold this from now on, as `Shared.put_document`; its new version.

        Raises:
            StoreUnavailable: the store is away, or somebody else wrote it TRIES times meanwhile.
        """
        for _ in range(TRIES):
            put = self._store.put_document(self._kind, self._key, value, version=self._version, expires_in=expires_in)
            if (version := await put) is not None:
                self._version = version if value is not None else 0
                return version
            document = await self._store.document(self._kind, self._key)
            self._version = 0 if document is None else document.version
        raise contended(self._kind)


def place_of(kind: str, key: str) -> tuple[str, str, str]:
    """Where a document's value is, for what seals it: table, row and field."""
    return "documents", f"{kind}/{key}", "value"


class DocumentHints:
    """Wakes a loop when documents of some kinds have changed. A hint can be lost, so nobody waits for one alone."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = frozenset(kinds)
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"DocumentHints({', '.join(sorted(self._kinds))}, due={self._wake.is_set()})"

    def changed(self, kinds: frozenset[str]) -> None:
        """Documents of these kinds have changed."""
        if kinds & self._kinds:
            self._wake.set()

    def wake(self) -> None:
        """Let who waits look now."""
        self._wake.set()

    async def wait(self, seconds: float) -> bool:
        """Return once there was a hint since the last wait, or these seconds are over; whether there was one."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        hinted = self._wake.is_set()
        self._wake.clear()
        return hinted
