"""The nodes that share a store: each publishes itself as a shared record, and reads the records of all.

A record that is not renewed expires by the store's clock. So a node is gone when the store says so, and never because
the store did not answer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

from holon.domain.value import Value, replace
from holon.errors import StoreBroken, StoreUnavailable
from holon.stores.port import Change, Record, RowStore
from holon.stores.records import SCHEMA

# The kind of the shared records; the key is the node's name.
KIND = "node"
# A record expires after this many milliseconds.
TTL_MS = 10_000
# A record is written again after this time (seconds).
RENEW_S = 2.5
# The records are read at least this often (seconds).
LOOK_S = 1.0
# Records may have expired while the store was away. Nodes that were known before stay known for so long after it is
# back (seconds), so that they can publish themselves again.
BACK_S = 2 * RENEW_S
# Several processes may write one record at once. The rest is tried at the next look.
TRIES = 3


class Member(Value):
    """What a node publishes of itself.

    Attributes:
        process: random, new for each process.
        shards: how many shards it owns.
        draining: whether it gives its shards away, and takes none.
        reads: the newest schema of rows that it reads.
    """

    process: str
    shards: int = 0
    draining: bool = False
    reads: int = 1


_encode = Encoder().encode
_decode = Decoder(Member).decode


class Members:
    """Publishes this node, and knows the live ones.

    Arguments:
        store: the row store.
        node: the name of this node.
        reads: the newest schema of rows that this process reads.

    Attributes:
        process: the random id of this process.
    """

    def __init__(self, store: RowStore, node: str, reads: int = SCHEMA) -> None:
        self.process = secrets.token_hex(8)
        self.reads = reads
        self._store = store
        self._node = node
        self._own = Member(self.process, reads=reads)
        self._live: dict[str, Member] = {}
        self._left = False
        # The record of this node as it was written last, and when, by the loop's time.
        self._written: Member | None = None
        self._written_at = 0.0
        self._version = 0
        self._looked_at = float("-inf")
        # Since when every look was answered, by the loop's time; None: the last one was not.
        self._answered_since: float | None = float("-inf")
        self._changed = asyncio.Event()
        self._looking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Members({self._node}, live={sorted(self._live)})"

    @property
    def live(self) -> Mapping[str, Member]:
        """The live nodes by name, as of the last look that the store answered. This node is one of them."""
        return MappingProxyType(self._live)

    @property
    def all_read(self) -> int:
        """The newest schema of rows that this process and all live nodes read."""
        return min([self.reads, *(member.reads for member in self._live.values())])

    def publish(self, *, shards: int | None = None, draining: bool | None = None) -> None:
        """Change what this node publishes. A number of shards goes out with the next look, the rest at once."""
        own = self._own
        if shards is not None:
            self._own = replace(self._own, shards=shards)
        if draining is not None:
            self._own = replace(self._own, draining=draining)
        if own.draining != self._own.draining:
            self._changed.set()

    async def run(self) -> None:
        """Look when something important changed, and when the last look is old, until cancelled."""
        while True:
            try:
                # The owner looks too, but not while it loads shards.
                async with asyncio.timeout_at(self._looked_at + 1.5 * LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                if asyncio.get_running_loop().time() < self._looked_at + 1.5 * LOOK_S:
                    continue
            await self.look()

    async def look(self) -> None:
        """Write this node's record if it is due, and read the records of all nodes.

        If the store does not answer, all stays as it is.
        """
        async with self._looking:
            self._looked_at = asyncio.get_running_loop().time()
            self._changed.clear()
            try:
                await self._renew()
                records = await self._store.records(KIND)
            except StoreBroken:
                raise
            except StoreUnavailable:
                self._answered_since = None
            else:
                self._read(records)

    async def leave(self) -> None:
        """Delete this node's record; the node is not published any more."""
        async with self._looking:
            self._left = True
            try:
                for _ in range(TRIES):
                    change = Change(KIND, self._node, self._version, None)
                    [(_, record)] = await self._store.exchange([change])
                    member = _member(record)
                    if record is None or member is None or member.process != self.process:
                        return
                    self._version = record.version
            except StoreUnavailable:
                # The record expires by itself.
                pass

    async def _renew(self) -> None:
        """Write this node's record if it changed, or is old."""
        now, own = asyncio.get_running_loop().time(), self._own
        if self._left or (own == self._written and now - self._written_at < RENEW_S):
            return
        value = _encode(own)
        for _ in range(TRIES):
            # The record may be of the process before this one, or of an earlier try.
            [(made, record)] = await self._store.exchange([Change(KIND, self._node, self._version, value, TTL_MS)])
            self._version = record.version if record is not None else 0
            if made:
                self._written, self._written_at = own, now
                return

    def _read(self, records: Sequence[Record]) -> None:
        now = asyncio.get_running_loop().time()
        if self._answered_since is None:
            self._answered_since = now
        live = {record.key: member for record in records if (member := _member(record)) is not None}
        known = self._live if now - self._answered_since < BACK_S else {}
        self._live = {**known, **live}


def _member(record: Record | None) -> Member | None:
    """What a record says; None if it cannot be read."""
    if record is None:
        return None
    try:
        return _decode(record.value)
    except MsgspecError:
        return None
