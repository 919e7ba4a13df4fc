"""The worker door: what a worker says in one session, message by message; a bad one is refused and harms nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from holon.clock import Clock
from holon.domain.fleet import MAX_CREDITS
from holon.domain.task import CONTRACT_VIOLATION, LIMIT_EXCEEDED, Outcome
from holon.domain.texts import MAX_ERROR_CODE, clipped
from holon.engine.members import Member
from holon.engine.rates import Call, RateLimits
from holon.engine.results import Reported
from holon.engine.workers import Workers
from holon.errors import HolonError, InvalidArgument, ResourceExhausted, TooLarge, invalid
from holon.rxon.v1 import worker_pb2
from holon.transports.grpc.child_tree import ChildTree
from holon.transports.grpc.clerk import RETRY_S, Clerk
from holon.transports.grpc.hello import catalog_of, credits_of, offering_credits_of
from holon.transports.grpc.outgoing import Outgoing
from holon.transports.grpc.saying import check_held, check_ids, fit, parsed, unknown
from holon.wire.events import event_of
from holon.wire.load import load_of
from holon.wire.log_lines import lines_of
from holon.wire.stream import BATCH_BYTES, BATCH_ITEMS
from holon.wire.values import MAX_ID, check_empty, cost_of, is_id, seconds
from holon.wire.worker import UNSERVABLE, outcome_of, took_of

MAX_PROGRESS_MESSAGE = 1024
# Of why a task comes back, or a worker leaves, the log has so many bytes.
MAX_REASON = 512
# Nobody need look at these: there will be room again, the worker leaves, or the offer came too late.
_OF_COURSE = frozenset(("BUSY", "DRAINING", "STALE_OFFER"))
# Nobody is kept from a task for longer than a lease, whatever he says.
MAX_AGAIN_S = 86_400.0
# What is said of a lease once, and without an answer.
_ALWAYS_TAKEN = ("accepted", "rejected")
# Who leaves may say so at any time; and of the tokens by which it goes on only the newest is looked at, one at a time.
_UNCOUNTED = ("drain", "reauthenticate")
# What a frame may have around a batch.
_AROUND_BATCH = 64


class Incoming:
    """Reads one session's messages, after Hello, and does what they say. Nothing here waits, but to be counted.

    Arguments:
        catalog_sequence: of the catalog in Hello.
        rates: lets messages pass as far as the worker's limit goes; None: all.
        renew: takes a new access token, with the ordinal of its message; None where there are none.
        tree: takes what the worker tells of its jobs, when it is a holon.
    """

    def __init__(
        self,
        workers: Workers,
        member: Member,
        clerk: Clerk,
        outgoing: Outgoing,
        clock: Clock,
        catalog_sequence: int,
        rates: RateLimits | None,
        renew: Callable[[int, str], None] | None = None,
        tree: ChildTree | None = None,
    ) -> None:
        self.drained = False
        self._workers = workers
        self._member = member
        self._clerk = clerk
        self._outgoing = outgoing
        self._clock = clock
        self._catalog_sequence = catalog_sequence
        self._rates = rates
        self._frame = 1
        self._kinds: dict[str, Callable[[worker_pb2.SessionRequest], None]] = {
            "hello": self._hello,
            "catalog": self._catalog,
            "heartbeat": self._heartbeat,
            "task_updates": self._task_updates,
            "drain": self._drain,
            "events": self._events,
        }
        self._renew = renew
        if renew is not None:
            self._kinds["reauthenticate"] = self._reauthenticate
        self._tree = tree
        if tree is not None:
            self._kinds["tree_page"] = lambda frame: tree.answered(frame.tree_page)
            self._kinds["command_replies"] = lambda frame: tree.decisions.replied(frame.command_replies)
        self._updates: dict[str, Callable[[worker_pb2.TaskUpdate], None]] = {
            "accepted": self._accepted,
            "rejected": self._rejected,
            "progress": self._progress,
            "logs": self._logs,
        }

    def __repr__(self) -> str:
        return f"Incoming(frame={self._frame}, drained={self.drained})"

    async def take(self, raw: bytes) -> None:
        """Do what a message says, or refuse it."""
        self._frame += 1
        try:
            frame = parsed(raw)
            kind = frame.WhichOneof("message")
            if kind not in self._kinds:
                raise unknown("message", kind, code="UNKNOWN_MESSAGE")
            if self._rates is None or await self._admitted(self._rates, kind, frame):
                self._kinds[kind](frame)
        except HolonError as error:
            self._outgoing.refuse(self._frame, error)

    async def _admitted(self, rates: RateLimits, kind: str, frame: worker_pb2.SessionRequest) -> bool:
        """Whether a message is taken, or what is left in it of one that is over the limit.

        A heartbeat over its limit is refused and not answered, but whoever sends it lives: it keeps its leases. No such
        refusal is a mistake of the worker, and none counts towards its end.
        """
        if kind in _UNCOUNTED or self._answers(kind, frame):
            return True
        try:
            call = Call.HEARTBEAT if kind == "heartbeat" else Call.FRAME
            await rates.admit(call, self._member.session.worker_id)
        except ResourceExhausted as error:
            if kind == "task_updates":
                return self._cut(frame, error)
            if kind == "events":
                self._events_again(frame, error)
                return False
            self._outgoing.refuse(self._frame, error)
            if kind == "heartbeat":
                self._lives(frame.heartbeat)
            return False
        return True

    def _answers(self, kind: str, frame: worker_pb2.SessionRequest) -> bool:
        """Whether somebody here waits for this: what the node has asked for is not counted, and comes once."""
        if self._tree is None:
            return False
        if kind == "tree_page":
            return self._tree.awaits(frame.tree_page)
        return kind == "command_replies" and self._tree.decisions.await_any(frame.command_replies)

    def _cut(self, frame: worker_pb2.SessionRequest, error: ResourceExhausted) -> bool:
        """Leave in a batch over the limit what is said only once; whether there is any.

        Without that a task would run twice, and count against the worker's credits for good. Each result is to be sent
        again, which is its answer. The rest is refused.
        """
        updates = frame.task_updates.updates
        kept = [update for update in updates if update.WhichOneof("update") in _ALWAYS_TAKEN]
        if self._again(frame, error) + len(kept) < len(updates):
            self._outgoing.refuse(self._frame, error)
        del updates[:]
        updates.extend(kept)
        return bool(kept)

    def _events_again(self, frame: worker_pb2.SessionRequest, error: ResourceExhausted) -> None:
        """Have the events of a message sent again: its worker keeps them, and its tasks' results, until it is answered.

        Of more than a batch has none is answered, nor what has no id.
        """
        events = frame.events.events
        named = [event.event_id for event in events if is_id(event.event_id)] if len(events) <= BATCH_ITEMS else []
        self._outgoing.took_events(dict.fromkeys(named, error))
        if not named or len(named) < len(events):
            self._outgoing.refuse(self._frame, error)

    def _hello(self, _: worker_pb2.SessionRequest) -> None:
        raise InvalidArgument("this stream already had its Hello; send Hello once", code="HELLO_REPEATED")

    def _catalog(self, frame: worker_pb2.SessionRequest) -> None:
        if frame.catalog.sequence < self._catalog_sequence:
            return
        self._clerk.offers(self._frame, catalog_of(frame.catalog))
        self._catalog_sequence = frame.catalog.sequence

    def _heartbeat(self, frame: worker_pb2.SessionRequest) -> None:
        self._lives(frame.heartbeat)
        self._outgoing.beat(frame.heartbeat.sequence, self._clock.now_ms())

    def _lives(self, heartbeat: worker_pb2.Heartbeat) -> None:
        of_offerings = offering_credits_of(heartbeat.offering_credits)
        granted = credits_of(heartbeat.credits) if heartbeat.HasField("credits") else None
        held = None
        if heartbeat.HasField("held"):
            leases = heartbeat.held.leases
            check_empty(heartbeat.held.no_leases, leases, "held.no_leases")
            if len(leases) > MAX_CREDITS:
                raise invalid("held.leases", f"has {len(leases)} leases; a worker holds at most {MAX_CREDITS}")
            for one in leases:
                check_ids(one, "held.leases.")
            # Of those that are named on an older stream, the newer one says what goes on.
            if self._workers.is_current(self._member):
                known = self._member.session.leases
                # The rest is told of when the next heartbeat names it again: no answer is larger than what it answers.
                lost = (one for one in leases if one.lease_id not in known)
                self._outgoing.lost(list(islice(lost, BATCH_ITEMS)))
            held = [one.lease_id for one in leases]
        if of_offerings:
            self._clerk.grants(of_offerings)
        load = load_of(heartbeat.load) if heartbeat.HasField("load") else None
        self._workers.heartbeat(self._member, granted, held, of_offerings, load)

    def _reauthenticate(self, frame: worker_pb2.SessionRequest) -> None:
        if self._renew is not None:
            self._renew(self._frame, frame.reauthenticate.access_token)

    def _drain(self, frame: worker_pb2.SessionRequest) -> None:
        # It may be said again, as on each stream of a worker that leaves.
        if not self.drained:
            self._workers.drain(self._member, _line(frame.drain.reason))
        self.drained = True
        self._outgoing.leave()

    def _events(self, frame: worker_pb2.SessionRequest) -> None:
        events = frame.events.events
        if len(events) > BATCH_ITEMS or (len(events) > 1 and frame.ByteSize() > BATCH_BYTES + _AROUND_BATCH):
            raise TooLarge(
                f"a batch of {len(events)} events and {frame.ByteSize()} bytes is over the limit of {BATCH_ITEMS} "
                f"events or {BATCH_BYTES} bytes; send smaller batches",
                code="BATCH_TOO_LARGE",
                retry_after=RETRY_S,
            )
        for event in events:
            try:
                self._clerk.event(event_of(event, self._clock.now_ms(), passed=self._member.session.is_holon))
            except HolonError as error:
                # What is no id is not said back.
                if not is_id(event.event_id):
                    self._outgoing.refuse(self._frame, error)
                else:
                    self._outgoing.refuse_event(event.event_id, error)

    # Updates of tasks --------------------------------------------------------------------------------------------

    def _task_updates(self, frame: worker_pb2.SessionRequest) -> None:
        updates = frame.task_updates.updates
        if len(updates) > BATCH_ITEMS or (len(updates) > 1 and frame.ByteSize() > BATCH_BYTES + _AROUND_BATCH):
            self._refuse_batch(frame)
        for update in updates:
            try:
                kind = update.WhichOneof("update")
                # Each look at a field of a message makes its value anew.
                task_id, lease_id = update.task_id, update.lease_id
                if not task_id or not lease_id:
                    raise InvalidArgument("an update needs its task_id and its lease_id", code="IDS_MISSING")
                if len(task_id) > MAX_ID or len(lease_id) > MAX_ID:
                    check_ids(update, "")
                if kind == "result":
                    self._result(task_id, lease_id, update)
                elif kind in self._updates:
                    self._updates[kind](update)
                else:
                    raise unknown("update", kind, code="UNKNOWN_UPDATE")
            except HolonError as error:
                named = (update.task_id, update.lease_id) if fit(update) else ()
                self._outgoing.refuse(self._frame, error, *named)

    def _refuse_batch(self, frame: worker_pb2.SessionRequest) -> None:
        """None of it is done; each result in it is to be sent again, in a smaller batch."""
        updates = frame.task_updates.updates
        error = TooLarge(
            f"a batch of {len(updates)} updates and {frame.ByteSize()} bytes is over the limit of {BATCH_ITEMS} "
            f"updates or {BATCH_BYTES} bytes; send smaller batches",
            code="BATCH_TOO_LARGE",
            retry_after=RETRY_S,
        )
        self._again(frame, error)
        raise error

    def _again(self, frame: worker_pb2.SessionRequest, error: HolonError) -> int:
        """Have the results of a message sent again; how many they are.

        Nobody holds as many tasks as a batch can name: of more than can be held, none is answered.
        """
        updates = frame.task_updates.updates
        if len(updates) > MAX_CREDITS:
            return 0
        results = [update for update in updates if update.HasField("result") and fit(update)]
        for update in results:
            self._outgoing.later(update.task_id, update.lease_id, error)
        return len(results)

    def _accepted(self, update: worker_pb2.TaskUpdate) -> None:
        held = self._workers.accepted(self._member, update.task_id, update.lease_id)
        if not held and self._workers.is_current(self._member):
            # It works for nobody. Of what is said on an older stream, a newer one may go on with the lease.
            self._outgoing.lost((update,))
        check_held(held, update)

    def _rejected(self, update: worker_pb2.TaskUpdate) -> None:
        if self._clerk.has(update.lease_id):
            # What is said of a lease is taken in its order, and the result was the last word.
            return
        rejected = update.rejected
        after = None
        if rejected.retry_at_once or rejected.HasField("retry_after"):
            after = round(min(max(0.0, seconds(rejected.retry_after)), MAX_AGAIN_S) * 1000)
        wrong, cost = None, None
        try:
            cost = cost_of(rejected)
        except InvalidArgument as error:
            # The task goes back all the same: nobody else would end its lease while the worker lives.
            wrong = error
        unbegun = rejected.reason == UNSERVABLE and not rejected.cost
        why = "" if rejected.reason in _OF_COURSE else f"{rejected.reason or 'no reason'}: {rejected.message}"
        lease = update.task_id, update.lease_id
        back = self._workers.rejected(
            self._member,
            *lease,
            again_after=after,
            cost=cost,
            unbegun=unbegun,
            why=_line(why),
            code=clipped(rejected.reason, MAX_ERROR_CODE),
        )
        check_held(back, update)
        if wrong is not None:
            raise wrong

    def _progress(self, update: worker_pb2.TaskUpdate) -> None:
        progress = update.progress
        percent = progress.percent if progress.HasField("percent") else None
        if percent is not None and not (math.isfinite(percent) and 0 <= percent <= 100):
            raise invalid("progress.percent", f"is {percent}; it must be 0 to 100")
        message = clipped(progress.message, MAX_PROGRESS_MESSAGE)
        if progress.HasField("summary") and self._tree is not None:
            check_held(self._workers.holds(self._member, update.task_id, update.lease_id), update)
            self._tree.told(update.task_id, update.lease_id, progress.summary, self._generation(update.lease_id))
            if percent is None and not message:
                return
        # Who says nothing at all takes back what was said.
        said = None if percent is not None and not message else message
        check_held(self._workers.progress(self._member, update.task_id, update.lease_id, percent, said), update)

    def _logs(self, update: worker_pb2.TaskUpdate) -> None:
        lines = lines_of(update.logs, self._clock.now_ms(), passed=self._member.session.is_holon)
        check_held(self._workers.logged(self._member, update.task_id, update.lease_id, lines), update)

    def _result(self, task_id: str, lease_id: str, update: worker_pb2.TaskUpdate) -> None:
        worker_id = self._member.session.worker_id
        broken: InvalidArgument | None = None
        cost = None
        result = update.result
        try:
            cost = cost_of(result, code="RESULT_INVALID")
            outcome = outcome_of(result, worker_id, passed=self._member.session.is_holon)
        except InvalidArgument as error:
            broken = error
            code = LIMIT_EXCEEDED if isinstance(error, TooLarge) else CONTRACT_VIOLATION
            outcome = Outcome.failed(code, error.message, worker_id)
        told, generation = None, 0
        if self._tree is not None and result.HasField("summary"):
            told, generation = self._tree.summary(result.summary), self._generation(lease_id)
        took = took_of(result)
        self._clerk.report(Reported(task_id, lease_id, outcome, took, broken, update.resent, told, cost, generation))

    def _generation(self, lease_id: str) -> int:
        """The generation of the task that was offered under a lease; 0: that is not known here."""
        offer = self._member.session.offered(lease_id)
        return 0 if offer is None else offer.generation


def _line(text: str) -> str:
    return clipped(" ".join(text.split()), MAX_REASON)
