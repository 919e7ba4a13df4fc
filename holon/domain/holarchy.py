"""The domain: holons above and below each other: what one says of itself to its parent, and what a chain must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from holon.domain.value import Value

# Of how many holons below it a holon tells its parent.
MAX_BELOW = 1_000
# Of one line of parents.
MAX_DEPTH = 64
_NUMBER = re.compile("[0-9]{1,16}")


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


class LinkClaim(Value):
    """What speaks for a holon's link with its parent, where each of two holons names the other one as its parent.

    `made_at` is when the holon's store was made, in epoch milliseconds; 0: that is not known. `is_used` says whether a
    task has gone over the link.
    """

    holon_id: str
    made_at: int = 0
    is_used: bool = False

    def precedes(self, other: LinkClaim) -> bool:
        """Whether this link stays, and not the other one."""
        return self._order < other._order

    def told(self) -> dict[str, str]:
        """The claim as the metadata of an error."""
        return {
            "holon_id": self.holon_id,
            "store_made_at": str(self.made_at),
            "link_used": "true" if self.is_used else "false",
        }

    @property
    def _order(self) -> tuple[bool, int, str]:
        return not self.is_used, self.made_at, self.holon_id


def claim_of(metadata: Mapping[str, str]) -> LinkClaim | None:
    """The claim that the metadata of an error tells; None where it tells none."""
    holon_id, made_at = metadata.get("holon_id", ""), metadata.get("store_made_at", "")
    if not holon_id or not _NUMBER.fullmatch(made_at):
        return None
    return LinkClaim(holon_id, int(made_at), metadata.get("link_used") == "true")


def repeated(chain: Iterable[str]) -> str | None:
    """An id that a chain of holons has twice: work that went along it would come round; None when there is none."""
    seen: set[str] = set()
    for holon_id in chain:
        if holon_id in seen:
            return holon_id
        seen.add(holon_id)
    return None
