"""Which process of each child is linked, at whichever node of this holon: a note that its node renews."""

from __future__ import annotations

from holon.domain.holarchy import HolonIdentity
from holon.errors import Unavailable
from holon.ports import TRIES, Shared, contended

# It is forgotten with the node that had it.
LINKS = "holon_links"
LINK_MS = 10_000
AGAIN_S = 5.0


class Links:
    """Notes in the store which children are linked at this node, so that no other process of them is at another."""

    def __init__(self, store: Shared) -> None:
        self._store = store
        self._versions: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Links({len(self._versions)})"

    async def workers(self) -> tuple[str, ...]:
        """Those that are linked now, at whichever node."""
        return tuple(one.key for one in await self._store.documents(LINKS))

    async def link(self, worker_id: str, identity: HolonIdentity) -> None:
        """Note that this process of a child is linked.

        Raises:
            Unavailable: (HOLON_LINKED) another process is linked as this worker now.
        """
        mark = identity.instance.encode()
        for _ in range(TRIES):
            link = await self._store.document(LINKS, worker_id)
            if link is not None and link.value != mark:
                raise Unavailable(
                    f"another process of holon {identity.holon_id} is linked as worker {worker_id!r}; if this one "
                    "belongs to the same store, it takes over once that one is gone; if not, its store was copied",
                    code="HOLON_LINKED",
                    retry_after=AGAIN_S,
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

    async def renew(self, worker_id: str, identity: HolonIdentity) -> None:
        """Have the note of a child stay while it is linked here."""
        mark, version = identity.instance.encode(), self._versions.get(worker_id, 0)
        renewed = await self._store.put_document(LINKS, worker_id, mark, version=version, expires_in=LINK_MS)
        if renewed is None and await self._store.document(LINKS, worker_id) is None:
            # This node stood still for so long that it ran out.
            renewed = 0
        # It may have left meanwhile, or come again.
        if renewed is not None and self._versions.get(worker_id) == version:
            self._versions[worker_id] = renewed
