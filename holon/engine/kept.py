"""What a holon told last of the job of a task: as it is stored, and as it is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from msgspec import DecodeError, Struct
from msgspec.msgpack import Decoder, Encoder

from holon.domain.tree import Summary
from holon.domain.value import Value, replace
from holon.errors import HolonError, InvalidArgument
from holon.ports import MAX_DOCUMENT_BYTES, Document, place_of

log = logging.getLogger(__name__)

KIND = "summaries"
# What is told of a job may have so many bytes: what is kept beside it, and what a seal adds, is to fit in too.
MOST_OF_ONE = MAX_DOCUMENT_BYTES - 2_048


class Kept(Value):
    """What a holon told last of the job of a task; `final`: with the task's result, after which nothing changes it.

    `generation` is the task's, 0: that is not known.
    """

    lease_id: str
    summary: Summary
    final: bool
    generation: int = 0


class Record(Struct, array_like=True, frozen=True):
    """The same as it is stored: what was told as it came, and when that was (epoch milliseconds, the store's clock)."""

    lease_id: str
    told: bytes
    at: int
    final: bool
    generation: int = 0


_encode = Encoder().encode
_decode = Decoder(Record).decode


class Sealing(Protocol):
    """Encrypts what is stored, where there is a key."""

    def seal(self, table: str, row: str, what: str, record: bytes) -> bytes:
        """A record for this place."""
        ...

    def open(self, table: str, row: str, what: str, stored: bytes) -> bytes:
        """The record that was sealed for this place; raises StoreUnavailable when it cannot be opened."""
        ...


class Texts:
    """Writes what is kept, and reads it.

    Arguments:
        read: what was told, of how it came; raises InvalidArgument.
        seal: for what is stored; None leaves that as it is.
    """

    def __init__(self, read: Callable[[bytes], Summary], seal: Sealing | None) -> None:
        self._read_told = read
        self._seal = seal

    def __repr__(self) -> str:
        return f"Texts(sealed={self._seal is not None})"

    def of(self, task_id: str, record: Record) -> bytes:
        """How this is stored."""
        text = _encode(record)
        return text if self._seal is None else self._seal.seal(*place_of(KIND, task_id), text)

    def record(self, document: Document) -> Record | None:
        """What is stored; None: it cannot be read, which is logged."""
        text, facts = document.value, {"task_id": document.key}
        try:
            return _decode(text if self._seal is None else self._seal.open(*place_of(KIND, document.key), text))
        except (HolonError, DecodeError) as error:
            log.warning("what a holon reported about task %s cannot be read: %r", document.key, error, extra=facts)
            return None

    def read(self, document: Document) -> Kept | None:
        """The same as it is read; None: it cannot be."""
        record = self.record(document)
        return None if record is None else self.kept(document.key, record)

    def kept(self, task_id: str, record: Record) -> Kept | None:
        """The same of what is still to be stored."""
        try:
            summary = self._read_told(record.told)
        except InvalidArgument as error:
            facts = {"task_id": task_id}
            log.warning("what a holon reported about task %s cannot be read: %s", task_id, error.message, extra=facts)
            return None
        # A clock below that is ahead does not tell of what is still to come.
        told = replace(summary, as_of=min(summary.as_of, record.at))
        return Kept(record.lease_id, told, record.final, record.generation)


def stays(before: Kept, new: Kept) -> bool:
    """Whether what is kept is not to be changed: what was told at the end, or later than this."""
    if before.lease_id != new.lease_id:
        return False
    return before.final or (not new.final and before.summary.as_of > new.summary.as_of)
