"""Which process of each child is linked, at whichever node of this holon: a note that its node renews."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from holon.domain.holarchy import HolonIdentity
from holon.errors import Unavailable
from holon.ports import TRIES, Document, Put, Shared, contended

# It is forgotten with the node that had it.
LINKS = "holon_links"
LINK_MS = 10_000
_AGAIN_S = 5.0


class Links:
    """Notes in the store which children are linked at this node, so that no other process of them is at another."""

    def __init__(self, store: Shared) -> None:
        self._store = store
        self._versions: dict[str, int] = {}

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
                    f"holon {holon_id} is linked as worker {one.key!r}: all of its nodes come as one worker, by "
                    "certificates of one name; if this one has another store, that is a copy",
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
                    f"another process of holon {identity.holon_id} is linked as worker {worker_id!r}; if this one "
                    "belongs to the same store, it takes over once that one is gone; if not, its store was copied",
                    code="HOLON_LINKED",
                    retry_after=_AGAIN_S,
                )
            before = 0 if link is None else link.version
            version = await self._store.put_document(LINKS, worker_id, mark, version=before, expires_in=LINK_MS)
            if version is not None:
                self._versions[worker_id] = version
                return
        raise contended(LINKS)

    async def unlink(self, worker_id: str) -> None:
        """Note that the child that this node had linked is gone; one that another node has linked since stays."""
        await self._store.put_document(LINKS, worker_id, None, version=self._versions.pop(worker_id, 0))

    async def renew(self, linked: Mapping[str, HolonIdentity]) -> None:
        """Have the notes of children stay while they are linked here, in one call.

        Arguments:
            linked: all of them, by worker.
        """
        notes = [
            Put(worker_id, _mark(identity), version, LINK_MS)
            for worker_id, identity in linked.items()
            if (version := self._versions.get(worker_id)) is not None
        ]
        for note, renewed in zip(notes, await self._store.put_documents(LINKS, notes) if notes else (), strict=True):
            if renewed is not None:
                await self._renewed(note, renewed)
            elif await self._store.document(LINKS, note.key) is None:
                # This node stood still for so long that it ran out.
                await self._renewed(note, 0)

    async def _renewed(self, note: Put, version: int) -> None:
        if self._versions.get(note.key) == note.version:
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
