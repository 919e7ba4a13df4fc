"""A store that several nodes share. Each owns some of its shards, and calls the owners of the others."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from holon.clock import Clock
from holon.core.members import Members
from holon.core.messages import MalformedMessage, pack, unpack
from holon.core.owner import Owner
from holon.core.row import shard_of
from holon.core.shard import Shard
from holon.core.writer import Ownership, Rows
from holon.domain.events import HistoryEvent, InboxEvent
from holon.domain.matching import Need
from holon.domain.task import Outcome
from holon.domain.value import replace
from holon.errors import HolonError, StoreBroken, StoreUnavailable, Unimplemented
from holon.ports import (
    Appended,
    Claim,
    Committed,
    Completed,
    Counts,
    Created,
    Hint,
    JobRecord,
    Leased,
    LeaseRef,
    NewJob,
    Offer,
    Opened,
    Opening,
    Replaced,
    Result,
    Seat,
    Step,
    Stop,
    StoreSettings,
    Superseded,
    TaskRecord,
    Touch,
    Touched,
)
from holon.storage import between
from holon.storage.between import Guest
from holon.storage.calls import CoreCalls
from holon.storage.owned import OwnedStorage
from holon.storage.post import Post
from holon.storage.sayings import Sayings
from holon.storage.store_time import StoreTime
from holon.storage.waiting import RETRY_AFTER_S
from holon.stores.port import Change, Record
from holon.stores.sealing import Seal
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

T = TypeVar("T")

# What waits here and has no worker here is told to the other nodes this soon (seconds), and again each second.
DEMAND_SOON_S = 0.01
TICK_S = 1.0
# At most so many match keys are told.
MOST_KEYS = 1_000
# An owner of waiting tasks is asked for them no longer than this (seconds).
LEASE_PATIENCE_S = 2.0
COUNT_PATIENCE_S = CONFIRM_PATIENCE_S = 1.0
# A node that watches a job says so again this often, and hears of its changes for that long (seconds).
WATCH_AGAIN_S = 10.0
WATCH_FOR_S = 30.0
# Credits of a session at another node: that node counts them.
MANY = 10**9
# Records of sessions, by worker. One of a worker that never comes again is kept for a week (milliseconds).
SESSION = "session"
SESSION_TTL = 7 * 86_400_000
# So often a record is written anew when others write it too.
TRIES = 10


class NodesStorage(OwnedStorage):
    """The calls of a store that nodes share; those on jobs of other nodes go there.

    A worker's session is at one node, its host, which counts its credits. At the owners of its tasks it is a guest. A
    host that has room asks the owners of waiting tasks for leases, and carries to them what the worker says.
    """

    shared = True

    def __init__(self, settings: StoreSettings, clock: Clock, seal: Seal | None = None) -> None:
        self._time = StoreTime(clock)
        super().__init__(settings, self._time, seal)

    def _new_owner(self) -> Owner:
        self._members = Members(self._rows, self._settings.node_id)
        self._hosted: dict[str, Guest] = {}
        # Sessions at other nodes that have, or had, leases of tasks here: the node and the session, by worker.
        self._guests: dict[str, tuple[str, Guest]] = {}
        self._stopping: dict[str, Stop] = {}
        # Leases of other nodes' tasks whose stop a worker here has heard, and not answered yet.
        self._stopped: set[str] = set()
        self._demand: dict[str, Mapping[str, Need]] = {}
        self._told_demand = False
        self._demanding: asyncio.TimerHandle | None = None
        # Jobs here that other nodes watch: until when (the loop's time), by node.
        self._watchers: defaultdict[str, dict[str, float]] = defaultdict(dict)
        # Jobs elsewhere that are watched here: at which node, and since when.
        self._watching: dict[str, tuple[str, float]] = {}
        self._stops: list[Stop] = []
        self._lost_leases: list[LeaseRef] = []
        self._replaced: list[Replaced] = []
        # Sessions elsewhere that replaced one here, and those of them that have ended.
        self._newer: set[str] = set()
        self._newer_ended: list[str] = []
        self._beside: set[asyncio.Task[Any]] = set()
        self._far = Seldom(log)
        self._post = Post(self._rows, self._settings.node_id, self._seal, self._time, self._serve, self._hear_word)
        self._sayings = Sayings(self._say, self._said, self._node_of)
        return Owner(
            self._rows,
            self._settings.node_id,
            self._writer,
            self._load,
            self._begin,
            taken=self._taken,
            members=self._members,
            ask=lambda node, shard: self._tell_node(node, between.GIVE, shard),
            told=lambda node, shard: self._tell_node(node, between.FREED, shard),
            settle=self._settle_shard,
            timed=self._time.ask,
        )

    def _more_loops(self) -> Sequence[Callable[[], Any]]:
        return self._post.run, self._sayings.run, self._members.run, self._tick

    def _join(self) -> None:
        self._tell_all(between.JOINED, None)

    def _hear_joined(self, _: None, node: str) -> None:  # noqa: ARG002
        self._aside(self._meet())

    async def _meet(self) -> None:
        """Know a new node at once."""
        await self._members.look()
        self._tell_demand()

    async def _leave(self) -> None:
        await self._members.leave()
        # What was told last is on its way before this node is gone.
        await self._post.sent()

    async def _close(self) -> None:
        if self._demanding is not None:
            self._demanding.cancel()
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._sayings.close()
        await self._post.close()

    def _taken(self, node: str) -> None:
        # Another node may take a shard. A node of this name is a second process of it.
        if node == self._settings.node_id:
            self._break(
                StoreBroken(
                    f"another process has taken the shards of node {node!r}: this one was silent for too long, or two "
                    "nodes have one name. Give every node an INSTANCE_ID of its own, and start this one again"
                )
            )

    async def _begin(self, rows: Rows, owned: Ownership) -> None:
        assert isinstance(rows, Shard)  # noqa: S101  as `_load` made it
        loaded = self._loaded[rows.number].tables
        for row in self._tables.workers.values():
            there = loaded.workers.get(row.id)
            for lease_id, task_id in list(row.held.items()):
                if shard_of(task_id) == rows.number and (there is None or lease_id not in there.held):
                    del row.held[lease_id]
        self._tables.closing.discard(rows.number)
        await super()._begin(rows, owned)

    @property
    def _hosts(self) -> Collection[str]:
        return self._hosted

    def _hear_give(self, shard: int, node: str) -> None:
        # A shard on which nothing runs goes at once, and cuts no handler short.
        busy = {shard_of(job_id) for job_id in self._tables.claimed}
        idle = [number for number in self._shards if number not in busy]
        if shard not in idle and idle:
            shard = idle[0]
        if shard in idle:
            self._owner.asked(shard, node)

    def _hear_freed(self, shard: int, node: str) -> None:  # noqa: ARG002
        self._owner.freed(shard)

    # Other nodes -----------------------------------------------------------------------------------------------

    @property
    def _others(self) -> list[str]:
        return [node for node in self._members.live if node != self._settings.node_id]

    def _node_of(self, item_id: str) -> str | None:
        """The node that owns the shard of a job or task; None: this one, or the id is in no shard.

        Raises:
            StoreUnavailable: no node owns it at the moment.
        """
        number = shard_of(item_id)
        if number in self._shards or number >= self._rows.shards:
            return None
        node: str = self._owner.of(number)
        if not node or node == self._settings.node_id:
            raise StoreUnavailable(
                "no node has this part of the store at the moment; try again", retry_after=RETRY_AFTER_S
            )
        return node

    async def _call(self, node: str, name: str, arguments: object, patience: float = 5.0) -> Any:
        self._check_open()
        reply = await self._post.ask(node, name, pack(arguments), patience)
        try:
            return unpack(between.CALLS[name][1] or type(None), reply)
        except MalformedMessage as error:
            raise StoreUnavailable(f"the answer of node {node!r} cannot be read: {error}") from error

    def _tell_node(self, node: str, name: str, content: object) -> None:
        self._post.tell(node, name, pack(content))

    def _tell_all(self, name: str, content: object) -> None:
        body = pack(content)
        for node in self._others:
            self._post.tell(node, name, body)

    def _aside(self, work: Any) -> None:
        """Do something beside the call; an error of it is of no account, for it is done again or comes too late."""

        async def run() -> None:
            try:
                await work
            except HolonError as error:
                self._far.warn("another node did not answer", why=error.message)

        task = asyncio.create_task(run(), name="store-aside")
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _split(self, items: Iterable[T], id_of: Callable[[T], str]) -> tuple[list[T], dict[str, list[T]]]:
        """What is of this node's shards, and by node what is of others."""
        mine: list[T] = []
        others: defaultdict[str, list[T]] = defaultdict(list)
        for item in items:
            node = self._node_of(id_of(item))
            (mine if node is None else others[node]).append(item)
        return mine, others

    async def _serve(self, name: str, body: bytes, node: str) -> bytes:
        """Carry out a call of another node."""
        self._check_open()
        if name not in between.CALLS:
            raise Unimplemented(f"node {self._settings.node_id!r} has no call {name!r}; another release may have it")
        arguments = unpack(between.CALLS[name][0] or type(None), body)
        return pack(await getattr(self, f"_serve_{name}")(arguments, node))

    def _hear_word(self, name: str, body: bytes, node: str) -> None:
        try:
            content = unpack(between.WORDS[name] or type(None), body)
        except (MalformedMessage, KeyError) as error:
            self._far.warn("a word of another node cannot be read", why=str(error))
            return
        if self._open:
            getattr(self, f"_hear_{name}")(content, node)

    # Jobs ------------------------------------------------------------------------------------------------------

    async def create_jobs(self, items: Sequence[NewJob], seats: Sequence[Seat] = ()) -> Created:
        places = list(enumerate(items))
        mine, others = self._split(places, lambda one: one[1].job.id)
        if not others:
            return await super().create_jobs(items, seats)
        parts: list[tuple[list[tuple[int, NewJob]], Created]] = []
        for node, some in others.items():
            parts.append((some, await self._call(node, between.CREATE, between.Create(tuple(new for _, new in some)))))
        own = Created(())
        if mine:
            own = await super().create_jobs([new for _, new in mine], seats)
            parts.append((mine, own))
        jobs = {place: made for some, part in parts for (place, _), made in zip(some, part.jobs, strict=True)}
        notes: dict[int, int | None] = {}
        for some, part in parts:
            notes.update(zip((place for place, _ in some), part.notes, strict=False))
        return Created(
            tuple(jobs[place] for place in range(len(items))),
            own.leased,
            tuple(notes.get(place) for place in range(len(items))) if notes else (),
        )

    async def _serve_create(self, asked: between.Create, node: str) -> Created:  # noqa: ARG002  as all of them
        return replace(await super().create_jobs(asked.items), leased=Leased())

    async def append(
        self,
        job_id: str,
        event: InboxEvent,
        dedup_key: str,
        request_key: str = "",
        most: int | None = None,
    ) -> Appended:
        node = self._node_of(job_id)
        if node is None:
            return await super().append(job_id, event, dedup_key, request_key, most)
        appended: Appended = await self._call(
            node, between.APPEND, between.Append(job_id, event, dedup_key, request_key, most)
        )
        return appended

    async def _serve_append(self, asked: between.Append, node: str) -> Appended:  # noqa: ARG002
        return await super().append(asked.job_id, asked.event, asked.dedup_key, asked.request_key, asked.most)

    async def commit(self, step: Step, seats: Sequence[Seat]) -> Committed:
        # A claim of a shard that this node has lost is lost too.
        if not self._has(step.job.id):
            return Committed(conflict=True)
        return await super().commit(step, seats)

    async def release(self, claim: Claim, *, counted: bool = False) -> None:
        if self._has(claim.job.id):
            await super().release(claim, counted=counted)

    async def spawn(self, job_id: str, step: int) -> None:
        if self._has(job_id):
            await super().spawn(job_id, step)

    def _has(self, item_id: str) -> bool:
        return shard_of(item_id) in self._shards or shard_of(item_id) >= self._rows.shards

    # Sessions --------------------------------------------------------------------------------------------------

    async def open_session(self, opening: Opening) -> Opened:
        # Before it replaces an older session: somebody owns all of its tasks.
        self._owners_of(opening)
        sequence = await self._take_session(opening)
        if sequence is None:
            return Opened(None, outranked=True)
        guest = Guest(
            opening.worker_id, opening.session_id, sequence, opening.lease, opening.execution, opening.instance_id,
            opening.proof,
        )  # fmt: skip
        hosted = self._hosted.get(opening.worker_id)
        if hosted is not None and hosted.sequence > sequence:
            raise StoreUnavailable("a newer session of this worker has opened", retry_after=RETRY_AFTER_S)
        self._guests.pop(opening.worker_id, None)
        row = self._tables.workers.get(opening.worker_id)
        if row is not None and opening.worker_id not in self._hosted:
            # It was a guest's, which this session replaces.
            row.live = False
        # From here on, what comes late of an older session is known to be older.
        self._hosted[opening.worker_id] = guest
        try:
            return await self._open_everywhere(guest, opening)
        except BaseException:
            # Nobody will close it.
            self._aside(self.close_session(opening.worker_id, opening.session_id))
            raise

    def _owners_of(self, opening: Opening) -> set[str]:
        """The other nodes that own tasks of a session that opens. Raises StoreUnavailable if nobody owns one."""
        return {node for task_id, _ in opening.resumed if (node := self._node_of(task_id)) is not None}

    async def _open_everywhere(self, guest: Guest, opening: Opening) -> Opened:
        """Open a session here and at all other nodes. Each takes the leases of its own tasks from those resumed."""
        opened = await self._open_here(opening)
        owners = self._owners_of(opening)
        known = tuple(one for one in opening.resumed if shard_of(one[0]) < self._rows.shards)
        asked = between.Open(guest, replace(opening, resumed=known))
        calls: list[Any] = []
        for node in {*self._others, *owners}:
            call = self._call(node, between.OPEN, asked)
            if node in owners:
                calls.append(call)
            else:
                self._aside(call)
        for part in await asyncio.gather(*calls):
            opened = replace(
                opened,
                kept=opened.kept + part.kept,
                dropped=opened.dropped + part.dropped,
                losses=opened.losses + part.losses,
            )
        answered = {one.lease_id for one in opened.kept} | {lease_id for _, lease_id, _ in opened.dropped}
        if not answered.issuperset(lease_id for _, lease_id in opening.resumed):
            # Its new owner has heard of the session too, or loads the shard after this.
            raise StoreUnavailable("tasks of this worker move to another node; try again", retry_after=RETRY_AFTER_S)
        self._take_holds(opened.kept)
        return opened

    async def _open_here(self, opening: Opening) -> Opened:
        """Open a session for the tasks that this node owns now."""
        await self._fetch(tasks=[task_id for task_id, _ in opening.resumed])
        mine = tuple(one for one in opening.resumed if self._has(one[0]))
        return await CoreCalls.open_session(self, replace(opening, resumed=mine))

    async def _take_session(self, opening: Opening) -> int | None:
        """Make a session the newest of its worker; returns its sequence, None if one of a higher proof lives."""
        value = pack((self._settings.node_id, self._members.process, opening.session_id, opening.proof))
        for _ in range(TRIES):
            found = await self._ask(lambda rows: rows.records(SESSION, [opening.worker_id]))
            if found and self._outranks(found[0].value, opening):
                return None
            change = Change(SESSION, opening.worker_id, found[0].version if found else 0, value, SESSION_TTL)
            [(made, record)] = await self._exchange(change)
            if record is not None and (made or record.value == value):
                return record.version
        raise StoreUnavailable("other sessions of this worker open all the time; try again", retry_after=RETRY_AFTER_S)

    async def _exchange(self, change: Change) -> Sequence[tuple[bool, Record | None]]:
        return await self._ask(lambda rows: rows.exchange([change]))

    def _outranks(self, value: bytes, opening: Opening) -> bool:
        node, process, session_id, proof = unpack(tuple[str, str, str, int], value)
        member = self._members.live.get(node)
        lives = member is not None and member.process == process
        return lives and session_id != opening.session_id and proof > opening.proof

    async def _serve_open(self, asked: between.Open, node: str) -> Opened:
        guest, opening = asked.guest, asked.opening
        # Then the rest is done in one turn.
        await self._fetch(tasks=[task_id for task_id, _ in opening.resumed])
        if not self._welcome(guest, node, opens=True):
            stale = tuple(
                (task, lease, Superseded.WORKER_MISMATCH) for task, lease in opening.resumed if self._has(task)
            )
            return Opened(None, dropped=stale)
        opened = await self._open_here(opening)
        row = self._tables.workers.get(guest.worker_id)
        if row is not None and row.session_id == guest.session_id:
            row.credits = MANY
        return replace(opened, replaced=None)

    def _welcome(self, guest: Guest, node: str, *, opens: bool = False) -> bool:
        """Know a session at another node; False: the worker has a newer one."""
        worker_id = guest.worker_id
        hosted, (_, known) = self._hosted.get(worker_id), self._guests.get(worker_id, ("", None))
        if any(one is not None and one.sequence > guest.sequence for one in (hosted, known)):
            return False
        if hosted is not None:
            del self._hosted[worker_id]
            self._newer.add(guest.session_id)
            self._replaced.append(Replaced(hosted.session_id, guest.session_id, guest.instance_id))
            self._hints.give(Hint(stops=True))
        if known is not None and known.session_id != guest.session_id and known.session_id in self._newer:
            # The session here waits for the end of the newest now.
            self._newer.discard(known.session_id)
            self._newer_ended.append(known.session_id)
            self._hints.give(Hint(stops=True))
        self._guests[worker_id] = node, guest
        row = self._tables.worker(worker_id)
        if opens:
            # The call opens it by the rules, for which there is no session of a higher proof.
            row.live = False
        elif row.session_id != guest.session_id or not row.live:
            row.session_id, row.live, row.credits = guest.session_id, True, MANY
            row.lease, row.execution = guest.lease, guest.execution
            row.instance_id, row.proof = guest.instance_id, guest.proof
        return True

    async def close_session(self, worker_id: str, session_id: str) -> None:
        await super().close_session(worker_id, session_id)
        guest = self._hosted.get(worker_id)
        row = self._tables.workers.get(worker_id)
        if row is not None and row.session_id == session_id:
            self._stopped.difference_update(row.held)
        if guest is not None and guest.session_id == session_id:
            await self._exchange(Change(SESSION, worker_id, guest.sequence, None))
            if self._hosted.get(worker_id) is guest:
                del self._hosted[worker_id]
        self._tell_all(between.CLOSED, (worker_id, session_id))

    def _hear_closed(self, closed: tuple[str, str], node: str) -> None:
        worker_id, session_id = closed
        at, guest = self._guests.get(worker_id, ("", None))
        if guest is not None and at == node and guest.session_id == session_id:
            self._close_guest(worker_id, guest)

    def _close_guest(self, worker_id: str, guest: Guest) -> None:
        del self._guests[worker_id]
        if guest.session_id in self._newer:
            self._newer.discard(guest.session_id)
            self._newer_ended.append(guest.session_id)
            self._hints.give(Hint(stops=True))
        self._aside(super().close_session(worker_id, guest.session_id))

    # Leases ----------------------------------------------------------------------------------------------------

    async def lease(self, seats: Sequence[Seat]) -> Leased:
        leased = await super().lease(seats)
        if leased.offers or not self._demand:
            return leased
        offers: list[Offer] = []
        room = {seat.session_id: self._room(seat) for seat in seats}
        for node in list(self._demand):
            demand = self._demand.get(node, {})
            some = [
                replace(seat, n=min(seat.n, room[seat.session_id]), keys=keys)
                for seat in seats
                if room[seat.session_id] > 0 and (keys := tuple(key for key in seat.keys if key in demand))
            ]
            if not some:
                continue
            asked = {key for seat in some for key in seat.keys}
            guests = self._guests_of(seat.worker_id for seat in some)
            left: Collection[str] = ()
            try:
                reply = await self._call(node, between.LEASE, between.Lease(guests, tuple(some)), LEASE_PATIENCE_S)
                left = reply.left
                for offer in reply.offers:
                    room[offer.session_id] -= 1
                self._take_holds(reply.offers)
                offers += reply.offers
            except HolonError as error:
                self._far.warn("tasks of another node cannot be leased", why=error.message)
            # A node that did not answer says again what waits there.
            self._demands(node, {key: need for key, need in demand.items() if key in left or key not in asked})
        return Leased(tuple(offers), leased.left.intersection(self._tables.elsewhere) if offers else leased.left)

    def _room(self, seat: Seat) -> int:
        row = self._tables.workers.get(seat.worker_id)
        if row is None or row.session_id != seat.session_id or not row.live:
            return 0
        return row.credits - len(row.held)

    async def _serve_lease(self, asked: between.Lease, node: str) -> Leased:
        welcome = {guest.session_id for guest in asked.guests if self._welcome(guest, node)}
        leased = await super().lease([seat for seat in asked.seats if seat.session_id in welcome])
        # Only what waits here.
        return Leased(leased.offers, frozenset(key for key in leased.left if self._tables.backlog.waiting.get(key)))

    def _take_holds(self, offers: Iterable[Offer]) -> None:
        """Leases of other nodes' tasks count against the credits of their sessions here."""
        for offer in offers:
            row = self._tables.workers.get(offer.worker_id)
            if row is not None and row.session_id == offer.session_id:
                row.held[offer.lease_id] = offer.task_id

    def _let_go(self, worker_id: str, lease_id: str, task_id: str) -> None:
        """A worker's last word about a lease of another node's task is on its way."""
        self._stopped.discard(lease_id)
        row = self._tables.workers.get(worker_id)
        if row is not None and not self._has(task_id):
            row.held.pop(lease_id, None)

    def _guests_of(self, workers: Iterable[str]) -> tuple[Guest, ...]:
        return tuple(guest for one in dict.fromkeys(workers) if (guest := self._hosted.get(one)) is not None)

    async def touch(self, touch: Touch, seats: Sequence[Seat]) -> Touched:
        mine = self._sayings.take(touch, self._has)
        for handback in touch.handbacks:
            self._let_go(handback.lease.worker_id, handback.lease.lease_id, handback.lease.task_id)
        touched = await super().touch(mine, seats)
        self._sayings.soon()
        # The owner of a task repeats a stop until the worker's last word; the worker hears it once.
        told = [one for one in self._stops if one.lease.lease_id not in self._stopped]
        self._stopped.update(one.lease.lease_id for one in told)
        stops, self._stops = [*self._here(touched.stops), *told], []
        gone = [one for one in self._lost_leases if one.lease_id not in self._stopped]
        self._stopped.update(one.lease_id for one in gone)
        lost, self._lost_leases = (*touched.lost, *gone), []
        replaced, self._replaced = tuple(self._replaced), []
        ended, self._newer_ended = tuple(self._newer_ended), []
        return Touched(lost, tuple(stops), touched.leased, replaced, ended)

    def _here(self, stops: Iterable[Stop]) -> tuple[Stop, ...]:
        """The stops of sessions here; the hosts of the others are told."""
        here: list[Stop] = []
        for stop in stops:
            if self._is_guests(stop):
                self._stopping[stop.lease.lease_id] = stop
            else:
                here.append(stop)
        self._tell_stops()
        return tuple(here)

    def _is_guests(self, stop: Stop) -> bool:
        _, guest = self._guests.get(stop.lease.worker_id, ("", None))
        return guest is not None and guest.session_id == stop.lease.session_id

    def _tell_stops(self) -> None:
        """Tell the hosts of guests what these are to stop, until the last word of each lease has come."""
        by_node: defaultdict[str, list[Stop]] = defaultdict(list)
        for lease_id, stop in list(self._stopping.items()):
            row = self._tables.workers.get(stop.lease.worker_id)
            if row is None or lease_id not in row.held or not self._is_guests(stop):
                del self._stopping[lease_id]
            else:
                by_node[self._guests[stop.lease.worker_id][0]].append(stop)
        for node, stops in by_node.items():
            self._tell_node(node, between.STOPS, tuple(stops))

    def _hear_stops(self, stops: tuple[Stop, ...], node: str) -> None:  # noqa: ARG002
        self._stops += stops
        self._hints.give(Hint(stops=True))

    async def _say(self, node: str, touch: Touch) -> Touched:
        """Tell an owner what workers here say of its tasks; the name is empty for tasks that are this node's by now."""
        if not node:
            touched = await super().touch(touch, ())
            return replace(touched, stops=self._here(touched.stops))
        refs = (
            *touch.extends,
            *(one.lease for part in (touch.accepts, touch.handbacks, touch.progress) for one in part),
        )
        guests = self._guests_of(ref.worker_id for ref in refs)
        told: Touched = await self._call(node, between.SAY, between.Say(guests, touch))
        return told

    def _said(self, touched: Touched) -> None:
        self._lost_leases += touched.lost
        self._stops += touched.stops
        if touched.lost or touched.stops:
            self._hints.give(Hint(stops=True))

    async def _serve_say(self, asked: between.Say, node: str) -> Touched:
        for guest in asked.guests:
            self._welcome(guest, node)
        touched = await super().touch(asked.touch, ())
        if here := self._here(touched.stops):
            self._stops += here
            self._hints.give(Hint(stops=True))
        return Touched(touched.lost)

    async def complete(self, results: Sequence[Result], worker_id: str, seats: Sequence[Seat]) -> Completed:
        nobodys: set[str] = set()
        mine: list[Result] = []
        others: defaultdict[str, list[Result]] = defaultdict(list)
        for one in results:
            try:
                node = self._node_of(one.task_id)
            except StoreUnavailable:
                nobodys.add(one.lease_id)
                continue
            (mine if node is None else others[node]).append(one)
        if not others and not nobodys:
            return await super().complete(results, worker_id, seats)
        own, *parts = await asyncio.gather(
            super().complete(mine, worker_id, seats),
            *(self._complete_at(node, worker_id, some) for node, some in others.items()),
        )
        verdicts = dict(zip((one.lease_id for one in mine), own.verdicts, strict=True))
        unstored = set(own.unstored) | nobodys
        for some, part in zip(others.values(), parts, strict=True):
            verdicts.update(zip((one.lease_id for one in some), part.verdicts, strict=True))
            unstored |= part.unstored
        for some in others.values():
            for one in some:
                if one.lease_id not in unstored:
                    self._let_go(worker_id, one.lease_id, one.task_id)
        return replace(own, verdicts=tuple(verdicts.get(one.lease_id) for one in results), unstored=frozenset(unstored))

    async def _complete_at(self, node: str, worker_id: str, results: Sequence[Result]) -> Completed:
        guest = self._hosted.get(worker_id) or Guest(worker_id, "", 0)
        asked = between.Complete(guest, tuple(replace(one, step=None) for one in results))
        try:
            completed: Completed = await self._call(node, between.COMPLETE, asked)
        except StoreUnavailable as error:
            self._far.warn("results for tasks of another node are not stored yet", why=error.message)
            return Completed((None,) * len(results), unstored=frozenset(one.lease_id for one in results))
        return completed

    async def _serve_complete(self, asked: between.Complete, node: str) -> Completed:
        if asked.guest.session_id:
            self._welcome(asked.guest, node)
        completed = await super().complete(asked.results, asked.guest.worker_id, ())
        return Completed(completed.verdicts, unstored=completed.unstored)

    # What waits ------------------------------------------------------------------------------------------------

    def _give_soon(self, hint: Hint) -> None:
        super()._give_soon(hint)
        if hint.keys and self._demanding is None:
            self._demanding = asyncio.get_running_loop().call_later(DEMAND_SOON_S, self._tell_demand)

    def _tell_demand(self) -> None:
        """Tell the other nodes what waits here."""
        self._demanding = None
        if not self._open:
            return
        backlog = self._tables.backlog
        waiting = {key: backlog.needs[key] for key in list(backlog.waiting)[:MOST_KEYS]}
        if waiting or self._told_demand:
            self._told_demand = bool(waiting)
            self._tell_all(between.DEMAND, waiting)

    def _hear_demand(self, demand: dict[str, Need], node: str) -> None:
        self._demands(node, demand)
        if demand:
            self._hints.give(Hint(keys=frozenset(demand)))

    def _demands(self, node: str, demand: Mapping[str, Need]) -> None:
        self._demand.pop(node, None)
        if demand:
            # Behind the others: they are asked in turn.
            self._demand[node] = demand
        self._tables.elsewhere = {key for one in self._demand.values() for key in one}

    async def needs(self, keys: Collection[str] | None = None) -> Mapping[str, Need]:
        found = dict(await super().needs(keys))
        for demand in self._demand.values():
            found |= {key: need for key, need in demand.items() if keys is None or key in keys}
        return found

    async def queued(self, skill: str) -> Mapping[str, tuple[Need, int]]:
        found = dict(await super().queued(skill))
        for part in await self._of_others(between.QUEUED, skill):
            for key, (need, n) in part.items():
                found[key] = need, n + (found[key][1] if key in found else 0)
        return found

    async def _serve_queued(self, skill: str, node: str) -> Mapping[str, tuple[Need, int]]:  # noqa: ARG002
        return await super().queued(skill)

    async def _of_others(self, name: str, arguments: object, patience: float = 5.0) -> list[Any]:
        """The replies of all other nodes; a node that does not answer is left out."""
        calls = (self._call(node, name, arguments, patience) for node in self._others)
        replies = await asyncio.gather(*calls, return_exceptions=True)
        for error in replies:
            if isinstance(error, BaseException) and not isinstance(error, HolonError):
                raise error
        return [one for one in replies if not isinstance(one, BaseException)]

    async def queued_tasks(self, key: str, after: str, limit: int) -> Sequence[TaskRecord]:
        nodes: list[str | None] = [None, *sorted(self._others)]
        first = self._node_of(after) if after else None
        for node in nodes[nodes.index(first) if first in nodes else 0 :]:
            since = after if node == first else ""
            if node is None:
                page: Sequence[TaskRecord] = await super().queued_tasks(key, since, limit)
            else:
                page = await self._call(node, between.PAGE, between.Page(key, since, limit))
            if page:
                return page
        return []

    async def _serve_page(self, page: between.Page, node: str) -> tuple[TaskRecord, ...]:  # noqa: ARG002
        return tuple(await super().queued_tasks(page.key, page.after, page.limit))

    async def rekey(self, moves: Sequence[tuple[str, Need]]) -> None:
        mine, others = self._split(moves, lambda one: one[0])
        await super().rekey(mine)
        for node, some in others.items():
            await self._call(node, between.REKEY, between.Moves(tuple(some)))

    async def _serve_rekey(self, asked: between.Moves, node: str) -> None:  # noqa: ARG002
        await super().rekey(asked.moves)

    async def end_queued(self, key: str, ends: Sequence[tuple[str, Outcome]]) -> None:
        mine, others = self._split(ends, lambda one: one[0])
        await super().end_queued(key, mine)
        for node, some in others.items():
            await self._call(node, between.END_QUEUED, between.End(key, tuple(some)))

    async def _serve_end(self, asked: between.End, node: str) -> None:  # noqa: ARG002
        await super().end_queued(asked.key, asked.ends)

    async def counts(self) -> Counts:
        total = await super().counts()
        for part in await self._of_others(between.COUNTS, None, COUNT_PATIENCE_S):
            jobs = {one: total.jobs.get(one, 0) + part.jobs.get(one, 0) for one in {*total.jobs, *part.jobs}}
            waiting = {
                one: total.waiting.get(one, 0) + part.waiting.get(one, 0) for one in {*total.waiting, *part.waiting}
            }
            total = Counts(jobs, total.queued + part.queued, total.leased + part.leased, waiting)
        return total

    async def _serve_counts(self, nothing: None, node: str) -> Counts:  # noqa: ARG002
        return await super().counts()

    # Reads -----------------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> JobRecord | None:
        await self._confirmed_by_owner(job_id)
        return await super().job(job_id)

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, HistoryEvent]]:
        await self._confirmed_by_owner(job_id)
        return await super().history(job_id, after, limit)

    async def _confirmed_by_owner(self, job_id: str) -> None:
        """Have the owner of a job confirm its shard, so that a read shows all that was told of the job before.

        A failover to a replica that is behind takes the store back in time, until the owner writes again what is
        missing. If the owner does not answer, the read goes on without it.
        """
        with suppress(StoreUnavailable):
            node = self._node_of(job_id)
            if node is not None:
                await self._call(node, between.CONFIRM, job_id, CONFIRM_PATIENCE_S)

    async def _serve_confirm(self, job_id: str, node: str) -> None:  # noqa: ARG002
        await self._gate.confirmed(*self._on([job_id]))

    # Watching --------------------------------------------------------------------------------------------------

    async def watch(self, job_id: str) -> None:
        await super().watch(job_id)
        node = self._node_of(job_id)
        if node is not None:
            await self._watch_at(node, job_id)

    async def _watch_at(self, node: str, job_id: str) -> None:
        self._watching[job_id] = node, asyncio.get_running_loop().time()
        await self._call(node, between.WATCH, (job_id,))

    async def _serve_watch(self, jobs: tuple[str, ...], node: str) -> None:
        until = asyncio.get_running_loop().time() + WATCH_FOR_S
        for job_id in jobs:
            # Raises if the job is another node's.
            self._on([job_id])
            self._watchers[job_id][node] = until

    def unwatch(self, job_id: str) -> None:
        super().unwatch(job_id)
        self._watching.pop(job_id, None)

    def _jobs_changed(self, jobs: frozenset[str]) -> None:
        super()._jobs_changed(jobs)
        self._tell_watchers(between.CHANGED, {job_id: job_id for job_id in jobs if job_id in self._watchers})

    def _tell_watchers(self, name: str, of_jobs: Mapping[str, object]) -> None:
        by_node: defaultdict[str, list[object]] = defaultdict(list)
        now = asyncio.get_running_loop().time()
        for job_id, what in of_jobs.items():
            for node, until in self._watchers[job_id].items():
                if until > now:
                    by_node[node].append(what)
        for node, some in by_node.items():
            self._tell_node(node, name, tuple(some))

    def _hear_changed(self, jobs: tuple[str, ...], node: str) -> None:  # noqa: ARG002
        self._hints.give(Hint(jobs=frozenset(jobs)))

    def pass_on(self, job_id: str, words: bytes) -> None:
        try:
            node = self._node_of(job_id)
        except StoreUnavailable:
            return
        if node is None:
            if job_id in self._watchers:
                self._tell_watchers(between.SAID, {job_id: (job_id, words)})
        else:
            self._tell_node(node, between.SAID, ((job_id, words),))

    def _hear_said(self, said: tuple[tuple[str, bytes], ...], node: str) -> None:  # noqa: ARG002
        self._hints.give(Hint(said=said))
        for job_id, words in said:
            if self._has(job_id) and job_id in self._watchers:
                self._tell_watchers(between.SAID, {job_id: (job_id, words)})

    def _changed(self, kinds: frozenset[str]) -> None:
        super()._changed(kinds)
        self._tell_all(between.DOCUMENTS, kinds)

    def _hear_documents(self, kinds: frozenset[str], node: str) -> None:  # noqa: ARG002
        self._hints.give(Hint(documents=kinds))

    # Once a second ---------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Say again what may have been lost, and forget nodes that are gone, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self._tell_demand()
            self._tell_stops()
            live, now = self._members.live, asyncio.get_running_loop().time()
            for node in [node for node in self._demand if node not in live]:
                self._demands(node, {})
            for worker_id, (node, guest) in list(self._guests.items()):
                if node not in live:
                    self._close_guest(worker_id, guest)
            for job_id in list(self._watchers):
                of_job = self._watchers[job_id]
                for node in [node for node, until in of_job.items() if until <= now]:
                    del of_job[node]
                if not of_job:
                    del self._watchers[job_id]
            self._watch_again(now)

    def _watch_again(self, now: float) -> None:
        for job_id in list(self._hints.watched):
            with suppress(StoreUnavailable):
                node = self._node_of(job_id)
                at, since = self._watching.get(job_id, ("", 0.0))
                if node is None:
                    if self._watching.pop(job_id, None) is not None:
                        self._hints.give(Hint(jobs=frozenset((job_id,))))
                elif node != at or now - since >= WATCH_AGAIN_S:
                    self._aside(self._watch_anew(node, job_id, moved=node != at))

    async def _watch_anew(self, node: str, job_id: str, *, moved: bool) -> None:
        await self._watch_at(node, job_id)
        if moved:
            # It may have changed meanwhile.
            self._hints.give(Hint(jobs=frozenset((job_id,))))
