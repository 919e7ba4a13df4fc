"""The worker SDK: the stream's own thread and loop, so that no handler can keep the worker from its heartbeats."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from holon.errors import Unavailable
from holon.rxon.v1 import worker_pb2
from holon.worker.link import Link
from holon.worker.load import Meter
from holon.worker.runner import Runner
from holon.worker.settings import Settings
from holon.worker.skill import Skill
from holon.worker.threads import Mailbox
from holon.worker.timing import Timing
from holon.worker.tokens import Tokens
from holon.worker.tracing import Tracing

_log = logging.getLogger("holon.worker")

_QUIESCENCE = 1.0


class Background:
    """One run of a worker: its link and its runner, in a thread of their own.

    Arguments:
        slots: how many handlers may run at once, and so the credits.
    """

    def __init__(
        self,
        settings: Settings,
        hello: worker_pb2.Hello,
        skills: Sequence[Skill],
        slots: int,
        timing: Timing,
        tracing: Tracing,
    ) -> None:
        self._settings = settings
        self._hello = hello
        self._skills = skills
        self._slots = slots
        self._timing = timing
        self._tracing = tracing
        # Set as well once the run is over.
        self._ready = asyncio.Event()
        self._welcomed = False
        self._mailbox: Mailbox | None = None
        # Of the handlers' loop, and of the stream's own.
        self._serving: asyncio.Task[object] | None = None
        # How often who serves was cancelled before, and went on.
        self._withstood = 0
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._runner: Runner | None = None
        # What is asked for before there is a mailbox.
        self._wish: tuple[str, float] | None = None
        self._catalog: worker_pb2.Catalog | None = None
        self._stopping = False

    def __repr__(self) -> str:
        return f"Background({self._link}, {self._runner})"

    async def run(self) -> None:
        """Serve until a drain is over. Async handlers run on the loop that calls this, and have a while to clean up.

        On cancel the stream is dropped, handlers are told to stop, and nothing is waited for but the thread.

        Raises:
            Replaced: a newer process has the worker's id.
        """
        handlers = asyncio.get_running_loop()
        over: asyncio.Future[None] = handlers.create_future()
        self._serving = serving = asyncio.current_task()
        self._withstood = 0 if serving is None else serving.cancelling()
        thread = threading.Thread(target=self._main, args=(handlers, over), name="holon-stream", daemon=True)
        thread.start()
        try:
            await asyncio.wait((over,))
            if self._runner is not None:
                await self._runner.cleaned_up(self._timing.goodbye)
            over.result()
        except asyncio.CancelledError:
            self._stopping = True
            self._post(self._stop)
            await asyncio.wait((over,))
            # Looked at, or it would be said that nobody did.
            over.exception()
            raise
        finally:
            self._ready.set()
            if over.done():
                thread.join()

    async def ready(self) -> None:
        """Return once the node has welcomed the worker.

        Raises:
            Unavailable: the run has ended before that.
        """
        await self._ready.wait()
        if not self._welcomed:
            raise Unavailable("the worker stopped before a node welcomed it; serve again")

    def drain(self, reason: str, grace: float) -> None:
        """Ask the worker to leave; any thread may, and a signal handler.

        Arguments:
            grace: seconds for what runs; then it is handed back.
        """
        self._wish = (reason, grace)
        self._post(self._drain)

    def offer(self, catalog: worker_pb2.Catalog) -> None:
        """Say that the worker offers this from now on; any thread may. Its sequence is above that of the one before."""
        self._catalog = catalog
        self._post(self._say)

    def _main(self, handlers: asyncio.AbstractEventLoop, over: asyncio.Future[None]) -> None:
        failure: BaseException | None = None
        try:
            asyncio.run(self._serve(handlers))
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  # the outermost frame of the thread: it is raised by `run`
            failure = error
        try:
            handlers.call_soon_threadsafe(_settle, over, failure)
        except RuntimeError:
            _log.warning("the event loop of the worker was closed before its stream")

    async def _serve(self, handlers: asyncio.AbstractEventLoop) -> None:
        self._task = asyncio.current_task()
        settings = self._settings
        tokens = Tokens(settings.credentials, settings.worker_id, self._timing) if settings.tokens else None
        link = self._link = Link(settings.urls, settings.credentials, self._hello, self._slots, self._timing, tokens)
        link.hearing.meter = Meter()
        given = link, self._skills, self._slots, handlers, self._timing, self._tracing, self._closing
        runner = self._runner = Runner(*given)
        announcer = asyncio.create_task(self._announce(link, handlers), name="worker-ready")
        # Last: from here on other threads reach us. What came before is seen below, what comes now as well.
        self._mailbox = Mailbox(asyncio.get_running_loop())
        if self._stopping:
            self._stop()
        self._say()
        if self._wish:
            self._drain()
        try:
            await link.run(runner)
        finally:
            announcer.cancel()
            runner.close()
            await _quiesce()

    async def _announce(self, link: Link, handlers: asyncio.AbstractEventLoop) -> None:
        await link.ready()
        handlers.call_soon_threadsafe(self._welcome)

    def _welcome(self) -> None:
        self._welcomed = True
        self._ready.set()

    def _closing(self) -> bool:
        """Whether who serves is cancelled, as all that runs on the handlers' loop is when that ends."""
        return self._serving is not None and self._serving.cancelling() > self._withstood

    def _say(self) -> None:
        catalog, self._catalog = self._catalog, None
        if catalog is not None and self._link:
            self._link.set_catalog(catalog)

    def _drain(self) -> None:
        if not (self._wish and self._link and self._runner):
            return
        reason, grace = self._wish
        _log.info("the worker stops: %s; running tasks have %g s to end", reason, grace)
        loop = asyncio.get_running_loop()
        self._link.drain(reason)
        loop.call_later(grace, self._runner.give_back)
        loop.call_later(grace + self._timing.goodbye, self._link.abandon)

    def _stop(self) -> None:
        # Once: what is cancelled cleans up.
        task, self._task = self._task, None
        if task:
            task.cancel()

    def _post(self, call: Callable[[], None]) -> None:
        if self._mailbox:
            self._mailbox.post(call)


async def _quiesce() -> None:
    """Wait for what grpc still does for streams that were dropped: its events would find a closed loop."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=_QUIESCENCE)


def _settle(over: asyncio.Future[None], failure: BaseException | None) -> None:
    if over.done():
        return
    if failure is None:
        over.set_result(None)
    else:
        over.set_exception(failure)
