"""Pages of lists that are held in memory: sorted by a key, so that a page goes on where the last one ended."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from holon.engine.page_tokens import ListTokens
from holon.errors import invalid
from holon.ports import MAX_PAGE_BYTES

T = TypeVar("T")

MAX_PAGE = 1_000
DEFAULT_PAGE = 100


def page_of(
    items: Iterable[T],
    key: Callable[[T], tuple[str, ...]],
    weight: Callable[[T], int],
    size: int,
    token: str,
    tokens: ListTokens,
) -> tuple[list[T], str]:
    """A page of items, in the order of their keys, and the token of the next; as `page_of_sorted`."""
    return page_of_sorted(sorted(items, key=key), key, weight, size, token, tokens)


def page_of_sorted(
    items: Sequence[T],
    key: Callable[[T], tuple[str, ...]],
    weight: Callable[[T], int],
    size: int,
    token: str,
    tokens: ListTokens,
) -> tuple[list[T], str]:
    """One page of items, and the token of the next (empty: that was all).

    It ends after one item, or before they have more than MAX_PAGE_BYTES together: the answer must fit into a message.

    Arguments:
        items: in the order of their keys.
        key: unique to each item.
        weight: about how many bytes an item takes.
        size: how many a page holds, at most 1,000; 0 means 100.
        token: of the page before; empty for the first.
        tokens: those of this list.
    Raises:
        InvalidArgument: the size or the token is none.
    """
    size = size_of_page(size)
    after = tokens.place(token)
    begin = 0 if after is None else bisect_right(items, tuple(after), key=key)
    page: list[T] = []
    room = MAX_PAGE_BYTES
    for one in items[begin : begin + size]:
        room -= weight(one)
        if page and room < 0:
            break
        page.append(one)
    return page, tokens.token(key(page[-1])) if begin + len(page) < len(items) else ""


def size_of_page(size: int) -> int:
    """How many a page holds: what was asked for, at most 1,000; 0 means 100.

    Raises:
        InvalidArgument: the size is none.
    """
    if not 0 <= size <= MAX_PAGE:
        raise invalid("page_size", f"must be between 1 and {MAX_PAGE}, or 0 for {DEFAULT_PAGE}")
    return size or DEFAULT_PAGE
