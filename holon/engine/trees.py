"""The application service of trees: a job with its tasks, and what the holons below tell of those that they do."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Protocol

from holon.domain.client import Client
from holon.domain.digest import ChildDigest, Digest
from holon.domain.tally import Tally, Told, final
from holon.domain.tree import (
    MAX_COUNTS,
    MAX_ERRORS,
    MAX_NODES,
    TREE_S,
    Asked,
    Summary,
    TreePage,
)
from holon.domain.value import replace
from holon.engine.below import Below
from holon.engine.dispatcher import Dispatcher
from holon.engine.jobs import Jobs
from holon.engine.kept import Kept
from holon.engine.page_tokens import ListTokens, PageTokens
from holon.engine.pins import own_id as id_of
from holon.engine.records import Records
from holon.engine.session import Session
from holon.engine.tallies import Reading, Tallies
from holon.engine.tree_nodes import (
    earlier_node,
    error_of,
    generation_of,
    job_node,
    node_id_of,
    offline_node,
    short,
    task_node,
)
from holon.engine.tree_pages import GenerationPlace, Page, Place, generation_place_of, grafted, place_of
from holon.engine.ways_down import Decider
from holon.errors import HolonError, NotFound, PermissionDenied, invalid
from holon.ports import JobRecord, Storage, TaskRecord

log = logging.getLogger(__name__)

LINES_AT_ONCE = 1_000
# So many tasks are looked up, and asked about below, at the same time.
TASKS_AT_ONCE = 32
# Of the jobs below, so many are counted in what is told of a job, and so many tasks looked at to find them.
MOST_BELOW = 200
MOST_LOOKED_UP = 1_000
_LEAST_S = 0.02


class Subtree(Decider, Protocol):
    """A linked holon below, which can be asked for the tree of a job that does a task of ours."""

    async def ask(self, task_id: str, lease_id: str, job_id: str, asked: Asked, seconds: float) -> TreePage:
        """A page of that tree, its root first.

        Arguments:
            job_id: the job, as far as it was told before; else empty.
            seconds: how long it may take.
        Raises:
            PermissionDenied: (NOT_DISCLOSED) the holon does not tell.
            HolonError: it does not know the job, gives no answer in time, or one that cannot be used.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Walk:
    """What one page is made from: for whom, the job, what its history says, what is asked, who is here, until when.

    `tokens` are those of its pages.
    """

    client: Client
    record: JobRecord
    reading: Reading
    asked: Asked
    sessions: Mapping[str, Session]
    until: float
    tokens: ListTokens

    @property
    def tally(self) -> Tally:
        """What its history amounts to."""
        return self.reading.tally

    @property
    def below(self) -> Asked | None:
        """What is asked of the jobs below its tasks; None: nothing."""
        depth = self.asked.depth
        if depth is None:
            return self.asked
        return replace(self.asked, depth=depth - 2) if depth >= 2 else None


class Trees:
    """Shows the trees of jobs. Holons below that are linked with this node are asked; others are shown as told last.

    Attributes:
        below: what was told last.
        tallies: what the histories of jobs amount to that were asked for lately.
    """

    def __init__(
        self,
        store: Storage,
        jobs: Jobs,
        records: Records,
        dispatcher: Dispatcher,
        below: Below,
        pages: PageTokens,
    ) -> None:
        self._store = store
        self._pages = pages
        self._jobs = jobs
        self._records = records
        self._dispatcher = dispatcher
        self.below = below
        self._links: dict[str, Subtree] = {}
        self._own_id = ""
        self.tallies = Tallies(self.read_on)

    def __repr__(self) -> str:
        return f"Trees(links={len(self._links)}, {self.below!r})"

    def join(self, worker_id: str, link: Subtree) -> None:
        """A holon is linked here as this worker; the newest counts."""
        self._links[worker_id] = link

    def leave(self, worker_id: str, link: Subtree) -> None:
        """A link has ended."""
        if self._links.get(worker_id) is link:
            del self._links[worker_id]

    def link(self, worker_id: str) -> Subtree | None:
        """The holon that is linked here as this worker."""
        return self._links.get(worker_id)

    async def page(self, client: Client, job_id: str, asked: Asked, seconds: float = TREE_S) -> TreePage:
        """A page of the tree of a job.

        Arguments:
            seconds: how long the holons below may take, all of them together.
        Raises:
            NotFound: (JOB_NOT_FOUND) there is no such job that the client may see.
            InvalidArgument: a depth, a page size or a page token that is none.
        """
        until = asyncio.get_running_loop().time() + seconds
        _check(asked)
        tokens = self._pages.of("tree", job_id)
        place = place_of(asked.token, tokens)
        record = await self._jobs.get(client, job_id)
        reading = await self.tallies.of(record)
        page = Page(asked.size or MAX_NODES)
        if not asked.token:
            digest = await self._digest(reading.tally) if asked.digests else None
            page.add([job_node(record, await self._holon_id(), digest)])
        if asked.depth == 0:
            return page.done()
        sessions = {one.worker_id: one for one in self._dispatcher.sessions}
        return await self._tasks(_Walk(client, record, reading, asked, sessions, until, tokens), place, page)

    async def _digest(self, tally: Tally) -> Digest:
        children = _digests(await self._told_below(tally))
        return tally.fingerprint.digest(children)

    async def read_on(self, tally: Tally, record: JobRecord) -> None:
        """Have a tally take what was written since, up to what the record says."""
        while (last := tally.fingerprint.last) < record.sequence:
            lines = await self._records.history(record.job.id, last, LINES_AT_ONCE, record.sequence)
            tally.take_all([line for line in lines if line[0] <= record.sequence])
            if tally.fingerprint.last == last:
                return
            if len(lines) == LINES_AT_ONCE:
                # Others run between two pages.
                await asyncio.sleep(0)

    async def summary(self, record: JobRecord, tally: Tally) -> Summary:
        """What is told above of a job, with all below it; the tally is as new as the record."""
        await self._holon_id()
        return self._summary(record, tally, await self._told_below(tally))

    def summary_at_hand(self, record: JobRecord) -> Summary | None:
        """The same, where it takes no call of the store; else None."""
        lines = self._store.history_at_hand(record.job.id)
        if not lines or lines[-1][0] != record.sequence or not self._own_id or self.below.may_have_any:
            return None
        tally = Tally(record.job.id)
        tally.take_all(lines)
        return self._summary(record, tally, ())

    def _summary(self, record: JobRecord, tally: Tally, below: Sequence[Summary]) -> Summary:
        job, own_id = record.job, self._own_id
        tasks = tally.counts(job_is_over=job.status.terminal)
        jobs: dict[str, int] = {}
        for one in below:
            _count(tasks, one.tasks)
            _count(jobs, ((one.status, 1), *one.jobs))
        error = error_of(record)
        own = tally.errors() if error is None else (error, *tally.errors())
        errors = [replace(one, holon_id=own_id) for one in own]
        errors += chain.from_iterable([one.errors for one in below])
        return Summary(
            own_id,
            job.id,
            job.status.value,
            job.current_state,
            self._store.now(),
            record.created_at,
            record.finished_at,
            _most_of(tasks),
            _most_of(jobs),
            tuple([short(one) for one in errors[:MAX_ERRORS]]),
            tally.visits(record.finished_at),
            tally.fingerprint.digest(_digests(below)),
            tally.truncated or len(below) == MOST_BELOW or max(len(tasks), len(jobs)) > MAX_COUNTS,
            record.cost,
        )

    # Nodes ---------------------------------------------------------------------------------------------------------

    async def _holon_id(self) -> str:
        if not self._own_id:
            self._own_id = await id_of(self._store)
        return self._own_id

    async def _tasks(self, walk: _Walk, place: Place, page: Page) -> TreePage:
        loop, own_id = asyncio.get_running_loop(), await self._holon_id()
        every = walk.tally.tasks(place.task)
        while batch := list(islice(every, TASKS_AT_ONCE)):
            if not page.is_empty and (page.left <= 0 or loop.time() >= walk.until):
                return page.done(place.token(walk.tokens))
            rows = await asyncio.gather(*(self._store.task(told.id) for told in batch))
            if any(map(_has_ended_since, batch, rows)):
                await walk.reading.on(await self._jobs.get(walk.client, walk.record.job.id))
                batch = list(islice(walk.tally.tasks(place.task), len(batch)))
            behind = await self._all_behind(walk, batch, rows, place, page.left)
            for told, row, under in zip(batch, rows, behind, strict=True):
                if place.inner is None and not page.add([task_node(walk.record, own_id, told, row, walk.sessions)]):
                    return page.done(place.token(walk.tokens))
                if under is not None:
                    if not page.add(under.nodes):
                        return page.done(Place(place.task, place.inner or "", place.seen).token(walk.tokens))
                    if (more := place.below(under)) is not None:
                        return page.done(more.token(walk.tokens))
                place = Place(place.task + 1)
        return page.done()

    async def _all_behind(
        self, walk: _Walk, batch: Sequence[Told], rows: Sequence[TaskRecord | None], place: Place, room: int
    ) -> Sequence[TreePage | None]:
        """What is below each of these tasks; the first of them is the one of the place."""
        size = max(1, room - (place.inner is None))
        places = (generation_place_of(place.inner or ""), *[GenerationPlace()] * (len(batch) - 1))
        each = zip(batch, rows, places, strict=True)
        return await asyncio.gather(*(self._under(walk, told, row, at, size) for told, row, at in each))

    async def _under(
        self, walk: _Walk, told: Told, row: TaskRecord | None, place: GenerationPlace, size: int
    ) -> TreePage | None:
        """What is below a task, as a part of this tree: its earlier generations, then the job of the newest one."""
        page, newest = Page(size), generation_of(told, row)
        for one in walk.tally.earlier(told, newest):
            if one.generation < place.generation:
                continue
            inner = place.of(one.generation)
            if inner is None:
                node = earlier_node(walk.record, await self._holon_id(), one)
                if not page.add([node]):
                    return page.done(GenerationPlace(one.generation).token)
            more = await self._part_of(
                page, walk, inner or "", node_id_of(one), partial(self._behind_earlier, walk, one)
            )
            if more is not None:
                return page.done(GenerationPlace(one.generation, more).token)
        inner = place.of(newest)
        more = await self._part_of(page, walk, inner or "", told.id, partial(self._behind, walk, told, row))
        if more is not None:
            return page.done(GenerationPlace(newest, more).token)
        return None if page.is_empty else page.done()

    async def _part_of(
        self,
        page: Page,
        walk: _Walk,
        inner: str,
        above: str,
        behind: Callable[[Asked], Awaitable[TreePage | None]],
    ) -> str | None:
        """Add a page of the tree behind a task; where in that the next page begins, None: it is at its end.

        Arguments:
            inner: where the page begins.
            above: the node that it hangs on.
        """
        if walk.below is None:
            return None
        if page.left <= 0:
            return inner
        under = await behind(replace(walk.below, token=inner, size=page.left))
        if under is None:
            return None
        return (under.token or None) if page.add(grafted(above, under)) else inner

    # Below ---------------------------------------------------------------------------------------------------------

    async def _behind(self, walk: _Walk, told: Told, row: TaskRecord | None, asked: Asked) -> TreePage | None:
        """The tree below a task that a holon does, or did: as it says now, or as it told last; None: there is none."""
        if told.child_job_id:
            return await self._part(walk, told.child_job_id, asked)
        if row is not None and row.state == "back_off":
            # Nobody has this generation yet.
            return None
        worker_id = row.worker_id if row is not None else told.worker_id
        link = self._links.get(worker_id)
        if not worker_id or (link is None and worker_id in walk.sessions):
            return None
        if link is not None and row is not None and row.state == "queued":
            # It is here and does not have it: what it did of the task is over, however it told of it last.
            return None
        kept = await self.below.find(told.id)
        lease_id = row.lease_id if row is not None else kept.lease_id if kept is not None else ""
        if kept is not None and (kept.lease_id != lease_id or 0 < kept.generation < generation_of(told, row)):
            # Of an attempt before, perhaps somebody else's.
            kept = None
        return await self._asked(walk, told, kept, link, lease_id, asked)

    async def _behind_earlier(self, walk: _Walk, told: Told, asked: Asked) -> TreePage | None:
        """The same of an earlier generation of a task."""
        kept = await self.below.find(told.id, told.generation)
        if kept is None:
            return None
        return await self._asked(walk, told, kept, self._links.get(told.worker_id), kept.lease_id, asked)

    async def _asked(
        self, walk: _Walk, told: Told, kept: Kept | None, link: Subtree | None, lease_id: str, asked: Asked
    ) -> TreePage | None:
        """The tree of the job behind a task: as its holon says now, or as it told last."""
        left = walk.until - asyncio.get_running_loop().time()
        if link is not None and left > _LEAST_S:
            try:
                return await link.ask(told.id, lease_id, kept.summary.job_id if kept is not None else "", asked, left)
            except PermissionDenied:
                return None
            except HolonError as error:
                facts = {"task_id": told.id, "worker_id": told.worker_id}
                log.info("the tree below task %s is shown as last reported: %s", told.id, error.message, extra=facts)
        return None if kept is None or asked.token else TreePage((offline_node(kept, told),))

    async def _part(self, walk: _Walk, job_id: str, asked: Asked) -> TreePage | None:
        """The tree of a job that is a part of this one; None: it is not made yet, or is gone."""
        left = walk.until - asyncio.get_running_loop().time()
        try:
            return await self.page(Client(walk.record.job.owner), job_id, asked, max(left, _LEAST_S))
        except NotFound:
            return None

    async def _told_below(self, tally: Tally) -> Sequence[Summary]:
        """What holons told last of the jobs of a job's tasks, as far as there are not too many."""
        if not await self.below.has_any():
            return ()
        found: list[Summary] = []
        plain = {one.worker_id for one in self._dispatcher.sessions} - self._links.keys()
        by_holons = (told for told in tally.tasks() if not told.child_job_id and told.worker_id not in plain)
        every = islice(by_holons, MOST_LOOKED_UP)
        while len(found) < MOST_BELOW and (batch := list(islice(every, TASKS_AT_ONCE))):
            kept = await asyncio.gather(*(self.below.find(told.id) for told in batch))
            found += [one.summary for one in kept if one is not None]
        return found[:MOST_BELOW]


def _has_ended_since(told: Told, row: TaskRecord | None) -> bool:
    """Whether the store knows of an end, or of a failure, that was not read in the history."""
    if row is None:
        return False
    return row.generation > told.generation + 1 or (row.state == "over" and not final(told, job_is_over=False))


def _digests(below: Iterable[Summary]) -> tuple[ChildDigest, ...]:
    return tuple(ChildDigest(one.holon_id, one.job_id, one.digest.sha256) for one in below if one.digest is not None)


def _count(counts: dict[str, int], more: Iterable[tuple[str, int]]) -> None:
    for status, count in more:
        counts[status] = counts.get(status, 0) + count


def _most_of(counts: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """How many there are of each status, by name; of too many statuses, of those that most have."""
    of_all = sorted(counts.items())
    return tuple(of_all if len(of_all) <= MAX_COUNTS else sorted(Counter(counts).most_common(MAX_COUNTS)))


def _check(asked: Asked) -> None:
    if not 0 <= asked.size <= MAX_NODES:
        raise invalid("page_size", f"must be between 1 and {MAX_NODES}, or 0 for {MAX_NODES}")
    if asked.depth is not None and asked.depth < 0:
        raise invalid("max_depth", f"is {asked.depth}; it must be 0 or more")
