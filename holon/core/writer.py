"""The writer: changes of shards are written in batches, and nothing leaves before its batch is durable.

The rules change rows in memory and hand everything that is to leave the process (answers, offers, mail) to the gate.
The writer cuts the changes of all shards into one batch each, writes them in one round trip (a flight), and opens the
gate for what waits for them. What changes meanwhile forms the next flight, so one batch of a shard is in flight at a
time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, repeat
from time import perf_counter
from typing import Any, Protocol, TypeAlias, TypeVar

from holon.domain.value import Value
from holon.errors import StoreBroken, StoreUnavailable
from holon.stores.port import Batch, Entry, Head, Row, RowKey, RowStore, Word

log = logging.getLogger(__name__)

T = TypeVar("T")
# What to call, its argument, and the ownerships that it rests on.
Act: TypeAlias = tuple[Callable[[Any], object], Any, "On"]
# A future, its result, and the ownerships that it rests on.
Answer: TypeAlias = tuple["asyncio.Future[Any]", Any, "On"]

# Pauses between tries of a write whose outcome is unknown, in seconds; the last one repeats.
RETRY_S = (0.02, 0.05, 0.1, 0.2, 0.5)
# If a write is unconfirmed for this time (seconds), the store counts as away: calls are refused, also those that wait
# for their batch, and timers stand still. The changes stay in their batch, and are written once the store is back.
AWAY_S = 1.0
# The event loop may have stood still, so that the reply is there but not read. It is read in this time (seconds).
STALL_S = 0.05
# A large write takes longer: this much for each byte (seconds).
AWAY_S_PER_BYTE = 1e-7
# A shard with nothing to write gets an empty batch this long after its last one (seconds). After 10 s without a batch,
# another node takes it. Shards whose last batch is half as old go along, so that many shards share a round trip.
RENEW_S = 2.5
# The newest batches are kept, because a failover of the store may lose them: at most this number, and this many bytes.
KEPT_BATCHES = 64
KEPT_BYTES = 16 * 2**20

NOT_CONFIRMED = (
    "the node lost its part of the store before the answer was confirmed: it may have been carried out; repeat it"
)


class Cut(Value, gc=True):
    """What changed in a shard since the last cut; the parts are those of `Batch`."""

    stamp: int
    puts: Sequence[Row] = ()
    deletes: Sequence[RowKey] = ()
    purged: Sequence[str] = ()
    entries: Sequence[Entry] = ()
    removed: Sequence[Entry] = ()


class Rows(Protocol):
    """The rows of one shard in memory, as the writer sees them."""

    def cut(self) -> Cut:
        """All changes since the last cut. Never raises: what could fail has failed in the turn that changed it."""
        ...

    def written(self) -> None:
        """The last cut is durable."""
        ...

    def lost(self, why: str) -> None:
        """The shard is no longer this node's, or must be loaded again. Called once; nothing is written any more."""
        ...


class Ownership:
    """This process's ownership of one shard.

    Attributes:
        head: the shard's head as it was acquired.
        batch: the number of the last batch that was cut.
        lost: whether the ownership has ended.
        dirty: whether rows changed that are in no batch yet.
        cut_at: when the last batch was cut, by the loop's time.
        kept: the newest batches, for a store that loses some at a failover.
    """

    def __init__(self, head: Head, rows: Rows, dropped: Callable[[Head, str], object]) -> None:
        self.head = head
        self.rows = rows
        self.dropped = dropped
        self.batch = head.batch
        self.lost = False
        self.dirty = False
        self.cut_at = asyncio.get_running_loop().time()
        self.kept: deque[Batch] = deque()
        self.kept_bytes = 0

    def __repr__(self) -> str:
        return f"Ownership(shard={self.head.shard}, batch={self.batch}, {'lost' if self.lost else 'held'})"

    def cut(self) -> Batch:
        """The next batch."""
        self.dirty = False
        self.cut_at = asyncio.get_running_loop().time()
        cut = self.rows.cut()
        self.batch += 1
        return Batch(
            self.head.shard, self.head.epoch, self.head.token, self.batch, cut.stamp,
            cut.puts, cut.deletes, cut.purged, cut.entries, cut.removed,
        )  # fmt: skip

    def keep(self, batch: Batch) -> None:
        """Keep a batch that was applied, and forget the oldest beyond the limits."""
        self.kept.append(batch)
        self.kept_bytes += _size(batch)
        while len(self.kept) > KEPT_BATCHES or self.kept_bytes > KEPT_BYTES:
            self.kept_bytes -= _size(self.kept.popleft())


# What an act or an answer rests on: it leaves only if all of these are still held after its flight.
On: TypeAlias = Collection[Ownership]


class Flight:
    """The batches that are written together, one of each changed shard, and what waits for them."""

    def __init__(self, owned: Sequence[Ownership], acts: list[Act], answers: list[Answer]) -> None:
        self.owned = owned
        self.acts = acts
        self.answers = answers

    def __repr__(self) -> str:
        return f"Flight({self.owned})"

    def refuse(self, why: str) -> None:
        """Refuse all who wait for it, without waiting for its end."""
        _refuse(self.answers, why)


class Gate:
    """Where everything that leaves the process waits for the batches that it rests on.

    Answers leave in the order of their calls.

    Arguments:
        exclusive: whether no other process can take the shards.
        check: raises StoreUnavailable while the store is away.
    """

    def __init__(self, *, exclusive: bool, check: Callable[[], None]) -> None:
        self._exclusive = exclusive
        self._check = check
        self.woken = asyncio.Event()
        # Shards with changes that are in no batch yet.
        self._dirty: dict[Ownership, None] = {}
        self._acts: list[Act] = []
        self._answers: list[Answer] = []
        self.flight: Flight | None = None
        # Whether futures have their results, and those who wait for them have not run yet.
        self.answering = False

    def __repr__(self) -> str:
        return f"Gate(dirty={len(self._dirty)}, answers={len(self._answers)})"

    @property
    def busy(self) -> bool:
        """Whether anything changed that is not durable yet, or waits for that."""
        return bool(self._dirty or self.flight is not None or self._acts or self._answers)

    def changed(self, *owned: Ownership) -> None:
        """Rows of these shards changed: they are to be written."""
        for one in owned:
            if not one.dirty and not one.lost:
                one.dirty = True
                self._dirty[one] = None
                self.woken.set()

    def then(self, act: Callable[[T], object], argument: T, on: On) -> None:
        """Call this once all changes so far are durable; never, if a shard of `on` is lost. It must not raise."""
        if self.flight is not None and not self._waiting:
            self.flight.acts.append((act, argument, on))
        else:
            self._acts.append((act, argument, on))
            self.woken.set()

    def answer(self, future: asyncio.Future[T], value: T, on: On) -> None:
        """Set the result of a future once all changes so far are durable, and after all earlier acts.

        If a shard of `on` is lost before, the future gets StoreUnavailable.
        """
        if self.flight is not None and not self._waiting:
            self.flight.answers.append((future, value, on))
        else:
            self._answers.append((future, value, on))
            self.woken.set()

    @property
    def _waiting(self) -> bool:
        """Whether something waits for the flight after the one that is under way."""
        return bool(self._dirty or self._acts or self._answers)

    async def passed(self, *on: Ownership) -> None:
        """Wait until all changes so far are durable.

        Raises:
            StoreUnavailable: changes of these shards were lost, or may have been, or the store is away.
        """
        if _any_lost(on):
            raise not_confirmed()
        self._check()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer(future, None, on)
        await future

    async def confirmed(self, *on: Ownership) -> None:
        """Wait until what memory shows of these shards now is durable, and they are certainly this node's.

        Where one process locks the store, memory is right once no change is unwritten. Elsewhere another node may have
        taken a shard, so the next batch has to be applied, an empty one if need be.

        Raises:
            StoreUnavailable: as `passed`.
        """
        if _any_lost(on):
            raise not_confirmed()
        if not self._exclusive:
            self.changed(*on)
        if self.busy:
            await self.passed(*on)

    def take(self) -> Flight | None:
        """Begin a flight with all that changed, and all that waits; None if there is nothing."""
        if not self._waiting:
            return None
        self.flight = Flight([*self._dirty], self._acts, self._answers)
        self._dirty, self._acts, self._answers = {}, [], []
        return self.flight

    def open(self, flight: Flight) -> None:
        """A flight has ended: let out all that waits for it, except what rests on a shard that is lost."""
        self.flight = None
        for act, argument, on in flight.acts:
            if not _any_lost(on):
                act(argument)
        for answer in flight.answers:
            future, value, on = answer
            if future.done():
                continue
            if _any_lost(on):
                _refuse((answer,))
            else:
                future.set_result(value)
        if flight.answers:
            self.answering = True
            asyncio.get_running_loop().call_soon(self._answered)

    def _answered(self) -> None:
        self.answering = False

    def refuse(self, why: str) -> None:
        """Refuse all who wait; their changes stay."""
        if self.flight is not None:
            self.flight.refuse(why)
        answers, self._answers = self._answers, []
        _refuse(answers, why)

    def drop(self, owned: Ownership) -> None:
        """A shard is lost: nothing that rests on it leaves any more."""
        owned.lost, owned.dirty = True, False
        self._dirty.pop(owned, None)
        self._acts = [one for one in self._acts if not _any_lost(one[2])]
        answers = self._answers
        self._answers = [one for one in answers if not _any_lost(one[2])]
        _refuse(one for one in answers if _any_lost(one[2]))


class Writer:
    """Writes the changes of all shards that this process owns.

    Arguments:
        store: where to write.
        flown: called after each write with how many callers waited for it, and how many seconds it took.
    """

    def __init__(
        self, store: RowStore, *, flown: Callable[[int, float], object] = lambda _waited, _seconds: None
    ) -> None:
        self._store = store
        self._flown = flown
        self._owned: dict[int, Ownership] = {}
        # Whether the store confirms nothing: then no mutation begins, and timers stand still.
        self.away = False
        self._why = ""
        self._leaving: asyncio.TimerHandle
        self.gate = Gate(exclusive=store.exclusive, check=self.check)

    def __repr__(self) -> str:
        return f"Writer({list(self._owned.values())})"

    def add(self, head: Head, rows: Rows, dropped: Callable[[Head, str], object]) -> Ownership:
        """Write for a shard that this node owns from now on.

        Arguments:
            dropped: called when it is lost, with the node that has taken it; empty: none has.
        """
        owned = self._owned[head.shard] = Ownership(head, rows, dropped)
        # The next look for shards to renew counts it.
        self.gate.woken.set()
        return owned

    def drop(self, owned: Ownership, why: str, taken: str = "") -> None:
        """A shard is lost: nothing is written for it any more, and nothing that rests on it leaves.

        Arguments:
            taken: the name of the node that has taken it, if one has.
        """
        if not owned.lost:
            self._owned.pop(owned.head.shard, None)
            self.gate.drop(owned)
            owned.rows.lost(why)
            owned.dropped(owned.head, taken)

    def check(self) -> None:
        """Raise StoreUnavailable while the store is away."""
        if self.away:
            raise StoreUnavailable(f"the store does not confirm writes: {self._because}", retry_after=1.0)

    @property
    def _because(self) -> str:
        return self._why or "it does not answer"

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            StoreBroken: this process can never write to the store again.
        """
        while True:
            try:
                async with asyncio.timeout_at(self._renew()):
                    await self.gate.woken.wait()
            except TimeoutError:
                pass
            self.gate.woken.clear()
            self._renew()
            flight = self.gate.take()
            if flight is not None:
                await self._fly(flight)

    def _renew(self) -> float | None:
        """Have a batch written, empty or not, for each shard that must have one now, or will soon.

        Returns:
            when the next shard must have one, by the loop's time; None: none ever must.
        """
        if self._store.exclusive or not self._owned:
            return None
        now, oldest = asyncio.get_running_loop().time(), min(one.cut_at for one in self._owned.values())
        if now >= oldest + RENEW_S:
            self.gate.changed(*(one for one in self._owned.values() if now - one.cut_at >= RENEW_S / 2))
        return oldest + RENEW_S

    async def _fly(self, flight: Flight) -> None:
        """Write a batch of each shard of a flight in one round trip, and let out what waits for them."""
        batches = [owned.cut() for owned in flight.owned]
        waited, began = len(flight.answers), perf_counter()
        words: Sequence[tuple[Word, Head]] = ()
        if batches:
            try:
                words = [*await self._apply(batches)]
                for at, (word, head) in enumerate(words):
                    if word is Word.GAP:
                        words[at] = await self._repair(flight.owned[at], batches[at], head)
            except BaseException:
                flight.refuse(NOT_CONFIRMED)
                raise
            self._flown(waited, perf_counter() - began)
        for owned, batch, (word, head) in zip(flight.owned, batches, words, strict=True):
            if owned.lost:
                continue
            if word is Word.APPLIED:
                if not self._store.exclusive:
                    owned.keep(batch)
                owned.rows.written()
                continue
            if word is Word.FENCED:
                self.drop(owned, f"node {head.node!r} has taken it", head.node)
            else:
                self.drop(owned, "the store lost batches, and it is loaded again")
        self.gate.open(flight)

    async def _apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        """Send batches, unchanged, until there is a definite word about all of them."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        # A call that does not return counts too.
        patience = AWAY_S + sum(map(_size, batches)) * AWAY_S_PER_BYTE
        self._leaving = loop.call_later(patience, self._leave_after, STALL_S)
        try:
            for pause in chain(RETRY_S, repeat(RETRY_S[-1])):
                try:
                    words = await self._store.apply(batches)
                except StoreBroken:
                    raise
                except StoreUnavailable as error:
                    if self._why != error.message:
                        log.warning("the store confirms nothing: %s", error.message)
                    self._why = error.message
                else:
                    if self._why:
                        log.info("the store confirms writes again, after %.1f s", loop.time() - began)
                    self.away, self._why = False, ""
                    return words
                await asyncio.sleep(pause)
        finally:
            self._leaving.cancel()
        raise AssertionError

    def _leave_after(self, seconds: float) -> None:
        self._leaving = asyncio.get_running_loop().call_later(seconds, self._leave)

    def _leave(self) -> None:
        """The store confirms nothing for `AWAY_S`: callers hear of it, and can ask elsewhere or again."""
        self.away = True
        self.gate.refuse(
            f"the store does not confirm writes ({self._because}): this one may yet be carried out; repeat it"
        )

    async def _repair(self, owned: Ownership, batch: Batch, head: Head) -> tuple[Word, Head]:
        """The store went back in time: send again what it lost, as far as that is kept."""
        kept, word = [*owned.kept, batch], Word.GAP
        while word is Word.GAP:
            missing = [one for one in kept if one.number > head.batch]
            if not missing or missing[0].number != head.batch + 1:
                break
            # It may do so once more meanwhile.
            log.warning("shard %d of the store lost %d batches; they are written again", head.shard, len(missing) - 1)
            for one in missing:
                [(word, head)] = await self._apply([one])
                if word is not Word.APPLIED:
                    break
        if word is Word.GAP:
            log.error(
                "shard %d of the store went back from batch %d to %d, as after a restored backup or a failover to a "
                "replica that was behind: what was acknowledged in between is lost",
                head.shard, batch.number - 1, head.batch,
            )  # fmt: skip
        return word, head


def not_confirmed(why: str = NOT_CONFIRMED) -> StoreUnavailable:
    """The error for a caller whose change may or may not have been written."""
    return StoreUnavailable(why, retry_after=1.0)


def _any_lost(on: On) -> bool:
    return any(owned.lost for owned in on)


def _refuse(answers: Iterable[Answer], why: str = NOT_CONFIRMED) -> None:
    """Tell those who wait for a batch that it may or may not have been written."""
    for future, _, _ in answers:
        if not future.done():
            future.set_exception(not_confirmed(why))
            # Nobody may be waiting any more.
            future.exception()


def _size(batch: Batch) -> int:
    return sum(len(value) for _, _, value in batch.puts)
