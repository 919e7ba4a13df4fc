"""Which worker each child holon is: the one that it came as first, until an operator says otherwise."""

from __future__ import annotations

from holon.errors import PermissionDenied
from holon.ports import Change, Document, Put, Shared, change_document

# By the id of the holon, the worker. There is one more document of this kind for each pin of a child.
KIND = "holon_workers"


class Claims:
    """Says of each holon id which worker it belongs to, alike at all nodes: no other worker has it meanwhile.

    Only the worker that has come as a holon gives its id away, and that it is away itself is no reason: else whoever
    knows the id could take it then, and keep that holon out.
    """

    def __init__(self, store: Shared) -> None:
        self._store = store

    def __repr__(self) -> str:
        return "Claims()"

    async def check(self, worker_id: str, holon_id: str) -> bool:
        """Whether it is this worker's already.

        Raises:
            PermissionDenied: (HOLON_CHANGED) it is another's.
        """
        document = await self._store.document(KIND, holon_id)
        return document is not None and _is_of(document, worker_id)

    async def claim(self, worker_id: str, holon_id: str) -> None:
        """Have it be this worker's.

        Raises:
            PermissionDenied: (HOLON_CHANGED) it is another's.
        """

        def change(document: Document | None) -> tuple[None, Change | None]:
            is_ours = document is not None and _is_of(document, worker_id)
            return None, None if is_ours else Change(worker_id.encode())

        await change_document(self._store, KIND, holon_id, change)

    async def forget(self, worker_id: str, but: str = "") -> str:
        """Give back what this worker has claimed, but for this holon; which that was, empty if it is none."""
        claims = await self._store.documents(KIND)
        given_back = [one for one in claims if one.value == worker_id.encode() and one.key != but]
        # What is claimed again meanwhile stays.
        await self._store.put_documents(KIND, [Put(one.key, None, one.version) for one in given_back])
        return given_back[0].key if given_back else ""


def elsewhere(worker_id: str, holon_id: str, other: str) -> PermissionDenied:
    """The refusal of a holon that comes as one worker, and is another."""
    return PermissionDenied(
        f"holon {holon_id} is worker {other!r} at its parent, but connects as {worker_id!r}. All its nodes are one "
        f"worker: in workers.toml of the parent, map the certificates of all to {other!r} (cn, a pattern). If it "
        f"should be {worker_id!r} from now on, run `holon uplink accept {other}` on its parent. Otherwise its store "
        "is a copy, or it claims to be another holon",
        code="HOLON_CHANGED",
    )


def _is_of(document: Document, worker_id: str) -> bool:
    other = document.value.decode(errors="replace")
    if other != worker_id:
        raise elsewhere(worker_id, document.key, other)
    return True
