"""The engine, put together: services for the doors, loops for the node, over one store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from holon.domain.change import Limits
from holon.domain.reputation import Rules
from holon.domain.task import RetryPolicy
from holon.domain.tree import Summary
from holon.domain.value import Value
from holon.domain.webhook import Receivers
from holon.engine.below import Below
from holon.engine.blueprints import Blueprints
from holon.engine.catalogs import Catalogs
from holon.engine.children.bonds import Bonds
from holon.engine.children.calling import Calling
from holon.engine.children.listing import PartsListed
from holon.engine.children.own import Own, OwnSettings
from holon.engine.client_files import ClientFiles
from holon.engine.contracts import Contracts
from holon.engine.dispatcher import Dispatcher
from holon.engine.executor import Executor
from holon.engine.fleet import Fleet
from holon.engine.fleets.drained import DrainedWorkers
from holon.engine.fleets.drains import Drains
from holon.engine.fleets.elsewhere import Elsewhere
from holon.engine.fleets.hearing import Hearing
from holon.engine.fleets.telling import Telling
from holon.engine.fleets.whole import WholeFleet
from holon.engine.following import Following, Watched
from holon.engine.fusing import Fusing
from holon.engine.handlers import Handlers
from holon.engine.history_reader import HistoryReader
from holon.engine.inputs import Inputs
from holon.engine.job_files import FilesPlace, JobFiles
from holon.engine.jobs import Jobs
from holon.engine.kept import Sealing
from holon.engine.log_lines import LogLines
from holon.engine.mover import Mover
from holon.engine.needs import Needs
from holon.engine.occurrences import Occurrences
from holon.engine.outputs import Outputs
from holon.engine.page_tokens import PageTokens
from holon.engine.passing_down import PassingDown
from holon.engine.passing_signals import PassingSignals
from holon.engine.planning import Planner
from holon.engine.rates import RateLimits, Rates
from holon.engine.records import Records
from holon.engine.refusals import Refusals
from holon.engine.rekeying import Rekeying
from holon.engine.reputations import Reputations
from holon.engine.results import Results
from holon.engine.retention import Retention
from holon.engine.run import Tools
from holon.engine.scheduler import Scheduler
from holon.engine.sent_events import SentEvents
from holon.engine.status_check import StatusCheck
from holon.engine.touches import Touches
from holon.engine.trees import Trees
from holon.engine.wakeups import Wakeups
from holon.engine.watching import Watching
from holon.engine.ways_down import WaysDown
from holon.engine.webhooks import Webhooks
from holon.engine.workers import Workers
from holon.ports import SAID_WITHIN, Delivery, HistoryStorage, Storage, StoreSettings
from holon.telemetry.events import Telemetry


class EngineSettings(Value, gc=True):
    """What bounds the engine. Times are milliseconds, sizes bytes. Without `rates` no calls are counted.

    `max_depth` is how many jobs may be in one line, each a part of the one before; `cleanup` is for how long a part may
    clean up once the job above it has ended. `receivers` are who may be told of a job's end, until `webhook_give_up`
    after it.
    """

    concurrent_jobs: int = 100
    max_transitions: int = 1_000
    max_retries: int = 3
    retry_first: int = 1_000
    retry_longest: int = 60_000
    max_payload: int = 2**20
    job_retention: int = 7 * 86_400_000
    job_retention_count: int = 10_000_000
    history_retention: int = 90 * 86_400_000
    watch_idle: int = 20_000
    max_depth: int = 8
    cleanup: int = 30_000
    soft_limit: int = 3
    reputation: Rules = Rules()
    rates: Rates | None = None
    strict_events: bool = True
    receivers: Receivers = Receivers()
    webhook_give_up: int = 86_400_000


class Engine:
    """All of the engine over one store. `run` is its loops; `jobs`, `trees`, `watching`, `workers` are what doors call.

    `scheduler` is told of the schedules, if there are any.

    Arguments:
        store: an open store, with these settings.
        telemetry: where it counts what it does, and traces it.
        history: where history is moved, open; None leaves it in the store, whose settings then say so too.
        seal: for what holons below tell, where it is stored; None leaves that as it is.
        files: where jobs have files; None: they have none.
        read_told: what holons below told of a job, of how that came; raises InvalidArgument.
        wall: the time that schedules go by, in epoch milliseconds; None: the store's.
        pages: makes the page tokens of lists; None makes some that end with this engine.
        delivery: what tells receivers of jobs' ends; None: nobody is told.
    """

    def __init__(
        self,
        store: Storage,
        store_settings: StoreSettings,
        settings: EngineSettings,
        telemetry: Telemetry | None = None,
        history: HistoryStorage | None = None,
        seal: Sealing | None = None,
        files: FilesPlace | None = None,
        *,
        read_told: Callable[[bytes], Summary],
        wall: Callable[[], int] | None = None,
        pages: PageTokens | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        telemetry = telemetry or Telemetry()
        contracts = self.contracts = Contracts()
        retry = RetryPolicy(settings.max_retries, settings.retry_first, settings.retry_longest)
        limits = Limits(settings.max_transitions, retry)
        self.store = store
        self.metrics = telemetry.metrics
        self.blueprints = Blueprints(contracts, files=files is not None)
        self.files: JobFiles | None = None
        if files is not None:
            self.files = JobFiles(files, store, self.blueprints, settings.job_retention)
            telemetry.ended_job = self.files.ended
        elsewhere = Elsewhere()
        self.dispatcher = Dispatcher(store, telemetry, settings.soft_limit, elsewhere)
        self.status_check = StatusCheck(self.dispatcher)
        self.dispatcher.offered = self.status_check.look
        self.fleet = Fleet(self.dispatcher, store.now, store_settings.node_id)
        self._telling = Telling(store, self.fleet, store_settings.node_id)
        self._hearing = Hearing(store, elsewhere, store_settings.node_id)
        self._drained = DrainedWorkers(store, self.fleet)
        self._drains = Drains(store, self._drained, store_settings.node_id)
        self.whole_fleet = WholeFleet(self.fleet, elsewhere, self._drained, self._drains)
        self.reputations = Reputations(store, self.dispatcher, self.fleet, store.now, settings.reputation)
        needs = Needs(contracts)
        self._rekeying = Rekeying(needs, store)
        self._refusals = Refusals(self.dispatcher, needs, store, store.now)
        # An accept is in the store well before its offer is over, a heartbeat before its lease.
        every = min(SAID_WITHIN / 1000, store_settings.lease / 6_000, store_settings.offer / 4_000)
        self.touches = Touches(store, self.dispatcher, store.now, every)
        sent_events = SentEvents(self.blueprints, contracts, strict=settings.strict_events)
        inputs = Inputs(contracts, settings.max_payload)
        calling = Calling(store, self.blueprints, inputs, settings.max_depth)
        outputs = Outputs(self.blueprints, contracts)
        handlers = Handlers(self.blueprints, limits, store.now, telemetry, sent_events, calling, outputs, self.files)
        planner = Planner(needs, settings.max_payload)
        fusing = Fusing(handlers, planner, settings.concurrent_jobs)
        results = Results(
            store,
            self.dispatcher,
            contracts,
            fusing,
            settings.max_payload,
            telemetry,
            self.reputations.judged,
        )
        catalogs = Catalogs(needs, contracts, self._rekeying)
        self.log_lines = LogLines(store, seal)
        occurrences = Occurrences(store, contracts, strict=settings.strict_events)
        self.workers = Workers(
            store,
            self.dispatcher,
            self.touches,
            results,
            catalogs,
            telemetry,
            self.fleet,
            self.log_lines,
            occurrences,
            self.reputations.joined,
            self.reputations.lost,
        )
        self.pages = pages = pages or PageTokens()
        self.records = Records(store, history, pages)
        self.reader = HistoryReader(store, history)
        self.mover = Mover(store, history) if history is not None else None
        self.rates = RateLimits(store, settings.rates) if settings.rates is not None else None
        self.jobs = Jobs(
            store,
            self.blueprints,
            contracts,
            self.dispatcher,
            fusing,
            settings.max_payload,
            telemetry,
            self.records,
            settings.receivers,
            settings.max_transitions,
            pages,
            needs,
        )
        # What clients may do with files; None: their jobs have none.
        self.client_files = ClientFiles(self.jobs, self.files, pages) if self.files is not None else None
        self.scheduler = Scheduler(self.jobs, store, wall or store.now, settings.job_retention)
        tools = Tools(
            store,
            handlers,
            planner,
            self.dispatcher,
            fusing,
            Bonds(self.jobs, store),
            store_settings.max_deliveries,
            telemetry,
        )
        self.executor = Executor(tools, settings.concurrent_jobs)
        watched = Watched(store)
        self.following = Following(store, watched)
        own = OwnSettings(store_settings.node_id, store_settings.lease, settings.cleanup / 1000)
        self._own = Own(
            store,
            self.dispatcher,
            self.touches,
            results,
            occurrences,
            self.log_lines,
            self.jobs,
            self.blueprints,
            self.following,
            self.reader,
            own,
        )
        self.watching = Watching(store, self.jobs, self.records, watched, settings.watch_idle / 1000)
        self.log_lines.followers += (self.watching.logged, self.following.logged)
        self.below = Below(store, store.now, settings.job_retention, read_told, seal)
        self.webhooks = Webhooks(store, self.records, delivery, settings.webhook_give_up)
        self.trees = Trees(store, self.jobs, self.records, self.dispatcher, self.below, pages)
        self.jobs.parts = PartsListed(self.records, self.trees.tallies, pages)
        ways = WaysDown(store, self.records, self.trees.link)
        self.jobs.approvals.passing = PassingDown(self.records, ways, self.jobs.approvals.take)
        self.jobs.signals.passing = PassingSignals(self.records, ways, self.jobs.signals.take)
        told = self.mover.wake if self.mover is not None else lambda: None
        self._wakeups = Wakeups(
            store,
            self.dispatcher,
            self.touches,
            self._rekeying,
            self.watching,
            self.following,
            told,
            self._catch_up,
        )
        self._wakeups.said = self.log_lines.heard
        self._wakeups.lost = self.reputations.lost
        self._jumped = False
        self.follow_documents(self.below.changed)
        self.follow_documents(self.reputations.hints.changed)
        self.follow_documents(self._hearing.hints.changed)
        self.follow_documents(self._drains.changed)
        self.follow_documents(self._drained.hints.changed)
        surplus = partial(store.surplus, settings.job_retention_count)
        # Those of the ended jobs that stay: of which somebody is still to be told.
        self.spared: Callable[[], Awaitable[Collection[str]]] = _none
        self._retentions = {"retention": Retention(self._purge, store.now, settings.job_retention, surplus)}
        if history is not None:
            self._retentions["history-retention"] = Retention(history.purge, store.now, settings.history_retention)

    def __repr__(self) -> str:
        return f"Engine({self.executor!r}, {self.dispatcher!r})"

    async def _purge(self, finished_before: int, limit: int) -> int:
        return await self.store.purge(finished_before, limit, await self.spared())

    async def _catch_up(self) -> None:
        if self._jumped:
            # What workers had taken by then is theirs; that they were still there is said of the time before.
            self._jumped = False
            await self.touches.flush(extends=False)
        await self._own.catch_up()

    def time_jumped(self) -> None:
        """The clock was moved ahead: whatever waits for a time looks again."""
        self._jumped = True
        self._wakeups.look_again()
        self.scheduler.look_again()
        self.webhooks.look_again()
        for retention in self._retentions.values():
            retention.look_again()

    def follow_documents(self, changed: Callable[[frozenset[str]], None]) -> None:
        """Have this called with the kinds of documents that changed. A hint can be lost: look now and then as well."""
        self._wakeups.documents.append(changed)

    @property
    def _is_shared(self) -> bool:
        """Whether other nodes can be on the store."""
        return self.store.shared

    async def recall(self) -> None:
        """Know what other nodes, or this one before, have stored of workers, before the first of them comes.

        Raises:
            StoreUnavailable: the store is away.
        """
        await self.reputations.recall()
        await self._drained.look()
        if self._is_shared:
            await self._hearing.look()

    async def leave(self) -> None:
        """Let the other nodes know that this one has no workers any more; once `run` has ended."""
        if self._is_shared:
            await self._telling.leave()

    async def run(self) -> None:
        """Run the loops until cancelled; what was not committed then runs again."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self.executor.run(), name="executor")
            loops.create_task(self.dispatcher.run(), name="dispatcher")
            loops.create_task(self.touches.run(), name="touches")
            loops.create_task(self._wakeups.run(), name="wakeups")
            loops.create_task(self._rekeying.run(), name="rekeying")
            loops.create_task(self._refusals.run(), name="refusals")
            loops.create_task(self.watching.run(), name="watching")
            loops.create_task(self.following.run(), name="following")
            loops.create_task(self._own.run(), name="parts-of-jobs")
            loops.create_task(self.below.run(), name="below")
            loops.create_task(self.reputations.run(), name="reputations")
            loops.create_task(self._drained.run(), name="drained-workers")
            loops.create_task(self.scheduler.run(), name="scheduler")
            loops.create_task(self.webhooks.run(), name="webhooks")
            if self._is_shared:
                loops.create_task(self._telling.run(), name="fleet-telling")
                loops.create_task(self._hearing.run(), name="fleet-hearing")
                loops.create_task(self._drains.run(), name="fleet-drains")
            for name, retention in self._retentions.items():
                loops.create_task(retention.run(), name=name)
            if self.files is not None:
                loops.create_task(self.files.run(), name="files")
            if self.mover is not None:
                loops.create_task(self.mover.run(), name="mover")
            if self.rates is not None:
                loops.create_task(self.rates.run(), name="rates")

    async def drain(self) -> None:
        """Take no new job; wait until those that run have committed, no worker holds a task, and no webhook is sent."""
        self.scheduler.close()
        self.executor.close()
        self._own.close()
        await self.executor.idle()
        await self.workers.quiet()
        await self.touches.flush()
        await self.reputations.drain()
        if self.mover is not None:
            await self.mover.flush()
        await self.webhooks.drain()


async def _none() -> Collection[str]:
    return ()
