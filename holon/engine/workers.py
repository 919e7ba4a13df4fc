"""The application service of workers: their sessions, from the first word to the last."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType

from holon.domain.attempts import Loss, Unfinished
from holon.domain.costs import Cost, least
from holon.domain.events import Occurred
from holon.domain.fleet import Catalog
from holon.domain.load import Load
from holon.domain.log_lines import Logged, LogLine
from holon.engine.catalogs import Catalogs, limits_of, machines_of
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.log_lines import LogLines
from holon.engine.members import Joining, Member
from holon.engine.occurrences import Occurrences
from holon.engine.results import Answer, Reported, Results
from holon.engine.session import Offered, Session
from holon.engine.touches import Touches, lease_of
from holon.errors import HolonError, StoreUnavailable, Unavailable
from holon.ports import (
    LeaseRef,
    Leases,
    Opening,
    Progress,
    Replaced,
    WorkerConnection,
)
from holon.telemetry.events import Telemetry
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

# How soon a worker with a weaker proof may try again: the stronger session may end at any time.
_OUTRANKED_RETRY_S = 5.0


class Workers:
    """Opens, feeds and closes the sessions of workers. One worker has one session: the newest.

    Arguments:
        standing: gives a new session the reputations of its worker.
        lost: is told of attempts that a worker's earlier session had begun and the new one does not resume.
    """

    def __init__(
        self,
        store: Leases,
        dispatcher: Dispatcher,
        touches: Touches,
        results: Results,
        catalogs: Catalogs,
        telemetry: Telemetry,
        fleet: Fleet,
        log_lines: LogLines,
        occurrences: Occurrences,
        standing: Callable[[Session], None] = lambda _: None,
        lost: Callable[[Sequence[Loss]], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._touches = touches
        self._results = results
        self._catalogs = catalogs
        self._telemetry = telemetry
        self._fleet = fleet
        self._log_lines = log_lines
        self._occurrences = occurrences
        self._standing = standing
        self._lost = lost
        self._draining = False
        self._away = Seldom(log)
        # By the session that replaced it, one of the same process whose stream is still open.
        self._moved: dict[str, Session] = {}
        touches.replaced = self._replace
        touches.newer_ended = self._newer_ended

    def __repr__(self) -> str:
        sessions = len(list(self._dispatcher.sessions))
        return f"Workers(sessions={sessions}, moved={len(self._moved)}, draining={self._draining})"

    async def join(self, joining: Joining, connection: WorkerConnection) -> Member:
        """Open a session. An older one of the same worker is told to go away, for good.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) a schema cannot be used.
            Unavailable: (WEAKER_PROOF) the worker has a session that a stronger proof opened.
            StoreUnavailable: the store is away; try again.
        """
        with ExitStack() as held:
            offerings = await self._catalogs.learn(joining.catalog.skills, held, joining)
            events = await self._catalogs.learn_events(joining.catalog.skills, held)
            session_id = secrets.token_hex(12)
            opened = await self._store.open_session(
                Opening(
                    joining.worker_id,
                    session_id,
                    joining.credits,
                    tuple(joining.resumed),
                    joining.lease,
                    joining.execution,
                    joining.instance_id,
                    int(joining.proof),
                )
            )
            if opened.outranked:
                raise _outranked(joining.worker_id)
            kept = held.pop_all()
        machines = machines_of(joining.catalog, joining)
        session = Session(joining.worker_id, session_id, joining.credits, offerings, connection, machines)
        session.grant(limits_of(joining.catalog), anew=True)
        session.hot, session.cached, session.events = joining.catalog.hot, joining.catalog.cached, events
        session.instance_id = joining.instance_id
        session.is_holon = joining.holon is not None
        session.keeps_limits, session.keeps_budgets = joining.keeps_limits, joining.keeps_budgets
        session.keeps_resources = joining.keeps_resources
        session.resume(opened.kept, self._dispatcher.session(opened.replaced) if opened.replaced is not None else None)
        self._catalogs.keep(session, offerings, kept)
        if opened.replaced is not None:
            self._replace(Replaced(opened.replaced, session_id, joining.instance_id))
        self._lost(opened.losses)
        self._standing(session)
        self._fleet.joined(session, joining.sdk, joining.labels, joining.catalog, joining.holon)
        self._dispatcher.add(session)
        if opened.dropped or opened.kept:
            self._dispatcher.look()
        return Member(session, opened, kept, joining.catalog.warnings)

    def _replace(self, replaced: Replaced) -> None:
        """The older session has nothing any more. A process that moved half-closes it by itself.

        The store tells of it too: the newer one may be at another node, or the reply that named the older was lost.
        """
        older = self._dispatcher.session(replaced.session_id)
        if older is None:
            return
        self._dispatcher.remove(older)
        older.past = older.let_go_all()
        older.accepted.clear()
        if replaced.instance_id and older.instance_id == replaced.instance_id:
            older.moved_to = replaced.newer
            self._moved[replaced.newer] = older
            return
        # Another process has the id: none of the streams on which the older one moved is to be opened anew.
        last: Session | None = older
        while last is not None:
            last.connection.go_away("REPLACED", "a newer session of this worker has opened", 0)
            last = self._moved.pop(last.session_id, None)

    async def offers(
        self, member: Member, catalog: Catalog, granted: Mapping[Offered, int] = MappingProxyType({})
    ) -> None:
        """A worker offers other things than before.

        Arguments:
            granted: how many tasks of single offerings, said after the catalog; it may grow while that is learned.
        Raises:
            InvalidArgument: (SCHEMA_INVALID) a schema cannot be used; what it offered before stays.
        """
        with ExitStack() as held:
            offerings = await self._catalogs.learn(catalog.skills, held, member.session)
            events = await self._catalogs.learn_events(catalog.skills, held)
            if self._dispatcher.session(member.session.session_id) is None:
                return
            self._fleet.offers(member.session, catalog)
            member.session.grant(limits_of(catalog), anew=True)
            member.session.grant(granted)
            member.session.hot, member.session.cached, member.session.events = catalog.hot, catalog.cached, events
            machines = machines_of(catalog, member.session)
            self._dispatcher.offers_changed(member.session, offerings, machines)
            self._catalogs.keep(member.session, offerings, held)
            member.held.close()
            member.held = held.pop_all()

    def heartbeat(
        self,
        member: Member,
        granted: int | None,
        held: Sequence[str] | None,
        of_offerings: Mapping[Offered, int] = MappingProxyType({}),
        load: Load | None = None,
    ) -> None:
        """A worker lives: its leases are extended, and its credits may change.

        Arguments:
            granted: how many tasks it may hold in all; None: as before.
            held: lease ids that it still holds, which accepts them; None: all that it accepted.
            of_offerings: how many tasks of single offerings; of others as before.
            load: how busy its machine is; None: as before.
        """
        session = member.session
        self._fleet.heard(session, load)
        if held is None:
            self._touches.alive(session.session_id)
        else:
            listed = session.leases.keys() & held
            session.accepted.update(listed)
            self._touches.extend([lease_of(session.leases[lease_id]) for lease_id in listed])
        if of_offerings and session.grant(of_offerings):
            self._dispatcher.has_room(session)
        if granted is not None and granted != session.credits:
            session.credits = granted
            self._dispatcher.has_room(session)
            self._touches.credits(session.worker_id, session.session_id, granted)

    def accepted(self, member: Member, task_id: str, lease_id: str) -> bool:
        """A worker took an offer; False when it holds no such lease."""
        lease = _held(member.session, task_id, lease_id)
        if lease is not None:
            member.session.accepted.add(lease_id)
            self._touches.accepted(lease)
            offer = member.session.offered(lease_id)
            if offer is not None and offer.lasts is not None:
                # Until it is stored, the end of this node would let another do what nobody else may.
                self._touches.soon()
        return lease is not None

    def progress(self, member: Member, task_id: str, lease_id: str, percent: float | None, message: str | None) -> bool:
        """A running task's newest word, as in `Progress`; False when the worker holds no such lease."""
        lease = _held(member.session, task_id, lease_id)
        if lease is not None:
            self._touches.progress(Progress(lease, percent, message))
        return lease is not None

    def logged(self, member: Member, task_id: str, lease_id: str, lines: tuple[LogLine, ...]) -> bool:
        """Lines of a running task's log; False when the worker holds no such lease."""
        offer = member.session.leases.get(lease_id)
        if offer is None or offer.task_id != task_id:
            return False
        self._log_lines.said(offer.job_id, Logged(task_id, offer.attempt, lines))
        return True

    async def occurred(self, member: Member, events: Sequence[Occurred]) -> Mapping[str, HolonError | None]:
        """A worker tells of events of tasks that it holds; see `Occurrences.take`."""
        return await self._occurrences.take(member.session, events)

    def is_current(self, member: Member) -> bool:
        """Whether no newer session has taken the place of this one."""
        return self._dispatcher.session(member.session.session_id) is not None

    def holds(self, member: Member, task_id: str, lease_id: str) -> bool:
        """Whether the worker holds this lease."""
        return _held(member.session, task_id, lease_id) is not None

    def rejected(
        self,
        member: Member,
        task_id: str,
        lease_id: str,
        *,
        again_after: int | None = None,
        cost: Cost = None,
        unbegun: bool = False,
        why: str = "",
        reason: Unfinished = Unfinished.RETURNED,
        code: str = "",
    ) -> bool:
        """A worker gives a task back without an outcome; False when it holds no such lease.

        Arguments:
            again_after: milliseconds after which it may come to this worker again; None: after a lease.
            cost: what it cost until then; None: nothing.
            unbegun: whether nobody has begun it, though it was accepted.
            why: what it says of that, where somebody may have to look at it; empty: it is a matter of course.
            reason, code: as in `Handback`.
        """
        session = member.session
        lease = _held(session, task_id, lease_id)
        if lease is not None:
            if cost is not None:
                cost = least(cost, session.leases[lease_id].max_cost)
            self._telemetry.handed_back(lease, session.leases[lease_id].skill, code or reason.value.upper(), why)
            self._dispatcher.freed(session, lease_id)
            self._touches.hand_back(
                lease, again_after=again_after, cost=cost, unbegun=unbegun, reason=reason, code=code
            )
        return lease is not None

    async def complete(self, member: Member, reported: Sequence[Reported]) -> Sequence[Answer]:
        """Apply results; see `Results.complete`.

        What comes on an older stream is judged by what the session says that holds the lease.
        """
        await self._touches.before(one.lease_id for one in reported)
        return await self._results.complete(self._dispatcher.newest(member.session), reported)

    async def was_last(self, member: Member, task_id: str, lease_id: str) -> bool:
        """Whether a task is over, and this worker had its last lease: nobody else has had it since.

        Raises:
            StoreUnavailable: the store is away.
        """
        task = await self._store.task(task_id)
        return (
            task is not None
            and task.state == "over"
            and (task.lease_id, task.worker_id) == (lease_id, member.session.worker_id)
        )

    def drain(self, member: Member, reason: str) -> None:
        """A worker takes no more tasks and will leave when it has ended those that it holds.

        Arguments:
            reason: why, as it says.
        """
        worker_id = member.session.worker_id
        log.info("worker %s stops: %s", worker_id, reason or "no reason given", extra={"worker_id": worker_id})
        self._fleet.leaving(member.session)

    def rotate(self, member: Member, time_left: int) -> None:
        """A stream has become old: its worker gets no more tasks on it, and is asked to open another.

        Arguments:
            time_left: how many milliseconds it may take.
        """
        self._fleet.leaving(member.session)
        member.session.connection.go_away("ROTATE", "this stream reached its maximum age; open another", time_left)

    def expel(self, member: Member) -> None:
        """A worker is not let in any more: its tasks go back to the queue, and nothing that it says of them counts."""
        session = member.session
        self._dispatcher.remove(session)
        for offer in session.let_go_all().values():
            self._touches.hand_back(lease_of(offer), again_after=None, unheard=True, reason=Unfinished.WORKER_LOST)
        session.accepted.clear()

    async def leave(self, member: Member) -> None:
        """A session has ended, however; its leases wait for a resume until their own deadline."""
        session = member.session
        member.held.close()
        self._fleet.left(session)
        self._dispatcher.remove(session)
        self._moved.pop(session.moved_to, None)
        if (older := self._newer_ended(session.session_id)) is not None:
            older.past.update(session.leases)
        try:
            await self._store.close_session(session.worker_id, session.session_id)
        except StoreUnavailable as error:
            said, facts = session.session_id, {"worker_id": session.worker_id, "session_id": session.session_id}
            self._away.warn("the end of session %s is stored later", said, why=error.message, **facts)
            self._touches.ended(session.worker_id, session.session_id)

    def _newer_ended(self, session_id: str) -> Session | None:
        """A session has ended. The session here that it replaced, if there is one, is asked to open anew."""
        older = self._moved.pop(session_id, None)
        if older is not None:
            # The Hello of the newer one was late, and the worker had given it up for the older stream, which it serves.
            older.connection.go_away("ROTATE", "a newer stream of this worker has ended; open another", 0)
        return older

    def drain_all(self, time_left: int) -> None:
        """This node goes: its sessions get no more offers and are asked to move within `time_left` milliseconds."""
        self._draining = True
        self._fleet.all_leaving(time_left)
        for session in list(self._dispatcher.sessions):
            _send_away(session, time_left)

    def welcomed(self, member: Member) -> None:
        """A session's Welcome has been said; where the node began to drain meanwhile, it is asked to move too."""
        if self._draining:
            _send_away(member.session, self._fleet.time_left)

    @property
    def draining(self) -> bool:
        """Whether this node takes no new sessions."""
        return self._draining

    async def quiet(self) -> None:
        """Wait until no session holds a lease."""
        await self._dispatcher.quiet()


def _outranked(worker_id: str) -> Unavailable:
    return Unavailable(
        f"worker {worker_id[:128]!r} has a session with a stronger credential, which this one cannot replace. End "
        "that session, or use the same credential: a certificate is stronger than a token, and the worker's own "
        "token is stronger than GLOBAL_WORKER_TOKEN",
        code="WEAKER_PROOF",
        retry_after=_OUTRANKED_RETRY_S,
    )


def _held(session: Session, task_id: str, lease_id: str) -> LeaseRef | None:
    offer = session.leases.get(lease_id)
    return lease_of(offer) if offer is not None and offer.task_id == task_id else None


def _send_away(session: Session, time_left: int) -> None:
    session.connection.go_away("DRAINING", "this node is shutting down", time_left)
