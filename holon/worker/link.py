"""The worker SDK: the link to a node. Sessions come and go; leases and unacknowledged results stay."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import grpc.aio

from holon.errors import FailedPrecondition
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.address import NodeUrl
from holon.wire.stream import MOST_MESSAGE_BYTES
from holon.worker.channel import Ended, Metadata, open_channel, replaced_by
from holon.worker.hearing import Hearing, Tasks
from holon.worker.leases import Lease
from holon.worker.losses import Losses
from holon.worker.reports import Reports
from holon.worker.session import Session
from holon.worker.settings import Credentials
from holon.worker.timing import Timing
from holon.worker.tokens import Tokens
from holon.worker.urls import Urls

_log = logging.getLogger("holon.worker")

CAPABILITIES = (types_pb2.CAPABILITY_RESUME, types_pb2.CAPABILITY_CANCEL)


class Replaced(FailedPrecondition):
    """Expected: a newer process has this worker's id; the operator must run one at a time, or give each its own."""

    code = "SESSION_REPLACED"


class Link:
    """A worker's side of the protocol without the work itself. Everything belongs to the loop that calls `run`.

    Arguments:
        urls: the node's addresses, tried in turn.
        credentials: what each connection proves.
        tokens: where short-lived tokens come from, if they are used.
        hello: what every Hello says: identity, catalog and capabilities; credits, resume and how much is read are
            filled in here.
        credits: how many tasks may be held in all.

    Attributes:
        reports: what is told of tasks: accepted, progress, and final words.
        hearing: what the node says goes there.
        refused: told how a session ended, or why there is none; whether another attempt may soon succeed after it.
    """

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
        self._timing = timing or Timing()
        self.reports = Reports(self._timing, self._check_finished)
        self.hearing = Hearing(self.reports, credits)
        self.refused: Callable[[Ended], Awaitable[bool]] | None = None
        self._session_id = ""
        self._drain_reason: str | None = None
        self._losses = Losses(self._timing, tokens)
        self._finished = asyncio.Event()
        self._ready = asyncio.Event()
        self._carriers: dict[Session, asyncio.Task[None]] = {}

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
        self.hearing.tasks = tasks
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
            # Those whose carriers were cancelled before their first step.
            for session in tuple(self._carriers):
                await session.close()
        if replaced:
            raise Replaced(f"{replaced}; this worker stops, and does not reconnect by itself")

    @property
    def linked(self) -> bool:
        """Whether there is a session now."""
        session = self.reports.session
        return session is not None and session.end is None

    async def ready(self) -> None:
        """Return once a session is open."""
        await self._ready.wait()

    def set_credits(
        self,
        credits: int,  # noqa: A002  # the protocol's word
        by_skill: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Say how many tasks may be held in all, and of single skills; before any final word that is sent after it."""
        self.hearing.credits = credits
        words: list[worker_pb2.OfferingCredits] = []
        for one in self._hello.catalog.offerings:
            if one.skill in by_skill:
                one.credits = by_skill[one.skill]
                # The node knows it by all three.
                words.append(_credits_of(one))
        if self.reports.session and self._drain_reason is None:
            self.reports.session.set_credits(credits, words)

    def set_catalog(self, catalog: worker_pb2.Catalog) -> None:
        """Offer this from now on; its sequence is above that of every one before."""
        self._hello.catalog.CopyFrom(catalog)
        if self.reports.session:
            self.reports.session.set_catalog(self._hello.catalog)

    def introduce(self, identity: worker_pb2.HolonIdentity) -> None:
        """Say this of the holon from now on: by another stream, as only a Hello can; the old one serves until then."""
        self._hello.holon_identity.CopyFrom(identity)
        if self.reports.session:
            self.reports.session.move()

    def drain(self, reason: str) -> None:
        """Take no more tasks, and end once every final word is said and every result acknowledged."""
        if self._drain_reason is None:
            self._drain_reason, self.hearing.leaving = reason, True
            self._take_crossing()
            if self.reports.session:
                self._say_drain(self.reports.session)
            self._check_finished()

    def abandon(self) -> None:
        """End now, whatever is owed; the leases repair it."""
        if not self.reports.leases.is_empty:
            _log.error("%r: leaving with unacknowledged work; those tasks run again elsewhere", self.reports.leases)
        self._finished.set()

    async def _stay_connected(self, group: asyncio.TaskGroup) -> None:
        while True:
            url = self._urls.next()
            try:
                session = await self._open(url)
            except (Ended, OSError) as error:
                self._take_crossing()
                self._check_replaced()
                await self._lost(error)
                continue
            began = asyncio.get_running_loop().time()
            self._carriers[session] = group.create_task(self._carry(session), name="link-session")
            self._adopt(session)
            await session.left.wait()
            self._check_replaced()
            if asyncio.get_running_loop().time() - began >= self._timing.settled:
                self._losses.forget()
            if session.going and session.end is None:
                await self._sent_away(session.going)
                continue
            if self.reports.session is session:
                self.reports.session = None
            await self._lost(session.end or Ended(f"{url}: the stream ended"), linked=True)

    async def _open(self, url: NodeUrl) -> Session:
        self._losses.shown = None
        channel, shown = open_channel(url, self._credentials)
        self._losses.shown = shown
        try:
            metadata = await self._proof(channel, url, shown.pem)
        except BaseException:
            await channel.close()
            raise
        hints = replace(self._credentials.hints, pem=shown.pem)
        session = Session(url, channel, shown, metadata, hints, self.hearing, self._timing)
        try:
            await session.open(self._say_hello)
            try:
                await self.hearing.tasks.welcomed(session.welcome)
            except Ended as error:
                # Of several addresses it may be one only that is wrong.
                raise Ended(f"{url}: {error}", refused=error.refused) from error
            # A store lets a cancel wait for its reply: then it comes here, where the session is still ours to close.
            await asyncio.sleep(0)
        except BaseException:
            await session.close()
            raise
        return session

    def _say_hello(self) -> worker_pb2.Hello:
        """The Hello of this moment. What is offered on an older stream from now on waits for its answer."""
        self._check_replaced()
        self.hearing.says_hello()
        hello = worker_pb2.Hello()
        hello.CopyFrom(self._hello)
        hello.credits = self.hearing.credits if self._drain_reason is None else 0
        hello.max_message_bytes = MOST_MESSAGE_BYTES
        if self._session_id or not self.reports.leases.is_empty:
            hello.resume.CopyFrom(self.reports.leases.resume(self._session_id))
        return hello

    def _take_crossing(self) -> None:
        self.hearing.take_crossing(stream_is_there=self.reports.session in self._carriers)

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
        if not self.hearing.said_hello:
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
        self.hearing.welcomed()
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
            session.set_catalog(self._hello.catalog)
        if self._drain_reason is not None:
            self._say_drain(session)
        elif session.hello.credits != self.hearing.credits:
            session.set_credits(self.hearing.credits, ())
        self.reports.repeat()
        self._settle(session.welcome.leases)

    def _settle(self, decisions: Sequence[worker_pb2.ResumedLease]) -> None:
        """Go on with the leases that the node keeps; one that it drops, or does not name, is stopped."""
        told = {Lease(one.task_id, one.lease_id): one for one in decisions}
        for lease in self.reports.leases.held:
            one = told.get(lease)
            if one and one.decision == worker_pb2.LEASE_DECISION_KEEP:
                left = one.time_left.seconds + one.time_left.nanos / 1e9
                self.hearing.tasks.resumed(lease, left if one.HasField("time_left") else None)
            else:
                # Nothing is owed for it: the session in which it was offered has ended.
                self.reports.leases.drop(lease)
                self.reports.events.over(lease)
                self.hearing.tasks.stopped(lease, "LEASE_LOST", 0.0)
        # What was given back on the older stream since this Hello was made: that is of no account to who keeps it.
        kept = (lease for lease, one in told.items() if one.decision == worker_pb2.LEASE_DECISION_KEEP)
        self.reports.reject_again([lease for lease in kept if lease not in self.reports.leases])
        self._check_finished()

    async def _sent_away(self, going: worker_pb2.GoAway) -> None:
        """There is to be another stream. The old one serves until the new one is there."""
        _log.info("opening another stream: %s %s", going.reason, going.message)
        self._urls.prefer(going.try_urls)
        left = going.time_left.seconds + going.time_left.nanos / 1e9
        # Spread, for the node says it to many at once.
        await asyncio.sleep(random.uniform(0, min(self._timing.reconnect_first, left / 4)))  # noqa: S311

    async def _lost(self, error: Exception, *, linked: bool = False) -> None:
        """There is no session: wait before the next attempt; raises Ended when there must be none.

        Arguments:
            linked: as in `Losses.wait`.
        """
        if isinstance(error, Ended):
            if error.replaced:
                raise error
            if self.refused is not None and await self.refused(error):
                error.refused = False
            if error.too_large and (lease := self.reports.leases.replace_largest()):
                facts = {"task_id": lease.task_id, "lease_id": lease.lease_id}
                _log.error(
                    "the result of task %s was too large; LIMIT_EXCEEDED was sent instead", lease.task_id, extra=facts
                )
        serving = [carrier for session, carrier in self._carriers.items() if session.end is None]
        await self._losses.wait(error, serving, linked=linked)

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


def _credits_of(offering: worker_pb2.Offering) -> worker_pb2.OfferingCredits:
    name = {"skill": offering.skill, "type": offering.type, "version": offering.version}
    return worker_pb2.OfferingCredits(**name, credits=offering.credits)
