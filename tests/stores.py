"""Which stores the tests run on: the environment's HOLON_TEST_STORAGE, which `scripts/test --storage` sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

_KINDS = {
    "memory": "memory",
    "sqlite": "sqlite",
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "redis+sentinel": "redis",
    "rediss+sentinel": "redis",
    "redis-cluster": "redis-cluster",
    "redis+cluster": "redis-cluster",
    "rediss+cluster": "redis-cluster",
    "postgresql": "postgresql",
}
# The STORAGE_URI of an empty store, in a folder where it may have files.
NewStore: TypeAlias = Callable[[Path], str]
VARIABLE = "HOLON_TEST_STORAGE"


def asked() -> tuple[str, ...]:
    """The kinds of store that were asked for; none if nobody asked.

    They are named with commas between them. Of a URI only its scheme counts: each test makes a store of its own.

    Raises:
        ValueError: one of them is no kind of store.
    """
    names = [one.partition(":")[0] for one in os.environ.get(VARIABLE, "").split(",") if one]
    wrong = [name for name in names if name not in _KINDS]
    if wrong:
        raise ValueError(
            f"{VARIABLE}: {', '.join(wrong)} is no kind of store; there are memory, sqlite, redis and postgresql, "
            "and for the suite of rules redis-cluster"
        )
    return tuple(dict.fromkeys(_KINDS[name] for name in names))


def chosen(among: Iterable[str], unasked: Iterable[str] | None = None) -> list[str]:
    """The kinds to run on, of those that a suite can run on.

    Arguments:
        among: those.
        unasked: what it runs on when nobody asked; all of them by default.
    """
    wanted = asked() or (among if unasked is None else unasked)
    return [kind for kind in among if kind in wanted]
