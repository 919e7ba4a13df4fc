"""Random ids, from the system's generator: fetched for many at once, since each call of it is dear."""

from __future__ import annotations

import os
import re
from collections import deque

BYTES = 16
AT_ONCE = 256
# So many digits of an ordered id are its time.
_TIME_DIGITS = 12

_pool: deque[str] = deque()
_ID = re.compile(f".{{{2 * BYTES}}}")
# The two bits that say whose rules an id is made by, in front of two random ones.
_VARIANT = {digit: "89ab"[number % 4] for number, digit in enumerate("0123456789abcdef")}
# A forked child must not give out what its parent gives out.
os.register_at_fork(after_in_child=_pool.clear)


def random_id() -> str:
    """128 random bits as 32 hexadecimal digits; nobody can guess it. Safe from any thread."""
    while True:
        try:
            return _pool.popleft()
        except IndexError:
            text = os.urandom(BYTES * AT_ONCE).hex()
            _pool.extend(_ID.findall(text))


def ordered_id(now: int) -> str:
    """A UUID of version 7 (RFC 9562) as 32 hexadecimal digits, of this time in epoch milliseconds; nobody can guess it.

    It sorts behind those of earlier times, so that an index of many grows at its end. One of random ids is written to
    everywhere: nearly each new row dirties a page of its own.
    """
    bits = random_id()
    return f"{now & 0xFFFFFFFFFFFF:012x}7{bits[:3]}{_VARIANT[bits[3]]}{bits[4:19]}"


def times_of(beginning: str) -> tuple[int, int]:
    """The first and the last time, in epoch milliseconds, of the ordered ids that begin so.

    Arguments:
        beginning: hexadecimal digits, at least one.
    """
    digits = beginning[:_TIME_DIGITS]
    return int(digits.ljust(_TIME_DIGITS, "0"), 16), int(digits.ljust(_TIME_DIGITS, "f"), 16)
