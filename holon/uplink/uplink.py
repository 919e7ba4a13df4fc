"""The uplink: a loop that links with the parent while this node has the lease on that, and serves it as a worker."""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial

from holon.domain.tree import Disclose
from holon.engine.core import Engine
from holon.engine.holarchy import Holarchy
from holon.errors import BlueprintError, HolonError
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.telemetry.metrics import UplinkMetrics
from holon.uplink.answering import Answering
from holon.uplink.books import Books, owed
from holon.uplink.counting import Counting
from holon.uplink.credits import Credits
from holon.uplink.due import Due
from holon.uplink.escalation import Escalation
from holon.uplink.offerings import Offerings
from holon.uplink.parent import Parent
from holon.uplink.passing import passing
from holon.uplink.place import Place
from holon.uplink.places import Places
from holon.uplink.provided import Here
from holon.uplink.providers import Providers
from holon.uplink.resolving import Resolving
from holon.uplink.serving import Serving
from holon.uplink.settings import UplinkSettings
from holon.uplink.summaries import Summaries
from holon.uplink.tenure import Tenure, TenureLost
from holon.worker.link import CAPABILITIES, Link, Replaced

log = logging.getLogger(__name__)

# After what repeating at once does not mend.
_PAUSE_S = 2.0


class Uplink:
    """Serves the parent for as long as it runs.

    Arguments:
        engine: where the parent's jobs run; all of its blueprints are registered.
        holarchy: the place of this holon.

    Attributes:
        metrics: what is counted of it.
    Raises:
        BlueprintError: what one of the blueprints returns cannot be offered, or a skill that is to be passed on has the
            name of a blueprint, or none that one could have.
    """

    def __init__(self, engine: Engine, holarchy: Holarchy, settings: UplinkSettings) -> None:
        self._settings = settings
        self._holarchy = holarchy
        self._engine = engine
        here = Here(engine.fleet, settings.skills)
        self._providers = Providers(engine.store, here, engine.fleet.names, settings.node)
        for skill in settings.skills:
            try:
                engine.blueprints.register(passing(skill))
            except BlueprintError as error:
                message = f"UPLINK_SKILLS: {skill!r} cannot be passed on: {error.message}"
                raise BlueprintError(message, code=error.code) from error
        self._place = Place(
            engine.store,
            engine.jobs,
            engine.following,
            engine.reader,
            Offerings(engine.blueprints, engine.contracts, self._providers, settings.skills),
            holarchy.own_id,
            settings.max_jobs,
            settings.result_timeout,
            settings.max_priority,
            settings.cleanup,
            settings.allowed_skills,
            in_words=settings.disclose is not Disclose.NONE,
            names=settings.disclose is Disclose.FULL,
        )
        self._places = Places(
            engine.store,
            lambda: engine.dispatcher.sessions,
            self._place.offerings,
            self._providers,
            settings.node,
            lambda: self._credits is not None,
        )
        self._tenure = Tenure(engine.store, engine.store.now, settings.node, secrets.token_hex(8))
        self.metrics = UplinkMetrics()
        self._link: Link | None = None
        self._parent: Parent | None = None
        self._credits: Credits | None = None
        self._serving: Serving | None = None
        self._draining = False
        engine.spared = partial(owed, engine.store)
        engine.follow_documents(self._tenure.hints.changed)
        engine.follow_documents(self._providers.hints.changed)
        engine.follow_documents(self._places.hints.changed)
        holarchy.on_change(self._chain_changed)

    def __repr__(self) -> str:
        return f"Uplink({self._link or 'another node has the link'})"

    @property
    def linked(self) -> bool:
        """Whether this node has a session with the parent; of several nodes one has it."""
        return self._link is not None and self._link.linked

    @property
    def held(self) -> int:
        """How many of the parent's tasks are under way here, as the node knows that links; elsewhere 0."""
        return self._serving.held if self._serving is not None else 0

    async def run(self) -> None:
        """Link whenever this node has the lease on that, until cancelled; the parent's jobs go on without it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._providers.run(), name="uplink-providers")
            group.create_task(self._places.run(), name="uplink-places")
            group.create_task(self._link_again(), name="uplink-link")

    async def _link_again(self) -> None:
        while True:
            await self._tenure.take()
            try:
                await self._serve()
            except* TenureLost as lost:
                log.warning("%s", lost.exceptions[0])
            except* Replaced as replaced:
                log.error("another process has the parent's link to this holon: %s", replaced.exceptions[0])
            except* HolonError as failed:
                log.warning("the parent link is opened again: %s", failed.exceptions[0])
            except* Exception:
                log.exception("the parent link failed unexpectedly, and is opened again")
            finally:
                if self._serving is not None:
                    self._serving.jobs.close()
                self._link = self._parent = self._credits = self._serving = None
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # A part that failed while all of it was to end would hide that.
                raise asyncio.CancelledError
            await asyncio.sleep(_PAUSE_S)

    def drain(self) -> None:
        """Take no more of the parent's tasks."""
        self._draining = True
        if self._serving is not None:
            self._serving.taking.closed = True
        if self._credits is not None:
            self._credits.close()

    async def leave(self) -> None:
        """Let another node of the holon link at once; once `run` has ended."""
        await self._tenure.give_up()

    async def _serve(self) -> None:
        settings = self._settings
        hello = worker_pb2.Hello(
            worker_id=settings.worker_id,
            instance_id=self._tenure.instance,
            sdk=worker_pb2.SdkInfo(name="holon-node", version=settings.version),
            capabilities=(
                *CAPABILITIES,
                types_pb2.CAPABILITY_HOLON,
                types_pb2.CAPABILITY_SKILL_LIMIT,
                types_pb2.CAPABILITY_BUDGET,
                types_pb2.CAPABILITY_RESOURCE_REQUIREMENTS,
            ),
            catalog=self._place.offerings.catalog(),
        )
        link = self._link = Link(settings.urls, settings.credentials, hello, 0, settings.timing)
        async with asyncio.TaskGroup() as group:
            kept = self._tenure.keep(lambda: link.linked, lambda: self._providers.others)
            group.create_task(kept, name="uplink-tenure")
            engine, disclose = self._engine, settings.disclose
            summaries = Summaries(engine.trees, engine.jobs, disclose, link.reports)
            books = Books(engine.store)
            serving = self._serving = Serving(self._place, books, link.reports, summaries, group)
            group.create_task(books.run(), name="uplink-books")
            serving.taking.closed = self._draining
            link.hearing.tree = Answering(
                engine.trees,
                serving.job_of,
                lambda: serving.taking.parent_id,
                engine.store.now,
                disclose,
                link.reports,
                serving.jobs.start,
            ).asked
            link.hearing.resolve = Resolving(
                engine.jobs,
                serving.jobs.known,
                lambda: serving.taking.parent_id,
                self._holarchy.own_id,
                link.reports,
                serving.jobs.start,
            ).brought
            group.create_task(summaries.run(), name="uplink-summaries")
            self._parent = Parent(self._holarchy, serving, link, settings.label, self._tenure.epoch)
            link.refused = self._parent.refused
            link.reports.rejected = self.metrics.rejections.add
            link.introduce(self._parent.identity())
            group.create_task(self._parent.run(), name="uplink-introduction")
            await serving.jobs.restore(lambda: self._holarchy.parent_id)
            # A cancel comes after a store's reply: where a part of the group has failed meanwhile, this is where.
            await asyncio.sleep(0)
            counting = Counting(
                serving,
                engine.executor,
                lambda: engine.dispatcher.sessions,
                self._place.offerings,
                self._providers,
                self._places,
            )
            due = Due(counting, self._place.offerings, settings.max_jobs, settings.share)
            self._credits = Credits(serving, self._place.offerings, due, link)
            serving.taking.lacking = self._credits.look
            self._places.heard = counting.heard
            if self._draining:
                self._credits.close()
            group.create_task(self._credits.run(), name="uplink-credits")
            escalation = Escalation(
                serving,
                self._engine.store,
                self._engine.jobs,
                self._engine.dispatcher,
                self._providers,
                settings.escalate_after,
            )
            group.create_task(escalation.run(), name="uplink-escalation")
            await link.run(self._parent)

    def _chain_changed(self) -> None:
        if self._parent is not None:
            self._parent.chain_changed()
