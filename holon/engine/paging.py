"""Pages of what is held in memory: sorted by a key, so that a page goes on where the last one ended."""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from holon.errors import invalid
from holon.ports import MAX_PAGE_BYTES

T = TypeVar("T")

MAX_PAGE = 1_000
DEFAULT_PAGE = 100

_PART = "([0-9A-Za-z_-]{4})*([0-9A-Za-z_-]{2,3})?"
# What a page's token is, where pages go on by keys: their parts in base64. Whatever fits this stands for some key.
KEY_TOKEN = rf"{_PART}(\.{_PART})*"
_KEY_TOKEN = re.compile(KEY_TOKEN)
# None of a key of three names is as long; one of megabytes would keep the event loop from all else for seconds.
MAX_KEY_TOKEN = 4_096


def page_of(
    items: Iterable[T], key: Callable[[T], tuple[str, ...]], weight: Callable[[T], int], size: int, token: str
) -> tuple[list[T], str]:
    """A page of items, in the order of their keys, and the token of the next; as `page_of_sorted`."""
    return page_of_sorted(sorted(items, key=key), key, weight, size, token)


def page_of_sorted(
    items: Sequence[T], key: Callable[[T], tuple[str, ...]], weight: Callable[[T], int], size: int, token: str
) -> tuple[list[T], str]:
    """One page of items, and the token of the next (empty: that was all).

    It ends after one item, or before they have more than MAX_PAGE_BYTES together: the answer must fit into a message.

    Arguments:
        items: in the order of their keys.
        key: unique to each item.
        weight: about how many bytes an item takes.
        size: how many a page holds, at most 1,000; 0 means 100.
        token: of the page before; empty for the first.
    Raises:
        InvalidArgument: the size or the token is none.
    """
    size = size_of_page(size)
    after = key_of_page(token)
    begin = 0 if after is None else bisect_right(items, after, key=key)
    page: list[T] = []
    room = MAX_PAGE_BYTES
    for one in items[begin : begin + size]:
        room -= weight(one)
        if page and room < 0:
            break
        page.append(one)
    return page, token_of(key(page[-1])) if begin + len(page) < len(items) else ""


def size_of_page(size: int) -> int:
    """How many a page holds: what was asked for, at most 1,000; 0 means 100.

    Raises:
        InvalidArgument: the size is none.
    """
    if not 0 <= size <= MAX_PAGE:
        raise invalid("page_size", f"must be between 1 and {MAX_PAGE}, or 0 for {DEFAULT_PAGE}")
    return size or DEFAULT_PAGE


def number_of_page(token: str) -> int | None:
    """The number that a page's token is, where pages go on by numbers; None for the first page.

    Raises:
        InvalidArgument: the token is none.
    """
    if not token:
        return None
    if not token.isascii() or not token.isdigit() or len(token) > 18:
        raise invalid("page_token", "is not one that a page ended with; start without it")
    return int(token)


def token_of(key: tuple[str, ...]) -> str:
    """The token of the page that goes on after a key."""
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in key)


def key_of_page(token: str) -> tuple[str, ...] | None:
    """The key that a page's token stands for, where pages go on by keys; None for the first page.

    Raises:
        InvalidArgument: the token is none.
    """
    if not token:
        return None
    if len(token) > MAX_KEY_TOKEN or not _KEY_TOKEN.fullmatch(token):
        raise invalid("page_token", "is not one that a page ended with; start without it")
    padded = (part + "=" * (-len(part) % 4) for part in token.split("."))
    return tuple(base64.urlsafe_b64decode(part).decode(errors="replace") for part in padded)
