"""The domain: holons above and below each other: what one says of itself to its parent, and what a chain must be."""

from __future__ import annotations

from collections.abc import Iterable

from holon.domain.value import Value

# Of how many holons below it a holon tells its parent.
MAX_BELOW = 1_000
# Of one line of parents.
MAX_DEPTH = 64


class HolonIdentity(Value):
    """A holon, as it introduces itself to its parent.

    `epoch` is raised each time that one of its nodes takes over the link; `instance` names that node's process. `below`
    are the ids of all holons under it, without itself.
    """

    holon_id: str
    epoch: int
    instance: str
    below: tuple[str, ...] = ()
    label: str = ""


class Chain(Value):
    """The line of holons above one: `ids`, root first, with its parent last.

    `most` is how many holons the line may have in all, further down too; None: nobody above has a limit.
    """

    ids: tuple[str, ...] = ()
    most: int | None = None


def repeated(chain: Iterable[str]) -> str | None:
    """An id that a chain of holons has twice: work that went along it would come round; None when there is none."""
    seen: set[str] = set()
    for holon_id in chain:
        if holon_id in seen:
            return holon_id
        seen.add(holon_id)
    return None
