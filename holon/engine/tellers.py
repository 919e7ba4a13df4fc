"""Receivers are told of what is due, each of one thing of a job at a time, until they have taken it or it is given up.

What is to be told stays in the store until then. It is told at least once: a crash or a lost answer repeats it.
"""

from __future__ import annotations

import asyncio
import logging
import random

from holon.domain.value import Value
from holon.domain.webhook import again_after, target_of
from holon.engine.lanes import Lanes
from holon.engine.sources import Due, Message, Outcome, Source
from holon.errors import HolonError, StoreUnavailable
from holon.ports import Answer, Delivery, Heard, Hint, Storage
from holon.telemetry.metrics import WebhookMetrics
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# So many are taken out of the store together.
BATCH = 64
# A hint can be lost, and other nodes give none; this is how long something can then wait.
LOOK_EVERY_S = 15.0
# A try takes at most ten seconds; nobody else may make one meanwhile, nor while the store is told of it.
HOLD_MS = 20_000
# A node that ends hands back what it has in hand, if the store takes that so soon.
HAND_BACK_S = 2.0
# Of so many that are tried again it is known since when; of one that is forgotten the waits begin anew.
MOST_TRIED = 10_000
# A store that has something due and gives nothing is asked again after so long.
_PAUSE_S = 0.05


class Room(Value):
    """How many are told at once: in all, of one client's jobs, and at one host."""

    in_all: int
    of_client: int
    at_host: int


class Teller:
    """Tells, while it runs.

    Arguments:
        name: of its tasks.
        source: what is to be told.
        delivery: what carries messages; None: nothing is to be sent here, and what is in the store all the same counts
            as not taken.
        give_up: for how many milliseconds something is tried at most.
    """

    def __init__(
        self,
        name: str,
        store: Storage,
        source: Source,
        delivery: Delivery | None,
        give_up: int,
        room: Room,
        metrics: WebhookMetrics,
    ) -> None:
        self._name = name
        self._store = store
        self._source = source
        self._delivery = delivery
        self._give_up = give_up
        self._since = store.now()
        self._most = room.in_all
        self._metrics = metrics
        self._hosts = Lanes(room.at_host)
        self._clients = Lanes(room.of_client)
        # By job: those that are the store's to be told of still.
        self._in_hand: dict[str, Due] = {}
        self._outcomes: dict[str, Outcome] = {}
        # By message, of those that wait for others before them: when this node first tried one that was not taken yet.
        self._tried: dict[str, int] = {}
        self.telling = 0
        # When the next is due, as far as is known.
        self._due: int | None = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._outcome = asyncio.Event()
        self._settled = asyncio.Event()
        self._closed = False
        self._failed = Seldom(log)

    def __repr__(self) -> str:
        return f"Teller({self._name}, telling={self.telling}, in hand={len(self._in_hand)})"

    async def run(self) -> None:
        """Tell what is to be told, and what comes, until cancelled; what is in hand then is handed back."""
        hear_no_more = self._store.hear(self._hear)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take(group), name=f"{self._name}-taker")
                group.create_task(self._settle(), name=f"{self._name}-settler")
        finally:
            hear_no_more()
            await self._hand_back()

    async def drain(self) -> None:
        """Take no more, and wait until what is told now is, or is not, and the store knows."""
        self._closed = True
        while self._in_hand:
            self._settled.clear()
            await self._settled.wait()

    def look_again(self) -> None:
        """The time has jumped: tell what is due now."""
        self._look()

    def _hear(self, hint: Hint) -> None:
        if self._source.heard(hint):
            self._look()

    def _look(self, after: int = 0) -> None:
        """There may be something after so many milliseconds."""
        due = self._store.now() + after if after else 0
        self._due = due if self._due is None else min(due, self._due)
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
                found, next_due = await self._source.take(min(BATCH, self._most - len(self._in_hand)), HOLD_MS)
            except StoreUnavailable as error:
                self._due = 0
                self._failed.warn("pending webhooks cannot be looked up", why=error.message)
                await asyncio.sleep(error.again_after)
                continue
            self._due = min((due for due in (next_due, self._due) if due is not None), default=None)
            # What is in hand still is there because the store was not told in time what became of it. It will be.
            new = {due.record.job.id: due for due in found if due.record.job.id not in self._in_hand}
            self._in_hand |= new
            # A store lets a cancel wait for its reply: then it comes here, where nothing is begun any more.
            await asyncio.sleep(0)
            for due in new.values():
                self._begin(due, group)
            if not found and self._due is not None and self._due <= self._store.now():
                await asyncio.sleep(_PAUSE_S)

    async def _until_due(self) -> None:
        while True:
            self._some.clear()
            left = LOOK_EVERY_S
            if self._due is not None:
                left = min(left, (self._due - self._store.now()) / 1000)
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._some.wait()
            except TimeoutError:
                return

    async def _until_room(self) -> None:
        while len(self._in_hand) >= self._most:
            self._room.clear()
            await self._room.wait()

    def _begin(self, due: Due, group: asyncio.TaskGroup) -> None:
        job, now = due.record.job, self._store.now()
        host = _host(job.webhook)
        lanes = ((self._hosts, host), (self._clients, job.owner))
        if full := [lane.turn(name, now) for lane, name in lanes if not lane.has_room(name)]:
            self._note(job.id, self._put_off(due, host, max(full), "too many of them are waiting"))
            return
        for lane, name in lanes:
            lane.enter(name)
        self.telling += 1
        group.create_task(self._tell(due, host), name=f"{self._name}-{job.id}")

    async def _tell(self, due: Due, host: str) -> None:
        began, job = self._store.now(), due.record.job
        try:
            outcome = await self._try(due, host)
        finally:
            now = self._store.now()
            self.telling -= 1
            self._hosts.leave(host, now - began, now)
            self._clients.leave(job.owner, now - began, now)
        self._note(job.id, outcome)

    async def _try(self, due: Due, host: str) -> Outcome:
        job_id = due.record.job.id
        try:
            found = await self._source.find(due, self._too_old())
        except Exception as error:
            # Whatever is wrong with one job, others are told of.
            if not isinstance(error, HolonError):
                log.exception("job %s: a webhook cannot be made", job_id, extra={"job_id": job_id})
            why = error.message if isinstance(error, HolonError) else type(error).__name__
            self._failed.warn("job %s: a pending webhook cannot be read", job_id, why=why, job_id=job_id)
            return self._put_off(due, host, round(LOOK_EVERY_S * 1000), "it cannot be read")
        if found.lost:
            self._lose(job_id, host, _events(found.lost), "too many of them are waiting", found.lost)
        if found.message is None:
            return Outcome(found.line)
        message, before = found.message, max(due.after, found.line - 1)
        began = self._tried.pop(message.id, self._store.now())
        answer = await self._send(due.record.job.webhook, job_id, message)
        now = self._store.now()
        self._metrics.tries.add(answer.heard.value)
        if answer.heard is Heard.TOLD:
            self._source.told(now - message.since)
            log.debug("job %s: %s got the webhook for %s", job_id, host, message.what, extra={"job_id": job_id})
            return Outcome(found.line)
        chance = random.random()  # noqa: S311  jitter
        tried = now - began if self._source.in_turn else None
        wait = again_after(now - message.since, self._give_up, answer.again_after, chance, tried)
        if answer.heard is Heard.GONE or wait is None:
            self._lose(job_id, host, message.what, answer.why)
            return Outcome(found.line)
        if tried is not None:
            self._remember(message.id, began)
        said = "job %s: %s did not get the webhook for %s; it is sent again"
        self._failed.warn(said, job_id, host, message.what, why=answer.why, job_id=job_id)
        return Outcome(before, wait)

    def _remember(self, message_id: str, began: int) -> None:
        # The next try may be another node's.
        if len(self._tried) >= MOST_TRIED:
            del self._tried[next(iter(self._tried))]
        self._tried[message_id] = began

    def _too_old(self) -> int:
        """What was before this is late: there was all the time to try it, and for the last try to end."""
        bound = self._store.now() - self._give_up - HOLD_MS
        return bound if self._since < bound else 0

    def _put_off(self, due: Due, host: str, after: int, why: str) -> Outcome:
        """Nothing of a job is told now; nor ever, if it is over for so long that there was all the time to try."""
        now, ended = self._store.now(), due.record.finished_at
        if ended is not None and now - max(ended, self._since) >= self._give_up:
            self._lose(due.record.job.id, host, self._source.rest, why)
            return Outcome(due.record.sequence)
        return Outcome(due.after, after)

    async def _send(self, url: str, job_id: str, message: Message) -> Answer:
        if self._delivery is None:
            return Answer(Heard.FORBIDDEN, "this node serves no clients, so it sends no webhooks")
        try:
            return await self._delivery.send(url, message.id, message.body)
        except Exception as error:
            # Whatever one receiver does, the others are told.
            log.exception("job %s: a webhook failed", job_id, extra={"job_id": job_id})
            return Answer(Heard.UNREACHED, type(error).__name__)

    def _lose(self, job_id: str, host: str, what: str, why: str, count: int = 1) -> None:
        self._source.given_up(count)
        said = "job %s: %s did not get the webhook for %s, which is not sent again: %s"
        log.warning(said, job_id, host, what, why, extra={"job_id": job_id})

    def _note(self, job_id: str, outcome: Outcome) -> None:
        self._outcomes[job_id] = outcome
        self._outcome.set()

    async def _settle(self) -> None:
        while True:
            await self._outcome.wait()
            self._outcome.clear()
            outcomes, self._outcomes = self._outcomes, {}
            try:
                after = await self._source.settle(outcomes)
            except BaseException as error:
                self._outcomes = outcomes | self._outcomes
                if not isinstance(error, StoreUnavailable):
                    raise
                self._failed.warn("the results of webhooks cannot be stored", why=error.message)
                await asyncio.sleep(error.again_after)
                self._outcome.set()
                continue
            for job_id in outcomes:
                del self._in_hand[job_id]
            if after is not None:
                self._look(after)
            self._room.set()
            self._settled.set()

    async def _hand_back(self) -> None:
        """Whoever comes next need not wait until the hold of what this node has in hand is over."""
        back = {job_id: Outcome(due.after, 0) for job_id, due in self._in_hand.items()} | self._outcomes
        if not back:
            return
        try:
            async with asyncio.timeout(HAND_BACK_S):
                await self._source.settle(back)
        except (StoreUnavailable, TimeoutError) as error:
            why = error.message if isinstance(error, StoreUnavailable) else f"it took over {HAND_BACK_S:g} s"
            said = "%d unsent webhooks wait for %g s before other nodes can send them: %s"
            log.warning(said, len(back), HOLD_MS / 1000, why)


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"


def _host(url: str) -> str:
    """Where it leads, without what may be secret."""
    try:
        return target_of(url).place
    except ValueError:
        return "the receiver"
