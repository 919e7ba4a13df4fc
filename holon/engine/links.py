"""Which process of each child is linked, at whichever node of this holon: a note that its node renews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from holon.domain.holarchy import HolonIdentity
from holon.errors import Unavailable
from holon.ports import TRIES, Document, Put, Shared, contended

# It is forgotten with the node that had it.
LINKS = "holon_links"
LINK_MS = 10_000
_AGAIN_S = 5.0
# So many are renewed together.
_AT_ONCE = 500


class Links:
    """Notes in the store which children are linked at this node, so that no other process of them is at another."""

    def __init__(self, store: Shared) -> None:
        self._store = store
        self._versions: dict[str, int] = {}
        # Of whose session each note is: a process may come again before its session of before is over.
        self._whose: dict[str, HolonIdentity] = {}

    def __repr__(self) -> str:
        return f"Links({len(self._versions)})"

    async def check_elsewhere(self, worker_id: str, holon_id: str) -> None:
        """Return when this holon is linked as no other worker now, at whichever node.

        Raises:
            Unavailable: (HOLON_LINKED) it is.
        """
        for one in await self._store.documents(LINKS):
            if one.key != worker_id and _holon_of(one) == holon_id:
                raise Unavailable(
                    f"holon {holon_id} is linked as worker {one.key!r}; all its nodes must connect as one worker, "
                    "with certificates of the same name. If this one has another store, that store is a copy",
                    code="HOLON_LINKED",
                    retry_after=_AGAIN_S,
                )

    async def link(self, worker_id: str, identity: HolonIdentity) -> None:
        """Note that this process of a child is linked.

        Raises:
            Unavailable: (HOLON_LINKED) another process is linked as this worker now.
        """
        mark = _mark(identity)
        for _ in range(TRIES):
            link = await self._store.document(LINKS, worker_id)
            if link is not None and link.value != mark:
                raise Unavailable(
                    f"another process of holon {identity.holon_id} is linked as worker {worker_id!r}. If this one "
                    "has the same store, it takes over when the other ends; otherwise its store was copied",
                    code="HOLON_LINKED",
                    retry_after=_AGAIN_S,
                )
            before = 0 if link is None else link.version
            version = await self._store.put_document(LINKS, worker_id, mark, version=before, expires_in=LINK_MS)
            if version is not None:
                self._versions[worker_id] = version
                self._whose[worker_id] = identity
                return
        raise contended(LINKS)

    async def unlink(self, worker_id: str, identity: HolonIdentity) -> None:
        """Note that the session of a child is over; one that has come since, here or at another node, stays."""
        if self._whose.get(worker_id) is not identity:
            return
        del self._whose[worker_id]
        await self._store.put_document(LINKS, worker_id, None, version=self._versions.pop(worker_id, 0))

    async def renew(self, linked: Mapping[str, HolonIdentity]) -> None:
        """Have the notes of children stay while they are linked here, many in one call.

        Arguments:
            linked: all of them, by worker.
        """
        notes = [
            Put(worker_id, _mark(identity), self._versions.get(worker_id, 0), LINK_MS)
            for worker_id, identity in linked.items()
        ]
        for at in range(0, len(notes), _AT_ONCE):
            await self._renew(notes[at : at + _AT_ONCE], linked)

    async def _renew(self, notes: Sequence[Put], linked: Mapping[str, HolonIdentity]) -> None:
        for note, renewed in zip(notes, await self._store.put_documents(LINKS, notes), strict=True):
            if renewed is not None:
                await self._renewed(note, renewed, linked)
                continue
            stored = await self._store.document(LINKS, note.key)
            if stored is None or stored.value == note.value:
                # This node stood still for so long that it ran out, or did not hear of an earlier renewal.
                await self._renewed(note, 0 if stored is None else stored.version, linked)

    async def _renewed(self, note: Put, version: int, linked: Mapping[str, HolonIdentity]) -> None:
        if note.key in linked and self._versions.get(note.key, 0) == note.version:
            self._versions[note.key] = version
        elif version and note.key not in self._versions:
            # It left meanwhile, and nobody else would take back what was written since.
            await self._store.put_document(LINKS, note.key, None, version=version)


def _mark(identity: HolonIdentity) -> bytes:
    return orjson.dumps({"holon_id": identity.holon_id, "instance": identity.instance})


def _holon_of(link: Document) -> str:
    """The holon that is linked; empty if that cannot be read."""
    try:
        return str(orjson.loads(link.value)["holon_id"])
    except (ValueError, TypeError, KeyError):
        return ""
