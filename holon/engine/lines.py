"""Pages of lines of history: as many as were asked for, or as an answer has room for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import orjson

from holon.domain.events import HistoryEvent
from holon.ports import MAX_PAGE_BYTES

T = TypeVar("T")

# So many lines are read at a time: what is too much for the page is read for nothing.
_AT_ONCE = 100
# What a line has besides its details, in bytes.
_AROUND = 300


async def page_of_lines(
    read: Callable[[T | None, int], Awaitable[Sequence[T]]], event_of: Callable[[T], HistoryEvent], size: int
) -> tuple[list[T], bool]:
    """The first lines, and whether there are more: at least one, and no more than MAX_PAGE_BYTES together.

    Arguments:
        read: gives the lines after one, so many at most; after None they are the first.
        size: how many there may be.
    """
    page: list[T] = []
    at_once, weight, last = min(size + 1, _AT_ONCE), 0, None
    while True:
        lines = await read(last, at_once)
        for line in lines:
            weight += _AROUND + len(orjson.dumps(event_of(line).details))
            if len(page) == size or (page and weight > MAX_PAGE_BYTES):
                return page, True
            page.append(line)
        if len(lines) < at_once:
            return page, False
        last = lines[-1]
