"""Fleets: what a node tells of its workers, on pages that a document each can hold; and how these are read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import DecodeError, Raw
from msgspec.msgpack import Decoder, Encoder

from holon.domain.fleet import Machine, SkillReputation
from holon.domain.load import Load
from holon.domain.reputation import BEST
from holon.domain.value import Value
from holon.ports import MAX_DOCUMENT_BYTES

# A node tells no more pages than this: what is on them all nodes have in memory.
MOST_PAGES = 64
ROOM = MAX_DOCUMENT_BYTES - 1_024
# What a list's head, and that of a text, take.
_AROUND = 10


class Told(Value, array_like=True, gc=True):
    """A worker as its node tells of it, but for its skills. Times are epoch milliseconds.

    `taking` is as of its session; the rest is as of `WorkerView`.
    """

    worker_id: str
    instance_id: str
    taking: bool
    credits: int
    held: int
    connected_at: int
    last_seen_at: int
    sdk: str = ""
    labels: Mapping[str, str] = {}
    holon_id: str = ""
    holon_label: str = ""
    weight: int = 0
    machines: tuple[Machine, ...] = ()
    hot: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    load: Load | None = None
    reputations: tuple[SkillReputation, ...] = ()

    def reputation_of(self, skill: str) -> float:
        """As `Session.reputation_of`."""
        return next((one.value for one in self.reputations if one.skill == skill), BEST)


class Line(NamedTuple):
    """A worker on its way to a page: its skills, and what else is told of it, as text."""

    worker_id: str
    stock: bytes
    text: bytes


class Shelf(Value, array_like=True, gc=True):
    """Workers that offer the same, as a page has them."""

    stock: bytes
    workers: tuple[Told, ...]


_encode = Encoder().encode
_read_page = Decoder(tuple[Shelf, ...]).decode


def text_of(told: Told) -> bytes:
    """What is told of a worker, as text."""
    return _encode(told)


class _Page:
    def __init__(self) -> None:
        self.shelves: dict[bytes, list[Raw]] = {}
        self.size = _AROUND

    def take(self, line: Line) -> bool:
        """Have a worker on this page; False: there is no room."""
        more = len(line.text)
        if line.stock not in self.shelves:
            more += len(line.stock) + 2 * _AROUND
        if self.size + more > ROOM:
            return False
        self.size += more
        self.shelves.setdefault(line.stock, []).append(Raw(line.text))
        return True


def paged(lines: Sequence[Line], pages: int) -> tuple[list[bytes], int]:
    """Workers on pages, and how many have no room on them.

    A worker is always on the same page, as long as their number is the same: it is doubled where one is too full, and
    halved where they are nearly empty. So one that comes, goes or changes is a change of one page.

    Arguments:
        lines: in an order that stays the same.
        pages: how many there were.
    """
    found, left = _spread(lines, pages)
    while left and len(found) < MOST_PAGES:
        found, left = _spread(lines, 2 * len(found))
    while len(found) > 1 and sum(page.size for page in found) < len(found) * ROOM // 8:
        fewer, over = _spread(lines, len(found) // 2)
        if over > left:
            break
        found, left = fewer, over
    return [_encode(tuple(page.shelves.items())) for page in found], left


def _spread(lines: Sequence[Line], pages: int) -> tuple[list[_Page], int]:
    found, left = [_Page() for _ in range(pages)], 0
    for line in lines:
        left += not found[zlib.crc32(line.worker_id.encode()) % pages].take(line)
    return found, left


def shelves_in(text: bytes) -> Sequence[Shelf] | None:
    """What a page says; None: it cannot be read."""
    try:
        return _read_page(text)
    except DecodeError:
        return None
