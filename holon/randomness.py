"""Random ids, from the system's generator: fetched for many at once, since each call of it is dear."""

from __future__ import annotations

import os
from collections import deque

BYTES = 16
AT_ONCE = 256

_pool: deque[str] = deque()
# A forked child must not give out what its parent gives out.
os.register_at_fork(after_in_child=_pool.clear)


def random_id() -> str:
    """128 random bits as 32 hexadecimal digits; nobody can guess it. Safe from any thread."""
    while True:
        try:
            return _pool.popleft()
        except IndexError:
            text = os.urandom(BYTES * AT_ONCE).hex()
            _pool.extend(text[at : at + 2 * BYTES] for at in range(0, len(text), 2 * BYTES))
