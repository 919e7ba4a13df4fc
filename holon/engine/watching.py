"""Watching: jobs followed as they go on. The store's hints wake it; one reading of a job serves all who follow it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

from holon.domain.client import Client
from holon.domain.events import HistoryEvent
from holon.domain.log_lines import Logged
from holon.engine.feeds import TAIL, Feed, Happened, Idle, Seen, Update, Wants, Wrote
from holon.engine.following import Watched
from holon.engine.job_errors import not_found
from holon.engine.jobs import Jobs
from holon.engine.records import Records
from holon.engine.rounds import Rounds, pause
from holon.errors import (
    RETRY_S,
    HolonError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    StoreUnavailable,
    Unavailable,
    Violation,
)
from holon.ports import Storage
from holon.telemetry.seldom import Seldom

log = logging.getLogger(__name__)

MAX_WATCHERS = 10_000
# How many lines of history a watcher that is far behind reads at once.
PAGE = 100


class Watching:
    """Lets clients follow jobs of theirs.

    Arguments:
        jobs: who knows whose a job is, and why it waits.
        records: who knows what happened to it.
        watched: what the store hints at.
        idle: seconds after which a watcher is told that nothing happened.
    """

    def __init__(self, store: Storage, jobs: Jobs, records: Records, watched: Watched, idle: float = 20.0) -> None:
        self._store = store
        self._jobs = jobs
        self._records = records
        self._watched = watched
        self._idle = idle
        self._feeds: dict[str, Feed] = {}
        self._rounds = Rounds(self._feeds, self._read_again)
        self._watchers = 0
        self._of: dict[str, int] = {}
        self._closed = False
        self._away = Seldom(log)

    def __repr__(self) -> str:
        return f"Watching(jobs={len(self._feeds)}, watchers={self._watchers})"

    @property
    def watchers(self) -> int:
        """How many follow a job now."""
        return self._watchers

    # Who follows -------------------------------------------------------------------------------------------------

    async def follow(
        self, client: Client, job_id: str, after: int | None, *, lines: bool = True, logs: bool = False
    ) -> AsyncGenerator[Update, None]:
        """Follow a job to its end: as it is, then what happens, at last as it ended.

        Progress is told as it is when the caller comes for it, so one who is slow is told less of it, and nothing
        waits for him. Close the iterator in any case.

        Arguments:
            after: the line of history to go on after; 0 is the beginning, None from now on.
            lines: whether each line of history is told; without, how far the job is and how it ended, which costs less.
            logs: whether it is told what its tasks write in their logs from now on; of who is slow some is left out.
        Raises:
            NotFound: (JOB_NOT_FOUND) there is no such job, or none any more.
            InvalidArgument: `after` is past the newest line of history.
            ResourceExhausted: (WATCHES_FULL) too many follow jobs of this node, or this client too many of them.
            Unavailable: the node shuts down, or the store is away; resume after the last sequence.
        """
        known = self._feeds.get(job_id)
        if known is None or known.seen is None or not client.sees(known.seen.record.job.owner):
            # Before anybody follows it: whether others follow a foreign job changes nothing in how it is refused.
            await self._jobs.get(client, job_id)
        feed, wake = self._join(client.name, job_id, Wants.LINES if lines else Wants.MOVES)
        try:
            first = await self._first(feed, client, after)
            if logs:
                feed.hear_logs(wake)
            going_on = self._go_on(feed, first, feed.moves, wake)
            yield first
            async with aclosing(going_on):
                async for update in going_on:
                    yield update
        finally:
            self._leave(client.name, feed, wake)

    def expect(self, job_id: str) -> bool:
        """A job of this id is about to be made, and waited for: until `expect_no_more`, what is told of it is at hand.

        False: this store cannot, and nothing is to be ended.
        """
        return self._watched.expect(job_id, history=False)

    def expect_no_more(self, job_id: str) -> None:
        """A job that was expected has been waited for long enough."""
        self._watched.drop(job_id)

    async def until_over(self, client: Client, job_id: str, *, expected: bool = False) -> Seen | None:
        """Wait until a job is over, gone or not the client's to see, or until this node shuts down.

        Arguments:
            expected: the client has just made it, and it is expected until this returns: it is not read before it is
                over.
        Returns:
            The job that is over, without what its handlers worked on; None: it is not, or not the client's to see.
        Raises:
            ResourceExhausted: (WATCHES_FULL) too many follow jobs of this node, or this client too many of them.
            StoreUnavailable: the store is away.
        """
        feed, wake = self._join(client.name, job_id, Wants.END)
        try:
            if expected and self._store.over_at_hand(job_id) is False:
                feed.awaited = True
            else:
                await self._first(feed, client, None)
            while not (feed.over or self._closed):
                if feed.failure is not None:
                    raise feed.failure.with_traceback(None)
                await wake.wait()
        except NotFound:
            return None
        finally:
            self._leave(client.name, feed, wake)
        return feed.seen if feed.over else None

    def _join(self, name: str, job_id: str, wants: Wants) -> tuple[Feed, asyncio.Event]:
        """One more follows a job, until `_leave`: its feed, and what wakes him."""
        # As many as are left to others: one client alone can have half of them, and never all.
        if self._of.get(name, 0) >= MAX_WATCHERS - self._watchers:
            raise ResourceExhausted(
                f"{self._watchers} jobs are watched on this node, {self._of.get(name, 0)} of them by this client, "
                "which is the limit; retry later",
                code="WATCHES_FULL",
                retry_after=RETRY_S,
            )
        wake = asyncio.Event()
        feed = self._feeds.get(job_id)
        if feed is None:
            feed = self._feeds[job_id] = Feed(job_id)
        feed.join(wake, wants)
        self._watchers += 1
        self._of[name] = self._of.get(name, 0) + 1
        return feed, wake

    def _leave(self, name: str, feed: Feed, wake: asyncio.Event) -> None:
        self._watchers -= 1
        self._of[name] -= 1
        if not self._of[name]:
            del self._of[name]
        feed.leave(wake)
        if not feed.watchers and self._feeds.get(feed.job_id) is feed:
            del self._feeds[feed.job_id]
            if feed.watched:
                self._watched.drop(feed.job_id)

    async def _first(self, feed: Feed, client: Client, after: int | None) -> Seen:
        """The job as it is, once it is sure that the caller may see it."""
        async with feed.opening:
            if feed.seen is None or not feed.watched:
                if not feed.watched:
                    await self._watched.add(feed.job_id)
                    feed.watched = True
                await self._read(feed)
            elif after is not None and after > feed.sequence:
                await self._read(feed)
        if feed.seen is None or not client.sees(feed.seen.record.job.owner):
            raise not_found(feed.job_id)
        if after is None:
            return feed.seen
        if not 0 <= after <= feed.sequence:
            reason = f"is {after}, but the history of this job has only {feed.sequence} lines"
            raise InvalidArgument(f"after_sequence {reason}", details=[Violation("after_sequence", reason)])
        return Seen(after, feed.seen.record, feed.seen.message)

    async def _go_on(self, feed: Feed, first: Seen, moves: int, wake: asyncio.Event) -> AsyncGenerator[Update, None]:
        position, logs = first.sequence, feed.logs.get(wake)
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            wake.clear()
            if self._closed:
                raise Unavailable(
                    "this node is shutting down; resume on another node, or here later",
                    code="DRAINING",
                    retry_after=1.0,
                )
            if feed.failure is not None:
                raise feed.failure.with_traceback(None)
            # More may come all the while: what else there is to tell has its turn.
            for _ in range(len(logs or ())):
                if logs:
                    yield Wrote(position, logs.popleft())
                    told_at = loop.time()
            while feed.watchers[wake] is Wants.LINES and position < feed.sequence:
                for line in await self._lines(feed, position):
                    yield line
                    position, told_at = line.sequence, loop.time()
            if feed.over and feed.seen is not None:
                if first.record is not feed.seen.record or first.sequence != position:
                    yield feed.seen
                return
            if feed.moved is not None and feed.moves != moves:
                moves = feed.moves
                yield feed.moved
                told_at = loop.time()
                continue
            try:
                # Not from here on: what wakes is often nothing that he is told.
                async with asyncio.timeout_at(told_at + self._idle):
                    await wake.wait()
            except TimeoutError:
                yield Idle(position)
                told_at = loop.time()

    async def _lines(self, feed: Feed, position: int) -> Sequence[Happened]:
        kept = feed.after(position)
        if kept is not None:
            return kept
        lines = await self._records.history(feed.job_id, position, PAGE, feed.sequence)
        if not lines:
            raise not_found(feed.job_id)
        return [Happened(number, event) for number, event in lines]

    # What wakes them ---------------------------------------------------------------------------------------------

    def changed(self, jobs: Iterable[str]) -> None:
        """These watched jobs have changed."""
        for job in jobs:
            feed = self._feeds.get(job)
            if feed is not None and not self._told_at_once(feed):
                self._rounds.mark(job)

    def logged(self, job_id: str, logged: Logged) -> None:
        """A task of a job wrote lines of its log."""
        feed = self._feeds.get(job_id)
        if feed is not None:
            feed.log(logged)

    def _told_at_once(self, feed: Feed) -> bool:
        """Tell of a job what is at hand, where that is all that is wanted, and is not too soon after the last time."""
        now = asyncio.get_running_loop().time()
        if not _told(feed) or feed.opening.locked():
            return False
        if feed.seen is None and self._store.over_at_hand(feed.job_id) is False:
            # Only its end is waited for.
            return True
        if now < feed.next_at or feed.lines_wanted:
            return False
        try:
            record = self._store.at_hand(feed.job_id)
            if record is None:
                return False
            feed.take(record, self._jobs.progress_message(record), None)
        except Exception:
            # Whoever hints is not to end for one job; a reading of it finds the same, and says so to who follows.
            log.exception("news of job %s cannot be sent at once", feed.job_id, extra={"job_id": feed.job_id})
            return False
        feed.times += 1
        feed.next_at = now + pause(feed.times)
        return True

    def close(self) -> None:
        """The node's door closes: who follows is sent elsewhere."""
        self._closed = True
        for feed in self._feeds.values():
            feed.close()

    async def run(self) -> None:
        """Read what has changed, until cancelled."""
        await self._rounds.run()

    async def _read_again(self, job_id: str) -> float | None:
        """Read a job that has changed; where the store is away, answers after how many seconds to do so again."""
        feed = self._feeds.get(job_id)
        if feed is None:
            return None
        try:
            async with feed.opening:
                if _told(feed):
                    await self._read(feed)
        except StoreUnavailable as error:
            self._away.warn("the watched job %s cannot be looked up", job_id, why=error.message, job_id=job_id)
            return error.again_after
        except Exception:
            log.exception("watched job %s cannot be read", feed.job_id, extra={"job_id": feed.job_id})
            feed.fail(HolonError("the node failed to read this job; its log has the cause"))
        return None

    async def _read(self, feed: Feed) -> None:
        record = await self._store.job(feed.job_id)
        if record is None:
            feed.fail(not_found(feed.job_id))
            return
        lines: Sequence[tuple[int, HistoryEvent]] | None = None
        # A first reading needs no lines, and one who is behind the tail reads them himself.
        if feed.seen is not None and record.sequence > feed.sequence and feed.lines_wanted:
            start = max(feed.sequence, record.sequence - TAIL)
            limit = record.sequence - start
            lines = await self._records.history(feed.job_id, start, limit, record.sequence)
        feed.take(record, self._jobs.progress_message(record), lines)


def _told(feed: Feed) -> bool:
    """Whether what is told of a job goes to those who follow it; else its first reading does."""
    return feed.awaited or feed.seen is not None
