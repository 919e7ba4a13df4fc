"""The uplink: which job does which task of the parent's, under which lease: in the store, for whichever node links."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from hashlib import blake2b

import orjson

from holon.domain.client import Client
from holon.ports import Document, Shared
from holon.uplink.tenure import TenureLost
from holon.worker.leases import Lease

KIND = "delegations"


@dataclass(slots=True)
class Delegation:
    """A task of the parent's, and the job that does it.

    Attributes:
        parent: whose task it is, by holon id.
        generation, attempt: of the newest lease that was taken.
        run: the attempt with which the job began, where an earlier one of this generation was withdrawn; else 0.
        deadline: when the job is to be stopped, in epoch milliseconds of this holon's store; None: not at all.
        withdrawn: whether the job is cancelled because the lease was taken back.
        version: of its document; 0: not written yet.
    """

    parent: str
    task_id: str
    job_id: str
    generation: int
    attempt: int
    lease_id: str
    run: int = 0
    deadline: int | None = None
    withdrawn: bool = False
    version: int = field(default=0, compare=False)

    @property
    def lease(self) -> Lease:
        """The newest lease."""
        return Lease(self.task_id, self.lease_id)

    @property
    def owner(self) -> Client:
        """Whose the job is here."""
        return owner_of(self.parent)


def owner_of(parent_id: str) -> Client:
    """Whose the jobs are that a parent holon has done here; no client can have such a name."""
    return Client(f"@{parent_id}", plan="parent")


def origin_key(task_id: str, generation: int, run: int) -> str:
    """What makes the creation of a task's job repeatable: the same key never makes a second one.

    The parent is in it by the job's owner.
    """
    return blake2b(orjson.dumps((task_id, generation, run)), digest_size=20).hexdigest()


class Books:
    """The delegations of this holon, as documents: one for each task that is not settled."""

    def __init__(self, store: Shared) -> None:
        self._store = store

    async def load(self) -> list[Delegation]:
        """All that are under way, or not settled; those that are being withdrawn included."""
        return [_read(one) for one in await self._store.documents(KIND) if one.expires_at is None]

    async def find(self, task_id: str) -> Delegation | None:
        """The one of a task."""
        document = await self._store.document(KIND, task_id)
        return None if document is None else _read(document)

    async def write(self, entry: Delegation, expires_in: int | None = None) -> None:
        """Keep an entry as it is now.

        Arguments:
            expires_in: after how many milliseconds it is of no use any more; None: it is settled some day.
        Raises:
            TenureLost: another node has written it meanwhile: the link is that one's.
            ResourceExhausted: (TOO_MANY_DOCUMENTS) there are as many as there may be.
        """
        fields = asdict(entry)
        del fields["version"]
        text = orjson.dumps(fields)
        version = await self._store.put_document(
            KIND, entry.task_id, text, version=entry.version, expires_in=expires_in
        )
        if version is None:
            raise TenureLost(f"another node has taken up task {entry.task_id}")
        entry.version = version

    async def forget(self, entry: Delegation) -> None:
        """The task is settled."""
        await self._store.put_document(KIND, entry.task_id, None, version=entry.version)


def _read(document: Document) -> Delegation:
    return Delegation(**orjson.loads(document.value), version=document.version)
