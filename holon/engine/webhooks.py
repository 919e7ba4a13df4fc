"""Webhooks: whoever is to be told of a job's end is, once it is over, until it has taken that or is given up.

What is to be told stays in the store until then. It is told at least once: a crash or a lost answer repeats it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress

from holon.domain.webhook import again_after, target_of
from holon.engine.end_messages import end_message, message_id
from holon.engine.lanes import Lanes
from holon.errors import StoreUnavailable
from holon.ports import Answer, Delivery, Ends, Heard, Hint, JobRecord, Storage
from holon.telemetry.metrics import WebhookMetrics
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# So many are told at once: in all, of one client's, and at one host.
MOST = 256
MOST_OF_CLIENT = 64
MOST_AT_HOST = 16
# So many are taken out of the store together.
BATCH = 64
# A hint can be lost, and other nodes give none; this is how long an end can then wait.
LOOK_EVERY_S = 15.0
# A try takes at most ten seconds; nobody else may make one meanwhile, nor while the store is told of it.
HOLD_MS = 20_000
# A node that ends hands back what it has in hand, if the store takes that so soon.
HAND_BACK_S = 2.0
# A store that has something due and gives nothing is asked again after so long.
_PAUSE_S = 0.05


class Webhooks:
    """Tells, while it runs.

    Arguments:
        store: where ends are taken, and where it is said what became of them.
        delivery: what carries messages; None: nothing is to be sent here, and what is in the store all the same counts
            as not taken.
        give_up: how many milliseconds after a job's end it is tried at most.
    Attributes:
        metrics: what it has done.
    """

    def __init__(self, store: Storage, delivery: Delivery | None, give_up: int) -> None:
        self._store = store
        self._delivery = delivery
        self._give_up = give_up
        self._since = store.now()
        self.metrics = WebhookMetrics()
        self._hosts = Lanes(MOST_AT_HOST)
        self._clients = Lanes(MOST_OF_CLIENT)
        # By job: those that are the store's to be told of still.
        self._in_hand: set[str] = set()
        self._telling = 0
        self._told: list[str] = []
        self._again: list[tuple[str, int]] = []
        # When the next is due, as far as is known.
        self._due: int | None = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._outcome = asyncio.Event()
        self._settled = asyncio.Event()
        self._closed = False
        self._failed = Seldom(log)

    def __repr__(self) -> str:
        return f"Webhooks(telling={self._telling}, in hand={len(self._in_hand)})"

    @property
    def telling(self) -> int:
        """How many are told at this moment."""
        return self._telling

    async def run(self) -> None:
        """Tell what is to be told, and what comes, until cancelled; what is in hand then is handed back."""
        hear_no_more = self._store.hear(self._hear)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take(group), name="webhook-taker")
                group.create_task(self._settle(), name="webhook-settler")
        finally:
            hear_no_more()
            await self._hand_back()

    async def drain(self) -> None:
        """Take no more, and wait until what is told now is, or is not, and the store knows."""
        self._closed = True
        while self._in_hand:
            self._settled.clear()
            await self._settled.wait()

    def _hear(self, hint: Hint) -> None:
        if hint.ends:
            self._due = 0
            self._some.set()

    async def _take(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._until_due()
            await self._until_room()
            if self._closed:
                return
            # A hint that comes meanwhile may tell of one that this reply does not know.
            self._due = None
            try:
                ends = await self._store.take_ends(min(BATCH, MOST - len(self._in_hand)), HOLD_MS)
            except StoreUnavailable as error:
                self._due = 0
                self._failed.warn("webhooks cannot be looked for", why=error.message)
                await asyncio.sleep(error.again_after)
                continue
            due = self._note_due(ends)
            for record in ends.jobs:
                self._begin(record, group)
            if not ends.jobs and due is not None and due <= self._store.now():
                await asyncio.sleep(_PAUSE_S)

    def _note_due(self, ends: Ends) -> int | None:
        self._due = min((due for due in (ends.next_due, self._due) if due is not None), default=None)
        return self._due

    async def _until_due(self) -> None:
        while True:
            self._some.clear()
            left = LOOK_EVERY_S
            if self._due is not None:
                left = min(left, (self._due - self._store.now()) / 1000)
            if left <= 0:
                return
            # Each of the nodes that share a store waits for the same one.
            left += random.uniform(0, self._store.spread) / 1000  # noqa: S311  no secret
            try:
                async with asyncio.timeout(left):
                    await self._some.wait()
            except TimeoutError:
                return

    async def _until_room(self) -> None:
        while len(self._in_hand) >= MOST:
            self._room.clear()
            await self._room.wait()

    def _begin(self, record: JobRecord, group: asyncio.TaskGroup) -> None:
        job, now = record.job, self._store.now()
        if job.id in self._in_hand:
            # The store was not told in time what became of it. It will be.
            return
        self._in_hand.add(job.id)
        ended = record.finished_at or now
        host = _host(job.webhook)
        if not (self._hosts.has_room(host) and self._clients.has_room(job.owner)):
            full = [
                lanes.turn(name, now)
                for lanes, name in ((self._hosts, host), (self._clients, job.owner))
                if not lanes.has_room(name)
            ]
            # One who is told more than it takes is given up as well, once there was all the time to try.
            if now - max(ended, self._since) >= self._give_up:
                self._lose(job.id, host, "too much waits for it")
            else:
                self._note_again(job.id, max(full))
            return
        self._hosts.enter(host)
        self._clients.enter(job.owner)
        self._telling += 1
        telling = self._tell(job.id, job.owner, host, job.webhook, end_message(job), ended)
        group.create_task(telling, name=f"webhook-{job.id}")

    async def _tell(self, job_id: str, owner: str, host: str, url: str, body: bytes, ended: int) -> None:
        began = self._store.now()
        try:
            answer = await self._send(url, job_id, body)
        finally:
            now = self._store.now()
            self._telling -= 1
            self._hosts.leave(host, now - began, now)
            self._clients.leave(owner, now - began, now)
        self.metrics.tries.add(answer.heard.value)
        if answer.heard is Heard.TOLD:
            self.metrics.told.add("told")
            self.metrics.delay.observe((now - ended) / 1000)
            log.debug("job %s: %s was told of its end", job_id, host, extra={"job_id": job_id})
            self._note_told(job_id)
            return
        wait = again_after(now - ended, self._give_up, answer.again_after, random.random())  # noqa: S311  jitter
        if answer.heard is Heard.GONE or wait is None:
            self._lose(job_id, host, answer.why)
            return
        self._failed.warn("job %s: %s was not told of its end", job_id, host, why=answer.why, job_id=job_id)
        self._note_again(job_id, wait)

    async def _send(self, url: str, job_id: str, body: bytes) -> Answer:
        if self._delivery is None:
            return Answer(Heard.FORBIDDEN, "this node sends no webhooks: WEBHOOK_SECRET is unset")
        try:
            return await self._delivery.send(url, message_id(job_id), body)
        except Exception as error:
            # Whatever one receiver does, the others are told.
            log.exception("job %s: a webhook failed", job_id, extra={"job_id": job_id})
            return Answer(Heard.UNREACHED, type(error).__name__)

    def _lose(self, job_id: str, host: str, why: str) -> None:
        self.metrics.told.add("given_up")
        said = "job %s: %s is not told of its end, and is tried no more: %s"
        log.warning(said, job_id, host, why, extra={"job_id": job_id})
        self._note_told(job_id)

    def _note_told(self, job_id: str) -> None:
        self._told.append(job_id)
        self._outcome.set()

    def _note_again(self, job_id: str, after: int) -> None:
        self._again.append((job_id, after))
        self._outcome.set()

    async def _settle(self) -> None:
        while True:
            await self._outcome.wait()
            self._outcome.clear()
            told, self._told = self._told, []
            again, self._again = self._again, []
            try:
                await self._store.settle_ends(told, again)
            except BaseException as error:
                self._told, self._again = told + self._told, again + self._again
                if not isinstance(error, StoreUnavailable):
                    raise
                self._failed.warn("what became of webhooks cannot be stored", why=error.message)
                await asyncio.sleep(error.again_after)
                self._outcome.set()
                continue
            self._in_hand.difference_update(told, (job_id for job_id, _ in again))
            if again:
                due = self._store.now() + min(after for _, after in again)
                self._due = due if self._due is None else min(due, self._due)
                self._some.set()
            self._room.set()
            self._settled.set()

    async def _hand_back(self) -> None:
        """Whoever comes next need not wait until the hold of what this node has in hand is over."""
        known = {*self._told, *(job_id for job_id, _ in self._again)}
        again = [*self._again, *((job_id, 0) for job_id in self._in_hand - known)]
        if not (self._told or again):
            return
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(HAND_BACK_S):
                await self._store.settle_ends(self._told, again)


def _host(url: str) -> str:
    """Where it leads, without what may be secret."""
    try:
        return target_of(url).place
    except ValueError:
        return "its receiver"
