"""The writer: changes of shards are written in batches, and nothing leaves before its batch is durable.

The rules change rows in memory and hand everything that is to leave the process (answers, offers, mail) to the gate of
their shard. The writer cuts the changes of all shards into one batch each, writes them in one round trip, and opens the
gates. What changes meanwhile forms the next batches, so one batch of a shard is in flight at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from time import perf_counter
from typing import Any, Protocol, TypeAlias, TypeVar

from holon.domain.value import Value
from holon.errors import StoreBroken, StoreUnavailable
from holon.stores.port import Batch, Entry, Head, Row, RowKey, RowStore, Word

log = logging.getLogger(__name__)

T = TypeVar("T")
Act: TypeAlias = tuple[Callable[[Any], object], Any]
Answer: TypeAlias = tuple["asyncio.Future[Any]", Any]

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
    consumed: Sequence[str] = ()


class Rows(Protocol):
    """The rows of one shard in memory, as the writer sees them."""

    def cut(self) -> Cut:
        """All changes since the last cut. Never raises: what could fail has failed in the turn that changed it."""
        ...

    def written(self, head: Head) -> None:
        """A batch is durable; the head says the shard's time."""
        ...

    def lost(self, why: str) -> None:
        """The shard is no longer this node's, or must be loaded again. Called once; nothing is written any more."""
        ...


class Gate:
    """Where everything that leaves the process waits for the batch that it rests on. One for each owned shard."""

    def __init__(
        self,
        head: Head,
        rows: Rows,
        wake: Callable[[], None],
        check: Callable[[], None],
        dropped: Callable[[Head, str], object],
    ) -> None:
        self.head = head
        self.rows = rows
        self._check = check
        self._dropped = dropped
        self.lost = False
        # Batches that were cut; the last of them may be in flight. When it was cut, by the loop's time.
        self.batch = head.batch
        self.cut_at = asyncio.get_running_loop().time()
        self.kept: deque[Batch] = deque()
        self.kept_bytes = 0
        self._wake = wake
        self._dirty = False
        self._acts: list[Act] = []
        self._answers: list[Answer] = []
        # Whether futures have their results, and those who wait for them have not run yet.
        self.answering = False
        # Those of the batch in flight.
        self.in_flight = False
        self._flying_acts: list[Act] = []
        self.flying_answers: list[Answer] = []

    def __repr__(self) -> str:
        return f"Gate(shard={self.head.shard}, batch={self.batch}, {'lost' if self.lost else 'open'})"

    @property
    def dirty(self) -> bool:
        """Whether something changed that is in no batch yet."""
        return self._dirty

    def changed(self) -> None:
        """Rows changed: they are to be written."""
        if not self._dirty:
            self._dirty = True
            self._wake()

    def then(self, act: Callable[[T], object], argument: T) -> None:
        """Call this once all changes so far are durable; never, if they are lost. It must not raise."""
        if self._all_in_flight:
            self._flying_acts.append((act, argument))
        else:
            self._acts.append((act, argument))
            self.changed()

    def answer(self, future: asyncio.Future[T], value: T) -> None:
        """Set the result of a future once all changes so far are durable, and after all earlier acts.

        If the changes are lost, or may be, the future gets StoreUnavailable.
        """
        if self._all_in_flight:
            self.flying_answers.append((future, value))
        else:
            self._answers.append((future, value))
            self.changed()

    @property
    def _all_in_flight(self) -> bool:
        """Whether the batch in flight has all changes so far."""
        return self.in_flight and not self._dirty

    async def passed(self) -> None:
        """Wait until all changes so far are durable.

        Raises:
            StoreUnavailable: they were lost, or may have been, or the store is away.
        """
        if self.lost:
            raise not_confirmed()
        self._check()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answer(future, None)
        await future

    async def confirmed(self, *, exclusive: bool) -> None:
        """Wait until what memory shows now is durable, and certainly this node's.

        Where one process locks the store, memory is right once no change is unwritten. Elsewhere another node may have
        taken the shard, so the next batch has to be applied, an empty one if need be.
        """
        if not exclusive:
            self.changed()
        if self._dirty or self.in_flight:
            await self.passed()

    def take(self) -> tuple[Batch, list[Act], list[Answer]]:
        """Cut a batch, with all that waits for it."""
        self._dirty, self.in_flight = False, True
        self.cut_at = asyncio.get_running_loop().time()
        cut = self.rows.cut()
        self.batch += 1
        batch = Batch(
            self.head.shard, self.head.epoch, self.head.token, self.batch, cut.stamp,
            cut.puts, cut.deletes, cut.purged, cut.entries, cut.removed, cut.consumed,
        )  # fmt: skip
        acts, self._acts = self._acts, []
        answers, self._answers = self._answers, []
        self._flying_acts, self.flying_answers = acts, answers
        return batch, acts, answers

    def give(self, answers: Sequence[Answer]) -> None:
        """The changes that these wait for are durable."""
        for future, value in answers:
            if not future.done():
                future.set_result(value)
        if answers:
            self.answering = True
            asyncio.get_running_loop().call_soon(self._answered)

    def _answered(self) -> None:
        self.answering = False

    def refuse_waiting(self, why: str) -> None:
        """Refuse all who wait for a batch that is not cut yet; their changes stay."""
        answers, self._answers = self._answers, []
        refuse(answers, why)

    def drop(self, why: str, taken: str = "") -> None:
        """The shard is lost: nothing that waits leaves any more.

        Arguments:
            taken: the name of the node that has taken it, if one has.
        """
        if self.lost:
            return
        self.lost = True
        self._acts = []
        self.refuse_waiting(NOT_CONFIRMED)
        self.rows.lost(why)
        self._dropped(self.head, taken)


class Writer:
    """Writes the changes of shards that share a server.

    Arguments:
        store: where to write.
        keeps: whether batches are kept for a store that loses some at a failover.
        flown: called after each write with how many callers waited for it, and how many seconds it took.
    """

    def __init__(
        self,
        store: RowStore,
        *,
        keeps: bool = False,
        flown: Callable[[int, float], object] = lambda _waited, _seconds: None,
    ) -> None:
        self._store = store
        self._keeps = keeps
        self._flown = flown
        self._gates: dict[int, Gate] = {}
        self._woken = asyncio.Event()
        # Whether the store confirms nothing: then no mutation begins, and timers stand still.
        self.away = False
        # Shards whose batches are in flight.
        self._flying: Sequence[Gate] = ()
        self._why = ""
        self._leaving: asyncio.TimerHandle

    def __repr__(self) -> str:
        return f"Writer({list(self._gates.values())})"

    def add(self, head: Head, rows: Rows, dropped: Callable[[Head, str], object]) -> Gate:
        """Write for a shard that this node owns from now on.

        Arguments:
            dropped: called when it is lost, with the node that has taken it; empty: none has.
        """
        gate = self._gates[head.shard] = Gate(head, rows, self._woken.set, self.check, dropped)
        self._woken.set()
        return gate

    def remove(self, shard: int) -> None:
        """Write no more for a shard."""
        self._gates.pop(shard, None)

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
                async with asyncio.timeout_at(self._renew_at()):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._renew()
            self._woken.clear()
            dirty = [gate for gate in self._owned() if gate.dirty]
            if dirty:
                await self._flight(dirty)

    def _owned(self) -> Sequence[Gate]:
        return [gate for gate in self._gates.values() if not gate.lost]

    def _renew_at(self) -> float | None:
        """When a shard must have its next batch, by the loop's time; None: none must."""
        if self._store.exclusive:
            return None
        return min((gate.cut_at + RENEW_S for gate in self._owned()), default=None)

    def _renew(self) -> None:
        """Have a batch written, empty or not, for each shard that must have one now, or will soon."""
        due, now = self._renew_at(), asyncio.get_running_loop().time()
        if due is not None and now >= due:
            for gate in self._owned():
                if now - gate.cut_at >= RENEW_S / 2:
                    gate.changed()

    async def _flight(self, gates: Sequence[Gate]) -> None:
        """Write one batch for each of these."""
        taken = [(gate, *gate.take()) for gate in gates]
        self._flying, began = gates, perf_counter()
        try:
            words = [*await self._apply([batch for _, batch, _, _ in taken])]
            for at, (word, head) in enumerate(words):
                if word is Word.GAP:
                    words[at] = await self._repair(gates[at], taken[at][1], head)
        except BaseException:
            self._refuse_flying()
            raise
        finally:
            self._flying = ()
        self._flown(sum(len(answers) for _, _, _, answers in taken), perf_counter() - began)
        for (gate, batch, acts, answers), (word, head) in zip(taken, words, strict=True):
            gate.in_flight = False
            if word is Word.APPLIED and not gate.lost:
                self._keep(gate, batch)
                gate.rows.written(head)
                for act, argument in acts:
                    act(argument)
                gate.give(answers)
                continue
            refuse(answers)
            if not gate.lost:
                self.remove(gate.head.shard)
                if word is Word.FENCED:
                    gate.drop(f"node {head.node!r} has taken it", head.node)
                else:
                    gate.drop("the store lost batches, and it is loaded again")

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
        why = f"the store does not confirm writes ({self._because}): this one may yet be carried out; repeat it"
        self._refuse_flying(why)
        for gate in self._gates.values():
            gate.refuse_waiting(why)

    def _refuse_flying(self, why: str = NOT_CONFIRMED) -> None:
        for gate in self._flying:
            refuse(gate.flying_answers, why)

    def _keep(self, gate: Gate, batch: Batch) -> None:
        if self._keeps:
            gate.kept.append(batch)
            gate.kept_bytes += _size(batch)
            while len(gate.kept) > KEPT_BATCHES or gate.kept_bytes > KEPT_BYTES:
                gate.kept_bytes -= _size(gate.kept.popleft())

    async def _repair(self, gate: Gate, batch: Batch, head: Head) -> tuple[Word, Head]:
        """The store went back in time: send again what it lost, as far as that is kept."""
        kept, word = [*gate.kept, batch], Word.GAP
        while word is Word.GAP:
            missing = [one for one in kept if one.number > head.batch]
            if not missing or missing[0].number != head.batch + 1:
                break
            # It may do so once more meanwhile.
            log.warning(
                "shard %d of the store lost %d batches; they are written again", gate.head.shard, len(missing) - 1
            )
            for one in missing:
                [(word, head)] = await self._apply([one])
                if word is not Word.APPLIED:
                    break
        if word is Word.GAP:
            log.error(
                "shard %d of the store went back from batch %d to %d, as after a restored backup or a failover to a "
                "replica that was behind: what was acknowledged in between is lost",
                gate.head.shard, batch.number - 1, head.batch,
            )  # fmt: skip
        return word, head


def not_confirmed(why: str = NOT_CONFIRMED) -> StoreUnavailable:
    """The error for a caller whose change may or may not have been written."""
    return StoreUnavailable(why, retry_after=1.0)


def refuse(answers: Sequence[Answer], why: str = NOT_CONFIRMED) -> None:
    """Tell those who wait for a batch that it may or may not have been written."""
    for future, _ in answers:
        if not future.done():
            future.set_exception(not_confirmed(why))
            # Nobody may be waiting any more.
            future.exception()


def _size(batch: Batch) -> int:
    return sum(len(value) for _, _, value in batch.puts)
