"""The composition root: a node built from its settings, run, drained and closed."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType

from holon.clock import Clock, SystemClock
from holon.config import Config
from holon.domain.blueprint import Blueprint
from holon.engine.loader import load_directory
from holon.engine.reloading import Reloading
from holon.errors import HolonError
from holon.node.doors import Doors, Ports, opened
from holon.node.ending import AT_ONCE_S, LAST_S, last_resort
from holon.node.idle import tell_what_is_missing
from holon.node.parts import Parts, parts_of
from holon.node.stores import Store

log = logging.getLogger(__name__)


class Node:
    """One node: its store, engine and doors, as one thing that runs.

    Arguments:
        config: its settings; checked and frozen when it runs.
        blueprints: what it runs, beside what `BLUEPRINTS_DIR` holds.
        storage: a store of the caller's own; it wins over `STORAGE_URI`.
        clock: what says the time.
        follows_blueprints: whether files of `BLUEPRINTS_DIR` are loaded again when they are edited. A node with a
            parent goes on with those of its start, which is what its parent knows.
    """

    def __init__(
        self,
        config: Config,
        blueprints: Iterable[Blueprint] = (),
        storage: Store | None = None,
        clock: Clock | None = None,
        *,
        follows_blueprints: bool = False,
    ) -> None:
        self.config = config
        self._follows_blueprints = follows_blueprints
        self._blueprints = list(blueprints)
        self._storage = storage
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        # While its parts are opened, which a store that does not answer may hold up.
        self._starting: asyncio.Timeout | None = None
        self._told = False
        self._grace: float | None = None
        self._now = asyncio.Event()
        self._reloading = Reloading()
        self._doors: Doors | None = None

    def __repr__(self) -> str:
        return f"Node({self.config.INSTANCE_ID}, {self.config.effective()['STORAGE_URI']})"

    async def run(self, ready: Callable[[Ports], None] = lambda _: None) -> None:
        """Run until `stop`, drained; a second `stop` ends it at once, as does one while it starts. So does a cancel.

        Arguments:
            ready: called once, when every door is open; perhaps never, if it is stopped before.
        Raises:
            ConfigError: settings, certificates or the store's file are wrong; nothing was opened.
            BlueprintError: a blueprint is not sound.
        """
        config = self.config.freeze()
        loaded: list[Blueprint] = []
        if config.BLUEPRINTS_DIR:
            loaded = load_directory(config.BLUEPRINTS_DIR, mounted=config.SECRETS_MOUNTED)
        starting = self._starting = asyncio.timeout(None)
        try:
            async with starting:
                if self._stop.is_set():
                    self._end_start()
                await self._run(config, loaded, ready)
        except TimeoutError:
            if not starting.expired():
                raise
            log.info("node %s was stopped before it was ready", config.INSTANCE_ID)
        finally:
            self._starting = None

    async def _run(self, config: Config, loaded: list[Blueprint], ready: Callable[[Ports], None]) -> None:
        refused: HolonError | None = None
        every = self._blueprints + loaded
        followed = loaded if self._follows_blueprints and config.BLUEPRINTS_DIR and not config.PARENT_URL else None
        async with (
            parts_of(config, every, self._storage, self._clock, self._reloading, followed) as parts,
            asyncio.TaskGroup() as group,
        ):
            # From here on there may be something to drain.
            self._starting = None
            loops = [group.create_task(run(), name=name) for name, run in parts.loops.items()]
            try:
                async with opened(config, parts, self._clock, self.drain) as doors:
                    log.info("node %s is ready: %s", config.INSTANCE_ID, doors.ports)
                    tell_what_is_missing(config, every)
                    self._doors = doors
                    ready(doors.ports)
                    await self._stop.wait()
                    if parts.uplink is not None:
                        parts.uplink.drain()
                    await self._drain(parts, doors)
            except HolonError as error:
                # Told by itself below, as promised: from in here it would come out in a group.
                refused = error
            finally:
                self._doors = None
                last_resort().within(LAST_S)
                for loop in loops:
                    loop.cancel()
        if refused is not None:
            raise refused

    async def own_address(self) -> str:
        """Where the program that this node runs in reaches it as its operator, as a client is given it.

        Raises:
            RuntimeError: it does not run, or drains, or serves no clients.
            ConfigError: no socket can be made where temporary files are.
        """
        if self._doors is None or self._stop.is_set():
            raise RuntimeError("the node does not run, or is shutting down")
        if self._doors.own is None:
            raise RuntimeError("the node serves no clients: ENABLE_CLIENT_API is false")
        return await self._doors.own.address()

    def stop(self) -> None:
        """Drain and end; called again, end now. Safe to call at any time, also before `run`.

        The first call leaves a drain that `drain` began as it is: whoever stops a process that drains need not know.
        """
        if self._told:
            self._now.set()
        self._told = True
        self._stop.set()
        self._end_start()

    def drain(self, grace: float | None = None, reason: str = "") -> None:
        """Drain and end, as a first `stop` does; a repeat changes nothing, nor does a first `stop` after it.

        Arguments:
            grace: how many seconds that may take; None is the setting's.
            reason: for the log.
        """
        if not self._stop.is_set():
            log.info("a drain was requested: %r", reason[:256])
            self._grace = grace
            self._stop.set()
            self._end_start()

    def _end_start(self) -> None:
        """A node whose parts are not open yet has nothing to drain: it is not waited for them."""
        if self._starting is not None:
            last_resort().within(LAST_S)
            self._starting.reschedule(asyncio.get_running_loop().time())
            self._starting = None

    def reload(self) -> None:
        """Read the files again that can change while the node runs; what became of it is in the log.

        Safe to call at any time.
        """
        self._reloading.ask()

    async def run_until_signalled(self, ready: Callable[[Ports], None] = lambda _: None) -> None:
        """Run, and stop at SIGTERM or SIGINT. SIGHUP is as `reload`, but from a terminal that goes away.

        In a process of its own (`run_alone`) a second signal ends it within two seconds, and no handler or thread holds
        it up for more than ten when it has drained: then it exits with 1.
        """
        loop, last = asyncio.get_running_loop(), last_resort()
        came = 0

        def told() -> None:
            if self._told:
                last.within(AT_ONCE_S)
            self.stop()

        def heard(_: int, __: FrameType | None) -> None:
            nonlocal came
            came += 1
            if came > 1:
                last.within(AT_ONCE_S)

        handlers = {signal.SIGTERM: told, signal.SIGINT: told}
        if sys.stdin is None or not sys.stdin.isatty():
            handlers[signal.SIGHUP] = self.reload
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        for number in (signal.SIGTERM, signal.SIGINT):
            # Beside the loop, of which whoever keeps it busy lets nobody hear.
            signal.signal(number, heard)
        try:
            await self.run(ready)
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def _drain(self, parts: Parts, doors: Doors) -> None:
        """Take nothing new, let what runs commit and workers bring their results; within the grace, or until `stop`."""
        engine = parts.engine
        grace = self.config.SHUTDOWN_GRACE_SECONDS if self._grace is None else self._grace
        log.info("draining for at most %g s", grace)
        doors.drain()
        engine.workers.drain_all(round(grace * 1000))
        drained = asyncio.create_task(engine.drain(), name="drain")
        now = asyncio.create_task(self._now.wait(), name="stop-now")
        try:
            await asyncio.wait((drained, now), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            log.info("drained" if drained.done() else "the drain did not finish; running work runs again later")
        finally:
            for task in (drained, now):
                task.cancel()
            await asyncio.gather(drained, now, return_exceptions=True)
