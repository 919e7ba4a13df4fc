"""The worker SDK: the link to a node. Sessions come and go; leases and unacknowledged results stay."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import grpc.aio

from holon.errors import FailedPrecondition
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.address import NodeUrl
from holon.worker.certificate import Certificate
from holon.worker.channel import Ended, Metadata, open_channel
from holon.worker.leases import Lease
from holon.worker.reports import BUSY_S, Reports
from holon.worker.session import Session, replaced_by
from holon.worker.settings import Credentials
from holon.worker.timing import Timing
from holon.worker.tokens import Tokens
from holon.worker.urls import Urls

_log = logging.getLogger("holon.worker")

_LEAST_UNACKNOWLEDGED = 1_000
_UNACKNOWLEDGED_PER_CREDIT = 4
CAPABILITIES = (types_pb2.CAPABILITY_RESUME, types_pb2.CAPABILITY_CANCEL)


class Replaced(FailedPrecondition):
    """Expected: a newer process has this worker's id; the operator must run one at a time, or give each its own."""

    code = "SESSION_REPLACED"


class Tasks(Protocol):
    """Who does the work. Called on the link's loop; must not block."""

    def offered(self, lease: Lease, offer: worker_pb2.TaskOffer) -> None:
        """Take a task: from now on the link is owed one `finish` or `reject` for the lease."""

    def stopped(self, lease: Lease, reason: str, grace: float) -> None:
        """Stop a task. Its final word is owed all the same, within `grace` seconds; for a lease that was lost with its
        session it is not sent."""

    def resumed(self, lease: Lease, time_left: float | None) -> None:
        """A new session goes on with the task, which may still run for so many seconds; None means no limit."""

    def settled(self, lease: Lease, committed: bool) -> None:
        """The node has answered the result of this lease for good, and used it or not: nothing is owed for it."""

    async def welcomed(self, welcome: worker_pb2.Welcome) -> None:
        """Take a node's terms, before anything of its session counts; raises Ended to leave it at that."""


class Link:
    """A worker's side of the protocol without the work itself. Everything belongs to the loop that calls `run`.

    Arguments:
        urls: the node's addresses, tried in turn.
        credentials: what each connection proves.
        tokens: where short-lived tokens come from, if they are used.
        hello: what every Hello says: identity, catalog and capabilities; credits and resume are filled in here.
        credits: how many tasks may be held in all.

    Attributes:
        reports: what is told of tasks: accepted, progress, and final words.
        tree: answers what the node asks about the job behind a task, which it does only of a holon; None: nobody does.
    """

    _tasks: Tasks

    def __init__(
        self,
        urls: Sequence[NodeUrl],
        credentials: Credentials,
        hello: worker_pb2.Hello,
        credits: int,  # noqa: A002  # the protocol's word
        timing: Timing | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._urls = Urls(urls)
        self._credentials = credentials
        self._hello = hello
        self._credits = credits
        self._timing = timing or Timing()
        self.reports = Reports(self._timing, self._check_finished)
        self.tree: Callable[[worker_pb2.TreeRequest], None] | None = None
        self._session_id = ""
        self._drain_reason: str | None = None
        self._finished = asyncio.Event()
        self._ready = asyncio.Event()
        self._carriers: dict[Session, asyncio.Task[None]] = {}
        # Offers that came on an older stream since a Hello was made that is not answered yet; None: there is no such.
        self._crossing: dict[Lease, worker_pb2.TaskOffer] | None = None
        self._unknown_kinds: set[str] = set()

    def __repr__(self) -> str:
        return f"Link({self.reports.session or 'not connected'}, {self.reports.leases})"

    async def run(self, tasks: Tasks) -> None:
        """Stay connected until a drain is over.

        Arguments:
            tasks: who does the work.

        On cancel every stream is dropped without a word: the node gives the leases to others.

        Raises:
            Replaced: a newer process has our id.
        """
        self._tasks = tasks
        replaced: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                connector = group.create_task(self._stay_connected(group), name="link-connector")
                await self._finished.wait()
                connector.cancel()
                await self._leave()
        except* Ended as ends:
            replaced = ends.exceptions[0]
        finally:
            self.reports.stop()
        if replaced:
            raise Replaced(f"{replaced}; this one stops, and does not reconnect by itself")

    @property
    def linked(self) -> bool:
        """Whether there is a session now."""
        return self.reports.session is not None

    async def ready(self) -> None:
        """Return once a session is open."""
        await self._ready.wait()

    def set_credits(
        self,
        credits: int,  # noqa: A002  # the protocol's word
        by_skill: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Say how many tasks may be held in all, and of single skills; before any final word that is sent after it."""
        self._credits = credits
        for offering in self._hello.catalog.offerings:
            if offering.skill in by_skill:
                offering.credits = by_skill[offering.skill]
        if self.reports.session and self._drain_reason is None:
            self.reports.session.set_credits(credits, by_skill)

    def set_catalog(self, catalog: worker_pb2.Catalog) -> None:
        """Offer this from now on; its sequence is above that of every one before."""
        self._hello.catalog.CopyFrom(catalog)
        if self.reports.session:
            self.reports.session.put_control(worker_pb2.SessionRequest(catalog=catalog))

    def introduce(self, identity: worker_pb2.HolonIdentity) -> None:
        """Say this of the holon from now on: by another stream, as only a Hello can; the old one serves until then."""
        self._hello.holon_identity.CopyFrom(identity)
        if self.reports.session:
            self.reports.session.move()

    def drain(self, reason: str) -> None:
        """Take no more tasks, and end once every final word is said and every result acknowledged."""
        if self._drain_reason is None:
            self._drain_reason = reason
            self._take_crossing()
            if self.reports.session:
                self._say_drain(self.reports.session)
            self._check_finished()

    def abandon(self) -> None:
        """End now, whatever is owed; the leases repair it."""
        if not self.reports.leases.is_empty:
            _log.error("%r: leaving with work not acknowledged; those tasks run again elsewhere", self.reports.leases)
        self._finished.set()

    def on_offers(self, offers: worker_pb2.TaskOffers) -> None:
        """Hand offers on, or reject them while draining, or while the node owes too many acknowledgements.

        Where a Hello is on its way that does not name them, they wait, as many as there may be: who answers that gives
        them to others.
        """
        most = max(_LEAST_UNACKNOWLEDGED, self._credits * _UNACKNOWLEDGED_PER_CREDIT)
        for offer in offers.offers:
            lease = Lease(offer.task_id, offer.lease_id)
            if lease in self.reports.leases:
                continue
            if self._crossing is not None and self._drain_reason is None and len(self._crossing) < self._credits:
                self._crossing[lease] = offer
                continue
            self.reports.leases.take(lease)
            if self._drain_reason is not None:
                # It crossed our Drain: no more come here, but perhaps to who comes in our place, under the same id.
                self.reports.reject(lease, "DRAINING", "the worker is leaving", again_after=0)
            elif self.reports.leases.kept >= most:
                busy = f"{most} results are not acknowledged yet"
                self.reports.reject(lease, "BUSY", busy, again_after=BUSY_S)
            else:
                self._tasks.offered(lease, offer)

    def on_acks(self, acks: worker_pb2.UpdateAcks) -> None:
        """Settle results."""
        for lease, committed in self.reports.acknowledge(acks):
            self._tasks.settled(lease, committed)

    def on_stops(self, stops: worker_pb2.StopTasks) -> None:
        """Hand stops on; one for a lease that is not held is ignored, since both sides' last words may cross."""
        for stop in stops.stops:
            lease = Lease(stop.task_id, stop.lease_id)
            if self.reports.leases.holds(lease):
                self._tasks.stopped(lease, stop.reason, stop.grace.seconds + stop.grace.nanos / 1e9)
            elif self._crossing is not None and self._crossing.pop(lease, None) is not None:
                # The node waits for a word of it.
                self.reports.leases.take(lease)
                self.reports.reject(lease, "STALE_OFFER", "it was stopped before it was begun", again_after=0)

    def on_tree(self, request: worker_pb2.TreeRequest) -> bool:
        """Hand a question on, if somebody answers it."""
        if self.tree is not None:
            self.tree(request)
        return self.tree is not None

    def on_unknown(self, kind: str) -> None:
        """Ignore what this version does not know, and say so once."""
        if kind not in self._unknown_kinds:
            self._unknown_kinds.add(kind)
            _log.warning("the node sends messages that this SDK does not use (%s); they are ignored", kind)

    async def _stay_connected(self, group: asyncio.TaskGroup) -> None:
        losses = 0
        while True:
            url = self._urls.next()
            try:
                session = await self._open(url)
            except (Ended, OSError) as error:
                self._take_crossing()
                self._check_replaced()
                losses += 1
                await self._lost(error, losses)
                continue
            began = asyncio.get_running_loop().time()
            self._carriers[session] = group.create_task(self._carry(session), name="link-session")
            self._adopt(session)
            await session.left.wait()
            self._check_replaced()
            if session.going and session.end is None:
                await self._sent_away(session.going)
                continue
            if self.reports.session is session:
                self.reports.session = None
            losses = 1 if asyncio.get_running_loop().time() - began >= self._timing.settled else losses + 1
            await self._lost(session.end or Ended(f"{url}: the stream ended"), losses, session.shown)

    async def _open(self, url: NodeUrl) -> Session:
        channel, shown = open_channel(url, self._credentials)
        try:
            metadata = await self._proof(channel, url, shown.pem)
        except BaseException:
            await channel.close()
            raise
        session = Session(url, channel, shown, metadata, self._credentials.hints, self, self._timing)
        try:
            await session.open(self._say_hello)
            await self._tasks.welcomed(session.welcome)
            # A store lets a cancel wait for its reply: then it comes here, where the session is still ours to close.
            await asyncio.sleep(0)
        except BaseException:
            await session.close()
            raise
        return session

    def _say_hello(self) -> worker_pb2.Hello:
        """The Hello of this moment. What is offered on an older stream from now on waits for its answer."""
        self._check_replaced()
        self._crossing = {}
        hello = worker_pb2.Hello()
        hello.CopyFrom(self._hello)
        hello.credits = self._credits if self._drain_reason is None else 0
        if self._session_id or not self.reports.leases.is_empty:
            hello.resume.CopyFrom(self.reports.leases.resume(self._session_id))
        return hello

    def _take_crossing(self) -> None:
        """See to what was offered since a Hello that is of no account, or while draining, if its stream is there."""
        crossing, self._crossing = self._crossing, None
        if crossing and self.reports.session in self._carriers:
            self.on_offers(worker_pb2.TaskOffers(offers=crossing.values()))

    async def _proof(self, channel: grpc.aio.Channel, url: NodeUrl, certificate: bytes) -> Metadata:
        """What a stream shows beside the certificate of its connection."""
        if self._tokens is not None:
            grant = await self._tokens.fresh(channel, url, certificate)
            return (("authorization", f"Bearer {grant.access_token}"),)
        return (("x-worker-token", self._credentials.token),) if self._credentials.token else ()

    async def _carry(self, session: Session) -> None:
        renewing = None
        if self._tokens is not None:
            renewing = asyncio.create_task(self._tokens.keep_renewed(session), name="link-renewal")
        try:
            await session.run()
        finally:
            if renewing is not None:
                renewing.cancel()
                await asyncio.wait((renewing,))
            del self._carriers[session]
            await session.close()
        if self._crossing is None:
            self._check_replaced()

    def _check_replaced(self) -> None:
        """Raise Ended once a newer process has our id, which is told on the newest stream, also while that is left.

        Where a Hello is on its way that was said before, its answer tells who is the newest.
        """
        newest = self.reports.session
        if newest is not None and newest.going is not None and newest.going.reason == "REPLACED":
            raise replaced_by(newest.url, newest.going)
        if newest is not None and newest.end is not None and newest.end.replaced:
            raise newest.end

    def _adopt(self, session: Session) -> None:
        """Make a session that has its Welcome the one that all is sent on."""
        previous, self.reports.session = self.reports.session, session
        # They have gone to others, or come again here.
        self._crossing = None
        self._session_id = session.welcome.session_id
        if self._tokens is not None:
            self._tokens.trust()
        self._ready.set()
        node, facts = session.welcome.node_id or "a node", {"session_id": self._session_id}
        _log.info("session %s with %s at %s", self._session_id, node, session.url, extra=facts)
        if previous:
            previous.leave()
        # What has changed since the Hello was said.
        if session.welcome.catalog_needed or session.hello.catalog != self._hello.catalog:
            session.put_control(worker_pb2.SessionRequest(catalog=self._hello.catalog))
        if self._drain_reason is not None:
            self._say_drain(session)
        elif session.hello.credits != self._credits:
            session.set_credits(self._credits, {})
        self.reports.repeat()
        self._settle(session.welcome.leases)

    def _settle(self, decisions: Sequence[worker_pb2.ResumedLease]) -> None:
        """Go on with the leases that the node keeps; one that it drops, or does not name, is stopped."""
        told = {Lease(one.task_id, one.lease_id): one for one in decisions}
        for lease in self.reports.leases.held:
            one = told.get(lease)
            if one and one.decision == worker_pb2.LEASE_DECISION_KEEP:
                left = one.time_left.seconds + one.time_left.nanos / 1e9
                self._tasks.resumed(lease, left if one.HasField("time_left") else None)
            else:
                # Nothing is owed for it: the session in which it was offered has ended.
                self.reports.leases.drop(lease)
                self._tasks.stopped(lease, "LEASE_LOST", 0.0)
        # What was given back on the older stream since this Hello was made: that is of no account to who keeps it.
        kept = (lease for lease, one in told.items() if one.decision == worker_pb2.LEASE_DECISION_KEEP)
        self.reports.reject_again([lease for lease in kept if lease not in self.reports.leases])
        self._check_finished()

    async def _sent_away(self, going: worker_pb2.GoAway) -> None:
        """There is to be another stream. The old one serves until the new one is there."""
        _log.info("another stream is opened: %s %s", going.reason, going.message)
        self._urls.prefer(going.try_urls)
        left = going.time_left.seconds + going.time_left.nanos / 1e9
        # Spread, for the node says it to many at once.
        await asyncio.sleep(random.uniform(0, min(self._timing.reconnect_first, left / 4)))  # noqa: S311

    async def _lost(self, error: Exception, losses: int, shown: Certificate | None = None) -> None:
        """Say why there is no session, and wait before the next attempt.

        Arguments:
            shown: the certificate of the session that was lost; None: of none.
        Raises:
            Ended: there must be none.
        """
        if isinstance(error, Ended):
            if error.replaced:
                raise error
            if error.too_large and (lease := self.reports.leases.replace_largest()):
                facts = {"task_id": lease.task_id, "lease_id": lease.lease_id}
                _log.error(
                    "the result of task %s was too large and fails LIMIT_EXCEEDED instead", lease.task_id, extra=facts
                )
        wait = self._timing.pause(losses)
        if isinstance(error, Ended) and error.refused and not self._shows_another(shown):
            wait = self._timing.pause_refused(losses)
            _log.error("%s; trying again in %.0f s", error, wait)
        else:
            _log.warning("%s; trying again in %.1f s", error, wait)
        await asyncio.sleep(wait)

    def _shows_another(self, refused: Certificate | None) -> bool:
        """Whether the next attempt shows something else than what was refused."""
        if refused is not None and refused.renewed():
            return True
        return self._tokens is not None and self._tokens.distrust()

    async def _leave(self) -> None:
        """Half-close the last session and wait for the node's end; then drop whatever is left."""
        current = self._carriers.get(self.reports.session) if self.reports.session else None
        if current and self.reports.session and self.reports.leases.is_empty:
            self.reports.session.leave()
            await asyncio.wait((current,))
        for carrier in tuple(self._carriers.values()):
            carrier.cancel()

    def _say_drain(self, session: Session) -> None:
        drain = worker_pb2.Drain(reason=self._drain_reason or "")
        session.put_control(worker_pb2.SessionRequest(drain=drain))

    def _check_finished(self) -> None:
        if self._drain_reason is not None and self.reports.leases.is_empty:
            self._finished.set()
