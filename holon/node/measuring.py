"""What a node shows of itself to Prometheus: what its rooms have counted, and how they stand now."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from heapq import nlargest, nsmallest
from types import TracebackType
from typing import Self

import holon
from holon.engine.core import Engine
from holon.engine.holarchy import Holarchy
from holon.engine.reloading import Reloading
from holon.engine.scheduler import Scheduler
from holon.errors import StoreUnavailable
from holon.node.stores import Store
from holon.ports import Counts
from holon.security.clients import Clients
from holon.security.endings import OwnCertificate
from holon.security.tls_files import TlsFiles
from holon.telemetry.exposition import CONTENT_TYPE, Exposition
from holon.telemetry.lag import LoopLag
from holon.telemetry.metrics import RateMetrics
from holon.telemetry.series import MOST, OTHER, Labels
from holon.transports.grpc.worker_door import WorkerDoor
from holon.uplink import Uplink

# A store that does not answer within this is shown as down, and the rest without it.
PATIENCE_S = 2.0
# Skills are named by blueprints, which may name many: past so many the rest are counted together.
MOST_SKILLS = 100


class Measuring:
    """All figures of one node, while it is entered (`async with`): what looks at the store for them ends with that.

    Arguments:
        lag: of its event loop.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        workers: WorkerDoor,
        clients: Clients,
        reloading: Reloading,
        lag: LoopLag,
    ) -> None:
        self._store = store
        self._counts: Counts | None = None
        self._look: asyncio.Task[Counts] | None = None
        self._one = asyncio.Lock()
        # Looks, by number: the last that began, and the last that came to its end.
        self._begun = self._done = 0
        self._text = b""
        # Where nobody is counted nobody is refused, and who looks for that is told so.
        rates = engine.rates.metrics if engine.rates is not None else RateMetrics()
        parts: list[object] = [
            engine.metrics,
            engine.scheduler.metrics,
            engine.webhooks.metrics,
            workers.metrics,
            clients.metrics,
            reloading.metrics,
            rates,
            lag,
            store.metrics,
        ]
        if engine.mover is not None:
            parts.append(engine.mover.metrics)
        if engine.files is not None:
            blobs = engine.files.blobs
            parts.append(blobs.metrics)
        shown = self._shown = Exposition(*parts)
        for blueprint in engine.blueprints:
            engine.metrics.known(blueprint.name)
        about = (holon.__version__, platform.python_version(), type(store).__name__)
        shown.gauge(
            "holon_build_info",
            "Version of the node, of Python, and kind of store.",
            lambda: {about: 1},
            "version",
            "python",
            "storage",
        )
        shown.gauge(
            "orchestrator_active_workers",
            "Workers with a live session on this node.",
            lambda: len(engine.dispatcher.sessions),
        )
        about_trust = (
            "Workers with a live session on this node that get no tasks of some skill, because of their reputation."
        )
        sessions = engine.dispatcher.sessions
        shown.gauge("holon_workers_distrusted", about_trust, lambda: sum(bool(one.distrusted) for one in sessions))
        shown.gauge(
            "holon_executor_slots", "How many jobs may run a handler at the same time.", lambda: engine.executor.limit
        )
        shown.gauge("holon_executor_slots_taken", "Jobs that run a handler.", lambda: engine.executor.running)
        shown.gauge(
            "holon_webhooks_telling", "Receivers to which webhooks are being sent.", lambda: engine.webhooks.telling
        )
        shown.gauge("holon_draining", "1 if this node accepts no new work.", lambda: engine.workers.draining)
        shown.gauge("holon_store_up", "1 if the store answered this request.", lambda: self._counts is not None)
        shown.gauge("orchestrator_task_queue_length", "Tasks that wait for a worker.", self._queued)
        shown.gauge("holon_tasks_waiting", "Tasks that wait for a worker, by skill.", self._waiting, "skill")
        shown.gauge("holon_tasks_held", "Tasks that workers hold.", self._held)
        shown.gauge("holon_jobs", "Open jobs, by status.", self._jobs, "status")
        about_next = "When the next job of a schedule is due."
        shown.gauge("holon_schedule_next_timestamp_seconds", about_next, partial(_next, engine.scheduler), "schedule")
        if engine.mover is not None:
            shown.gauge(
                "holon_history_backlog_bytes",
                "History that waits for the history database, in bytes.",
                lambda: store.history_backlog,
            )
        if engine.files is not None:
            shown.gauge("holon_files_up", "1 if S3 answered the last call.", lambda: blobs.up)
        shown.gauge("holon_store_queue_length", "Store calls that wait.", lambda: store.waiting)

    def __repr__(self) -> str:
        return f"Measuring({self._shown!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the look at the store; one that cannot be ended, for want of an answer, is not waited for much longer."""
        if self._look is not None and not self._look.done():
            self._look.cancel()
            await asyncio.wait((self._look,), timeout=PATIENCE_S)

    def show_certificates(self, tls: TlsFiles | None, doors: Sequence[str], parent: OwnCertificate | None) -> None:
        """Show the certificate of these doors as well, and the one that the parent is shown."""

        def ends() -> dict[Labels, float]:
            at = dict.fromkeys(doors, tls.current.expires_at_ms) if tls is not None else {}
            if parent is not None and parent.expires_at_ms is not None:
                at["parent"] = parent.expires_at_ms
            return {(door,): ms / 1000 for door, ms in at.items()}

        about = "When the certificate of a port, or the one for the parent, expires."
        self._shown.gauge("holon_certificate_expiry_timestamp_seconds", about, ends, "door")

    def show_uplink(self, uplink: Uplink, holarchy: Holarchy) -> None:
        """Show the link with the parent as well."""
        shown = self._shown
        shown.add(uplink.metrics)
        shown.gauge("holon_uplink_linked", "1 if this node has the link to the parent.", lambda: uplink.linked)
        shown.gauge("holon_uplink_jobs", "Tasks of the parent that run here.", lambda: uplink.held)
        shown.gauge("holon_holarchy_depth", "How many holons are above this one.", lambda: len(holarchy.above))

    async def text(self) -> tuple[bytes, str]:
        """All of it as of now, and its media type; without the store's figures while that does not answer.

        Anybody may ask, and it has the store look at all live jobs: who asks meanwhile is told of the next look with
        all others.
        """
        wanted = self._begun + 1
        async with self._one:
            if self._done < wanted:
                self._begun += 1
                self._text = await self._looked()
                self._done = self._begun
            return self._text, CONTENT_TYPE

    async def _looked(self) -> bytes:
        self._counts = None
        look = self._look
        if look is None or look.done():
            look = self._look = asyncio.create_task(self._store.counts(), name="counts")
            look.add_done_callback(_heard)
        # One that is late is not ended, and none is begun beside it: a store's call ends with its reply alone.
        done, _ = await asyncio.wait((look,), timeout=PATIENCE_S)
        if done:
            with suppress(StoreUnavailable):
                self._counts = look.result()
        return self._shown.text()

    def _queued(self) -> dict[Labels, float]:
        return {(): self._counts.queued} if self._counts is not None else {}

    def _held(self) -> dict[Labels, float]:
        return {(): self._counts.held} if self._counts is not None else {}

    def _jobs(self) -> dict[Labels, float]:
        return {(status.value,): count for status, count in self._counts.jobs.items()} if self._counts else {}

    def _waiting(self) -> dict[Labels, float]:
        waiting = self._counts.waiting if self._counts is not None else {}
        shown = nlargest(MOST_SKILLS, waiting.items(), key=lambda entry: entry[1])
        figures: dict[Labels, float] = {(skill,): count for skill, count in shown}
        if len(waiting) > len(shown):
            rest = sum(waiting.values()) - sum(count for _, count in shown)
            figures[OTHER,] = figures.get((OTHER,), 0) + rest
        return figures


def _next(scheduler: Scheduler) -> dict[Labels, float]:
    soonest = nsmallest(MOST, scheduler.next.items(), key=lambda entry: entry[1])
    return {(name,): due / 1000 for name, due in soonest}


def _heard(look: asyncio.Task[Counts]) -> None:
    """How it ended is known, though nobody may have waited for it until then."""
    if not look.cancelled():
        look.exception()
