"""The worker door: what of a session needs the store, done by one task in batches, so that reading never waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from holon.domain.events import Occurred
from holon.domain.fleet import Catalog
from holon.engine.members import Member
from holon.engine.results import Answer, Reported
from holon.engine.session import Offered
from holon.engine.workers import Workers
from holon.errors import HolonError, ResourceExhausted, StoreUnavailable
from holon.transports.grpc.child_tree import ChildTree
from holon.transports.grpc.outgoing import Outgoing
from holon.wire.bell import Bell
from holon.wire.stream import BATCH_ITEMS

MAX_RESULTS = 10_000
MAX_EVENTS = 1_000
MAX_BYTES = 32 * 1024 * 1024
RETRY_S = 1.0


@dataclass(slots=True)
class _Offers:
    """A catalog that is not learned yet; `granted` is what was said after it of the credits of its offerings."""

    frame: int
    catalog: Catalog
    granted: dict[Offered, int] = field(default_factory=dict)


class Clerk:
    """Brings one session's results, events and catalogs to the engine, and the answers back, in the order they came.

    Arguments:
        outgoing: where the answers go.
        tree: where what it tells of its jobs is kept, when the worker is a holon.
    """

    def __init__(self, workers: Workers, member: Member, outgoing: Outgoing, tree: ChildTree | None = None) -> None:
        self._workers = workers
        self._member = member
        self._outgoing = outgoing
        self._tree = tree
        # With the size of each.
        self._results: list[tuple[Reported, int]] = []
        self._bytes = 0
        self._events: list[Occurred] = []
        # The leases of those that are not answered yet.
        self._unanswered: set[str] = set()
        self._catalog: _Offers | None = None
        self._learning: _Offers | None = None
        self._bell = Bell()
        self._closed = False

    def __repr__(self) -> str:
        return f"Clerk(results={len(self._results)}, events={len(self._events)}, bytes={self._bytes})"

    def report(self, reported: Reported) -> None:
        """Take a result. While too many wait for the store, it is to be sent again instead."""
        size = _size(reported)
        if len(self._results) >= MAX_RESULTS or (self._bytes and self._bytes + size > MAX_BYTES):
            busy = ResourceExhausted(
                f"{len(self._results)} results of this session wait to be stored; send this one again after "
                "retry_after",
                code="RATE_LIMITED",
                retry_after=RETRY_S,
            )
            self._outgoing.later(reported.task_id, reported.lease_id, busy)
            return
        self._results.append((reported, size))
        self._unanswered.add(reported.lease_id)
        self._bytes += size
        if len(self._results) == 1:
            # Else it is awake: it stores until nothing waits.
            self._bell.ring()

    def event(self, event: Occurred) -> None:
        """Take an event. While too many wait for the store, it is to be sent again instead."""
        size = len(event.payload)
        if len(self._events) >= MAX_EVENTS or (self._bytes and self._bytes + size > MAX_BYTES):
            busy = ResourceExhausted(
                f"{len(self._events)} events of this session wait to be stored; send this one again after retry_after",
                code="RATE_LIMITED",
                retry_after=RETRY_S,
            )
            self._outgoing.took_events({event.event_id: busy})
            return
        self._events.append(event)
        self._bytes += size
        self._bell.ring()

    def has(self, lease_id: str) -> bool:
        """Whether a result under this lease came, and is not answered yet."""
        return lease_id in self._unanswered

    def offers(self, frame: int, catalog: Catalog) -> None:
        """Take the worker's new catalog, which came in this frame; a newer one replaces it."""
        self._catalog = _Offers(frame, catalog)
        self._bell.ring()

    def grants(self, granted: Mapping[Offered, int]) -> None:
        """The worker said how many tasks of single offerings it takes: after the catalogs that are not learned yet."""
        for one in (self._learning, self._catalog):
            if one is not None:
                one.granted.update(granted)

    def close(self) -> None:
        """Take nothing more; `run` does what waits, and then returns."""
        self._closed = True
        self._bell.ring()

    async def run(self) -> None:
        """Work until `close` and the last answer. On cancel, what waits is dropped; the worker sends it again."""
        much = False
        while not (self._closed and not self._waits):
            # While many come, the results that two turns of the loop bring share a transaction.
            await self._bell.heard(gathers=much)
            much = len(self._results) > 1
            while self._waits:
                await self._learn()
                # The events that came before these results, and no more: others may come all the while.
                results = len(self._results)
                await self._tell(len(self._events))
                await self._complete(results)
                much = much or bool(self._results)

    @property
    def _waits(self) -> bool:
        return bool(self._results or self._events or self._catalog is not None)

    async def _tell(self, most: int) -> None:
        """Tell the jobs of the first events: of a task that is over nobody could take them."""
        for told in range(0, most, BATCH_ITEMS):
            taken = self._events[: min(BATCH_ITEMS, most - told)]
            del self._events[: len(taken)]
            answers = await self._workers.occurred(self._member, taken)
            self._bytes -= sum([len(one.payload) for one in taken])
            self._outgoing.took_events(answers)

    async def _learn(self) -> None:
        if self._catalog is None:
            return
        self._learning, self._catalog = self._catalog, None
        frame = self._learning.frame
        try:
            await self._workers.offers(self._member, self._learning.catalog, self._learning.granted)
        except HolonError as error:
            self._outgoing.refuse(frame, error)
        finally:
            self._learning = None

    async def _complete(self, most: int) -> None:
        taken = self._results[: min(BATCH_ITEMS, most)]
        del self._results[: len(taken)]
        if taken:
            batch = [reported for reported, _ in taken]
            try:
                answers = await self._workers.complete(self._member, batch)
                if self._tree is not None:
                    # Before it is acknowledged: it comes again with the result, if this node ends here.
                    await self._keep(self._tree, batch, answers)
            except StoreUnavailable:
                answers = [Answer(one.task_id, one.lease_id, again_after=RETRY_S) for one in batch]
            self._bytes -= sum([size for _, size in taken])
            self._unanswered.difference_update([one.lease_id for one in batch])
            self._outgoing.answer(answers)

    async def _keep(self, tree: ChildTree, batch: Sequence[Reported], answers: Sequence[Answer]) -> None:
        """Keep what was told with results that were used, or came when their task was over: it may be cancelled."""
        verdicts = {(one.task_id, one.lease_id): one for one in answers if one.again_after is None}
        told: list[tuple[str, str, bytes, int]] = []
        for one in batch:
            answer = verdicts.get((one.task_id, one.lease_id))
            if one.summary is None or answer is None:
                continue
            if not answer.superseded or await self._workers.was_last(self._member, one.task_id, one.lease_id):
                told.append((one.task_id, one.lease_id, one.summary, one.generation))
        await tree.ended(told)


def _size(reported: Reported) -> int:
    """About what a result takes while it waits, in bytes."""
    error, summary = reported.outcome.error, reported.summary
    size = len(reported.outcome.data) + (len(error.details) + len(error.message) if error is not None else 0)
    return size + (len(summary) if summary is not None else 0)
