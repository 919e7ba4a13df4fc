"""The store in Redis: what nodes share beside jobs, in a slot of its own."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

from holon.ports import MAX_DOCUMENTS, Count, Counted, Document, Put
from holon.randomness import random_id
from holon.storage.hints import Hints
from holon.storage.redis.arguments import Argument, maybe
from holon.storage.redis.calls import Calls
from holon.storage.shared_records import check_document, too_many_documents

# A page of a list has so many documents, or a few more.
PAGE = 100
FORGET_AT_A_TIME = 1_000


class SharedCalls(ABC):
    """The calls of `holon.ports.Shared`."""

    _hints: Hints

    @property
    @abstractmethod
    def _shared(self) -> Calls:
        """Calls about what nodes share beside jobs."""

    @property
    @abstractmethod
    def _store_id(self) -> str:
        """The store's, by which nodes hear of each other."""

    async def document(self, kind: str, key: str) -> Document | None:
        check_document(kind, key)
        self._hints.kinds.add(kind)
        record = await self._shared.ask("HGET", f"d:{kind}", key)
        return _document(kind, key, record, self._shared.now()) if record is not None else None

    async def documents(self, kind: str) -> Sequence[Document]:
        check_document(kind)
        self._hints.kinds.add(kind)
        found: dict[str, Document | None] = {}
        place = b"0"
        while True:
            place, page = await self._shared.ask("HSCAN", f"d:{kind}", place, "COUNT", PAGE)
            now = self._shared.now()
            for key, record in zip(page[::2], page[1::2], strict=True):
                found[key.decode()] = _document(kind, key.decode(), record, now)
            if place == b"0":
                return [one for _, one in sorted(found.items()) if one is not None]

    async def put_document(
        self, kind: str, key: str, value: bytes | None, *, version: int, expires_in: int | None = None
    ) -> int | None:
        check_document(kind, key, value)
        given = ("",) if value is None else ("1", value)
        # A name of its own: when the reply is lost, it may go again in other company.
        name = random_id()
        answer = await self._shared.call(
            "put_document", 1, name, self._store_id, MAX_DOCUMENTS, kind, key, version, *given, maybe(expires_in)
        )
        if answer == b"full":
            raise too_many_documents(kind)
        return answer or None

    async def put_documents(self, kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        calls = (
            self.put_document(kind, one.key, one.value, version=one.version, expires_in=one.expires_in) for one in puts
        )
        return await asyncio.gather(*calls)

    async def count(self, items: Sequence[Count]) -> Sequence[Counted]:
        given: list[Argument] = [len(items)]
        for item in items:
            given += (item.key, item.n, item.limit, item.period_ms)
        answers = await self._shared.call("count", *given)
        return [Counted(bool(granted), remaining, left) for granted, remaining, left in answers]

    async def _forget_expired(self) -> None:
        forgotten = FORGET_AT_A_TIME
        while forgotten == FORGET_AT_A_TIME:
            forgotten = await self._shared.call("forget", FORGET_AT_A_TIME)


def _document(kind: str, key: str, record: bytes, now: int) -> Document | None:
    head, _, value = record.partition(b"\n")
    version, _, ends = head.partition(b" ")
    expires_at = int(ends) if ends else None
    if expires_at is not None and expires_at <= now:
        return None
    return Document(kind, key, int(version), value, expires_at)
