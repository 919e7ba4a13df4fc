"""The match keys behind which tasks wait for a lease, in turn: of very many the store is named a part at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice

# So many are named for one session in a call. Of each the store looks at the first task, for each one that it leases;
# and thousands may wait where each task has a price or contracts of its own.
KEYS_AT_ONCE = 128
# Among them so many of those that came last: a task that goes before the others is not to wait for its turn.
NEWEST = 32
# Where the next ones are for one session, they are among so many.
LOOK_AT = 4 * KEYS_AT_ONCE


class Queued(Collection[str]):
    """Match keys in the order in which they are named next: those that were named and are left come after the rest."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}
        # Those of them that were not named since they came.
        self._new: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"Queued({len(self._keys)})"

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def add(self, *keys: str) -> None:
        """Tasks wait behind these; those of which that is known keep their place."""
        new = dict.fromkeys([key for key in keys if key not in self._keys])
        self._keys.update(new)
        self._new.update(new)

    def named(self, keys: Iterable[str], left: Iterable[str]) -> None:
        """The store was named some keys, and tells behind which tasks are left: those are named last from now on."""
        for key in keys:
            self._keys.pop(key, None)
            self._new.pop(key, None)
        self._keys.update(dict.fromkeys(left))

    def any_of(self, keys: AbstractSet[str]) -> bool:
        """Whether tasks wait behind one of these."""
        # This way round the fewer of both are looked at.
        return not self._keys.keys().isdisjoint(keys)

    def all_of(self, keys: AbstractSet[str]) -> AbstractSet[str]:
        """Those of these behind which tasks wait, in no order."""
        return self._keys.keys() & keys if self._keys else frozenset()

    def next_of(self, keys: AbstractSet[str], but: AbstractSet[str] = frozenset()) -> Collection[str]:
        """The next of these that are to be named, KEYS_AT_ONCE at most.

        Arguments:
            but: those that are not.
        """
        if len(self._keys) <= KEYS_AT_ONCE or len(keys) <= KEYS_AT_ONCE:
            return self.all_of(keys) - but
        wanted = (key for key in islice(self._keys, LOOK_AT) if key in keys and key not in but)
        first = list(islice(wanted, KEYS_AT_ONCE))
        if len(first) < KEYS_AT_ONCE:
            # Most may be for others. Which ones are not is found faster than the first of them.
            found = self.all_of(keys) - but
            if len(found) <= KEYS_AT_ONCE:
                return found
            first = list(islice((key for key in self._keys if key in found), KEYS_AT_ONCE))
        newest = (key for key in islice(reversed(self._new), LOOK_AT) if key in keys and key not in but)
        return list(dict.fromkeys((*islice(newest, NEWEST), *first)))[:KEYS_AT_ONCE]
