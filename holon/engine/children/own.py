"""Children: the node's own session, which is offered parts of jobs as workers are offered tasks."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from holon.domain.children import NODES_OWN, RUN_BLUEPRINT
from holon.domain.events import Occurred
from holon.domain.log_lines import Logged
from holon.domain.matching import ANY_CONTRACT, Offering
from holon.domain.task import Outcome
from holon.domain.value import Value
from holon.engine.blueprints import Blueprints
from holon.engine.children.doing import Doing, Here
from holon.engine.children.taken import Taken
from holon.engine.dispatcher import Dispatcher
from holon.engine.following import Following
from holon.engine.history_reader import HistoryReader
from holon.engine.jobs import Jobs
from holon.engine.log_lines import LogLines
from holon.engine.occurrences import Occurrences
from holon.engine.pins import own_id
from holon.engine.results import Reported, Results
from holon.engine.session import Session
from holon.engine.touches import Touches, lease_of
from holon.errors import HolonError, NotFound, StoreUnavailable
from holon.ports import JobRecord, Offer, Opening, Progress, Stop, StopReason, Storage
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# As many as there are: each job that waits holds one, and none of them could end if a part of a part got none.
CREDITS = 1_000_000_000
# After a restart all of them are looked for.
MADE_AT_ONCE = 100
# There may be very many, and everybody waits while the store is told of them.
EXTENDED_AT_ONCE = 500
_UNSTORED = "the store did not accept it"


class OwnSettings(Value):
    """How the node's session is. `lease` is milliseconds, for how long another node leaves its tasks alone when nothing
    is heard of this one; `cleanup` is how many seconds a part may clean up after a cancel."""

    node_id: str
    lease: int
    cleanup: float


class Own:
    """Has parts of jobs done while it runs. It is the session's connection too: nothing of it goes over a network."""

    def __init__(
        self,
        store: Storage,
        dispatcher: Dispatcher,
        touches: Touches,
        results: Results,
        occurrences: Occurrences,
        log_lines: LogLines,
        jobs: Jobs,
        blueprints: Blueprints,
        following: Following,
        reader: HistoryReader,
        settings: OwnSettings,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._touches = touches
        self._results = results
        self._occurrences = occurrences
        self._log_lines = log_lines
        self._jobs = jobs
        self._blueprints = blueprints
        self._following = following
        self._reader = reader
        self._settings = settings
        self._here: Here | None = None
        self._group: asyncio.TaskGroup | None = None
        # A store of one node has one such session: the one that it had before it ended has nothing any more.
        name = settings.node_id if store.shared else "node"
        offerings = {Offering(RUN_BLUEPRINT, price=0): ANY_CONTRACT}
        self._session = Session(f"{NODES_OWN}{name}", secrets.token_hex(12), CREDITS, offerings, self)
        # What is said of failures below is taken as holons say it.
        self._session.is_holon = True
        self._doing: dict[str, Doing] = {}
        self._closed = False
        self._away = Seldom(log)
        # When all that is done here was last said to go on.
        self._seen_to = time.monotonic()

    def __repr__(self) -> str:
        return f"Own({self._session.worker_id}, doing={len(self._doing)})"

    @property
    def _worker_id(self) -> str:
        return self._session.worker_id

    async def run(self) -> None:
        """Have parts done until cancelled; then others do that, or the next process."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._open()
            try:
                while True:
                    await self._extend()
            finally:
                await self._leave()

    async def _extend(self) -> None:
        """Say of all that is done here that it goes on, some at a time; it takes a third of a lease."""
        self._seen_to = time.monotonic()
        held = list(self._session.accepted)
        rounds = max(1, math.ceil(len(held) / EXTENDED_AT_ONCE))
        for first in range(0, rounds * EXTENDED_AT_ONCE, EXTENDED_AT_ONCE):
            some, leases = held[first : first + EXTENDED_AT_ONCE], self._session.leases
            if some:
                self._touches.extend([lease_of(leases[lease_id]) for lease_id in some if lease_id in leases])
            await asyncio.sleep(self._settings.lease / 3_000 / rounds)

    async def catch_up(self) -> None:
        """Keep all that is done here, if this node has stood still for so long that others may be about to take it."""
        if self._session.accepted and time.monotonic() - self._seen_to > self._settings.lease / 2_000:
            self._touches.alive(self._session.session_id)
            await self._touches.flush()

    async def _open(self) -> None:
        session = self._session
        while True:
            try:
                holon_id = await own_id(self._store)
                opening = Opening(self._worker_id, session.session_id, CREDITS, lease=self._settings.lease)
                opened = await self._store.open_session(opening)
            except StoreUnavailable as error:
                self._away.warn("child jobs are started later", why=error.message)
                await asyncio.sleep(error.again_after)
                continue
            self._here = Here(
                self._store,
                self._jobs,
                self._blueprints,
                self._following,
                holon_id,
                self._settings.cleanup,
                self._reader,
                Taken(self._reader),
                asyncio.Semaphore(MADE_AT_ONCE),
                self._away,
            )
            if not self._closed:
                self._dispatcher.add_own(session)
            if opened.replaced is not None:
                self._dispatcher.look()
            return

    async def _leave(self) -> None:
        self.close()
        try:
            await self._store.close_session(self._worker_id, self._session.session_id)
        except StoreUnavailable as error:
            log.debug("the end of the node's own session was not stored: %s", error.message)

    def close(self) -> None:
        """This node goes: what it has done goes on, and others see to that."""
        if self._closed:
            return
        self._closed = True
        self._dispatcher.remove(self._session)
        for doing in self._doing.values():
            doing.leave()
        self._doing.clear()
        for offer in self._session.let_go_all().values():
            self._touches.hand_back(lease_of(offer), again_after=0)
        self._session.accepted.clear()

    # What the engine says ----------------------------------------------------------------------------------------

    def offer(self, offers: Sequence[Offer]) -> None:
        """Have these done."""
        for offer in offers:
            if self._closed or self._here is None:
                self._give_up(offer)
                continue
            self._session.accepted.add(offer.lease_id)
            self._touches.accepted(lease_of(offer))
            before = self._doing.get(offer.task_id)
            if before is not None:
                # Its lease was lost, and that was not heard of yet.
                self._forget(before)
                self._give_up(before.offer)
            try:
                doing = Doing(self._here, offer, self._said, self._logged, self._occurred, self._ended)
            except (HolonError, TypeError) as error:
                log.error(
                    "a child job of job %s cannot be read: %r", offer.job_id, error, extra={"job_id": offer.job_id}
                )
                outcome = Outcome.failed("PERMANENT_ERROR", str(error))
                self._start(partial(self._complete, offer, outcome, None), offer)
                continue
            self._doing[offer.task_id] = doing
            self._start(doing.begin, offer)

    def stop(self, stops: Sequence[Stop]) -> None:
        """The jobs above need these no more, or others have them."""
        for stop in stops:
            doing = self._doing.get(stop.lease.task_id)
            if doing is None or doing.offer.lease_id != stop.lease.lease_id:
                offer = self._session.leases.get(stop.lease.lease_id)
                if offer is not None and doing is not None:
                    self._give_up(offer)
            elif doing.stops:
                # A lease ends for one reason and is then found lost besides: the first says more.
                continue
            elif stop.reason is StopReason.LEASE_LOST:
                self._forget(doing)
                self._give_up(doing.offer)
            else:
                doing.stops = True
                self._start(doing.stop, doing.offer)

    def go_away(self, reason: str, message: str, time_left: int) -> None:  # noqa: ARG002  as any connection takes it
        """Another process has this node's name; it sees to all of this."""
        log.warning("the node's own session ended: %s", message, extra={"worker_id": self._worker_id})
        self.close()

    # What becomes of them ----------------------------------------------------------------------------------------

    def _said(self, doing: Doing, percent: float | None, message: str) -> None:
        self._touches.progress(Progress(lease_of(doing.offer), percent, message))

    def _logged(self, doing: Doing, logged: Logged) -> None:
        self._log_lines.said(doing.offer.job_id, logged)

    def _occurred(self, doing: Doing) -> None:
        self._start(partial(doing.tell, self._put), doing.offer)

    async def _put(self, events: Sequence[Occurred]) -> None:
        """Tell jobs above of events, until they have taken them, or wait for their parts no more."""
        while events:
            answers = await self._occurrences.take(self._session, events)
            later: list[Occurred] = []
            pause = 0.0
            for one in events:
                error = answers[one.event_id]
                if error is None:
                    continue
                facts = {"job_id": one.job_ids[0], "task_id": one.task_id}
                if error.retry_after:
                    later.append(one)
                    pause = max(pause, error.retry_after)
                    self._away.warn(
                        "event %s is reported to the job above later", one.event_id, why=error.message, **facts
                    )
                else:
                    # Of a task that is over the job above needs to hear nothing.
                    level = logging.DEBUG if isinstance(error, NotFound) else logging.WARNING
                    log.log(
                        level, "event %s is not reported to the job above: %s", one.event_id, error.message, extra=facts
                    )
            events = later
            await asyncio.sleep(pause)

    def _ended(self, doing: Doing, outcome: Outcome, record: JobRecord | None) -> None:
        if self._doing.get(doing.offer.task_id) is doing:
            del self._doing[doing.offer.task_id]
        self._start(partial(self._to_end, doing, outcome, record), doing.offer)

    async def _to_end(self, doing: Doing, outcome: Outcome, record: JobRecord | None) -> None:
        # What happened comes before the end: after that the job above hears nothing more of this part.
        await doing.tell(self._put, last=True)
        await self._complete(doing.offer, outcome, record)

    async def _complete(self, offer: Offer, outcome: Outcome, record: JobRecord | None) -> None:
        """Tell the job above; an end that it does not wait for any more changes nothing."""
        took = None if record is None or record.finished_at is None else max(0, record.finished_at - record.created_at)
        cost = None if record is None else record.spent
        outcome = Outcome(outcome.status, outcome.data, outcome.error, self._worker_id)
        reported = Reported(offer.task_id, offer.lease_id, outcome, took, cost=cost)
        while True:
            await self._touches.before((offer.lease_id,))
            [answer] = await self._results.complete(self._session, [reported])
            if answer.again_after is None:
                return
            facts = {"job_id": offer.job_id, "task_id": offer.task_id}
            self._away.warn("job %s learns later how a child job ended", offer.job_id, why=_UNSTORED, **facts)
            await asyncio.sleep(answer.again_after)

    def _forget(self, doing: Doing) -> None:
        doing.leave()
        self._doing.pop(doing.offer.task_id, None)

    def _give_up(self, offer: Offer) -> None:
        """This session has a lease no more, and nothing to say of it."""
        self._dispatcher.freed(self._session, offer.lease_id)
        self._touches.hand_back(lease_of(offer), again_after=0, unheard=True)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]], offer: Offer) -> None:
        if self._group is None:
            return
        guarded = self._guarded(work, offer)
        try:
            self._group.create_task(guarded, name=f"part-{offer.task_id}")
        except RuntimeError:
            # The node ends: the next one begins anew.
            guarded.close()

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]], offer: Offer) -> None:
        # It is made here: a task that is cancelled before it begins would leave behind what was made before.
        try:
            await work()
        except Exception:
            # One part is no reason to lose the others: it is tried again, after a while.
            log.exception("what job %s waits for continues later", offer.job_id, extra={"job_id": offer.job_id})
            if (doing := self._doing.get(offer.task_id)) is not None:
                self._forget(doing)
            if offer.lease_id in self._session.leases:
                self._dispatcher.freed(self._session, offer.lease_id)
                self._touches.hand_back(lease_of(offer), again_after=None)
