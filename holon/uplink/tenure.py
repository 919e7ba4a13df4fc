"""The uplink: which node of a holon links with the parent: the one that has the lease in the holon's store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import orjson

from holon.domain.value import Value
from holon.errors import StoreUnavailable
from holon.ports import Document, DocumentHints, Shared
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

KIND = "uplink"
KEY = "lease"
LEASE_MS = 10_000
_RENEW_S = 3.0
# So long a node keeps the lease that does not reach the parent, where others wait for it. It is twice as long each time
# it was no use, and at last the second: perhaps nobody reaches the parent.
UNREACHED_S, UNREACHED_LONGEST_S = 15.0, 60.0
# For how long after that it leaves the lease to the others. They look once it has run out, though no hint came.
LEFT_S = LEASE_MS / 1000 + 2


class TenureLost(Exception):
    """Expected: another node of the holon links with the parent now, or may, or the store is away for too long."""


class _Held(Value):
    """Who has the lease, and until when, in epoch milliseconds."""

    epoch: int = 0
    node: str = ""
    until: int = 0


class Tenure:
    """The lease on the link. Each take raises the epoch, by which the parent knows the newest holder.

    Arguments:
        store: where the lease is.
        now: the store's clock, in epoch milliseconds.
        node: names this node, also when it has started again: what it had is its own at once.
        instance: names this process.

    Attributes:
        hints: is to be told when documents change; perhaps the lease is free.
    """

    def __init__(self, store: Shared, now: Callable[[], int], node: str, instance: str) -> None:
        self.instance = instance
        self.epoch = 0
        self._node = node
        self._store = store
        self._now = now
        self._version = 0
        self._until = 0.0
        self._told = ""
        self._unreached = UNREACHED_S
        self._left_until = 0.0
        self._away = Seldom(log)
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"Tenure(epoch={self.epoch}, instance={self.instance})"

    async def take(self) -> None:
        """Return once this node has the lease."""
        left = self._left_until - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)
        while True:
            try:
                wait = await self._try()
            except StoreUnavailable as error:
                self._away.warn("the lease on the parent link cannot be read", why=error.message)
                wait = error.again_after
            if wait is None:
                self._told = ""
                log.info("this node now has the parent link, epoch %d", self.epoch)
                return
            await self.hints.wait(wait)

    async def keep(self, reached: Callable[[], bool], others: Callable[[], bool]) -> None:
        """Renew the lease until cancelled.

        Arguments:
            reached: whether this node has a session with the parent.
            others: whether other nodes wait for the lease.
        Raises:
            TenureLost: another node has it, it could not be renewed in time, or it was given up: the parent was not
                reached for a while.
        """
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(_RENEW_S)
            if reached():
                last, self._unreached = loop.time(), UNREACHED_S
            elif loop.time() - last >= self._unreached and others():
                await self._leave_to_others()
                raise TenureLost(
                    f"this node did not reach the parent for {loop.time() - last:.0f} s, so another node may take "
                    "the link"
                )
            try:
                async with asyncio.timeout_at(self._until):
                    kept = await self._write(self.epoch, LEASE_MS)
            except (StoreUnavailable, TimeoutError) as error:
                if loop.time() + _RENEW_S >= self._until:
                    raise TenureLost(
                        "the lease on the parent link could not be renewed; the store is not available"
                    ) from error
                continue
            if not kept:
                raise TenureLost("another node of this holon has the parent link")

    async def give_up(self) -> None:
        """Let another node have the lease at once; without the store, once it has run out."""
        if not self.epoch:
            return
        try:
            await self._write(self.epoch, 0)
        except StoreUnavailable as error:
            log.warning("the lease on the parent link cannot be removed, and expires: %s", error.message)

    async def _leave_to_others(self) -> None:
        self._unreached = min(2 * self._unreached, UNREACHED_LONGEST_S)
        self._left_until = asyncio.get_running_loop().time() + LEFT_S
        await self.give_up()

    async def _try(self) -> float | None:
        """Take the lease if it is free; else how many seconds to wait."""
        document = await self._store.document(KIND, KEY)
        held = _held(document) if document is not None else _Held()
        left = held.until - self._now()
        if left > 0 and held.node != self._node:
            self._tell(held.node)
            return left / 1000 + 0.01
        epoch = held.epoch
        self._version = 0 if document is None else document.version
        if not await self._write(epoch + 1, LEASE_MS):
            return 0.0
        self.epoch = epoch + 1
        return None

    def _tell(self, node: str) -> None:
        if node != self._told:
            self._told = node
            log.info("node %s has the parent link; this node takes it when that one ends, or is silent for 10 s", node)

    async def _write(self, epoch: int, lasts: int) -> bool:
        began = asyncio.get_running_loop().time()
        lease = orjson.dumps({"epoch": epoch, "node": self._node, "until": self._now() + lasts})
        version = await self._store.put_document(KIND, KEY, lease, version=self._version)
        if version is None:
            return False
        self._version, self._until = version, began + lasts / 1000
        return True


def _held(document: Document) -> _Held:
    try:
        said = orjson.loads(document.value)
        return _Held(int(said["epoch"]), str(said["node"]), int(said["until"]))
    except (ValueError, TypeError, KeyError):
        pass
    # Each take has written it once: no epoch so far is above its version, which never falls.
    log.error("the stored lease on the parent link cannot be read, and is replaced")
    return _Held(document.version)
