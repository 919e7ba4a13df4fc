"""The node as a library, under its classic name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from holon.client import Client
from holon.config import Config
from holon.domain.absent import no_attribute
from holon.domain.blueprint import Blueprint
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError, ConfigError
from holon.node.doors import Ports
from holon.node.process import run_alone
from holon.node.root import Node
from holon.node.stores import Store
from holon.telemetry import set_up_logging


class OrchestratorEngine:
    """The node as a library: register blueprints, then `run()`, or `await start()` and `await stop()`.

    While it runs, `client()` is how the program creates jobs, and hears of them. A program that has not set up the log
    has it set up by the settings when the engine starts.

    Arguments:
        storage: the store, such as `MemoryStorage()`; it wins over the settings.
        config: the settings.
    """

    __slots__ = ("_blueprints", "_clients", "_ending", "_node", "_storage", "_task", "config", "ports")

    def __init__(self, storage: Store | None = None, config: Config | None = None) -> None:
        self.config = config or Config()
        self._storage = storage
        self._blueprints: list[Blueprint] = []
        self._node: Node | None = None
        self._task: asyncio.Task[None] | None = None
        self._clients: set[Client] = set()
        # Who asks for the end while it is under way waits for it too.
        self._ending = asyncio.Lock()
        self.ports: Ports | None = None

    if not TYPE_CHECKING:
        # Type checkers know what there is.
        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                object.__setattr__(self, name, value)
            except AttributeError:
                raise no_attribute(self, name) from None

    def __repr__(self) -> str:
        return f"OrchestratorEngine(blueprints={len(self._blueprints)}, running={self._task is not None})"

    def register_blueprint(self, blueprint: Blueprint) -> None:
        """Add a blueprint; before the start.

        Raises:
            TypeError: it is no `Blueprint`.
            RuntimeError: the engine runs already.
            BlueprintError: it is not sound, or its name is taken.
        """
        if not isinstance(blueprint, Blueprint):
            raise TypeError(f"register_blueprint takes a Blueprint, not {_kind(blueprint)}")
        if self._task is not None:
            raise RuntimeError("register blueprints before the engine starts")
        check = Blueprints(Contracts())
        check.register_all([*self._blueprints, blueprint])
        self._blueprints.append(blueprint)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, drained. Blocks, and is all that its program does.

        If the node cannot start, as when a port is in use, the program ends with the reason on standard error, without
        a traceback, and exit code 1.

        Raises:
            RuntimeError: it is called inside a running event loop.
            SystemExit: the node cannot start; its cause is the ConfigError or BlueprintError of `Node.run`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("an event loop already runs here; use `await engine.start()` and `await engine.stop()`")
        try:
            self._node = self._new_node()
            run_alone(self._node.run_until_signalled())
        except (ConfigError, BlueprintError) as error:
            raise SystemExit(f"holon: {error.message}") from error

    async def start(self) -> None:
        """Start in the background; returns when every door is open. On cancel it runs no more.

        Raises:
            RuntimeError: the engine runs already.
            ConfigError: as for `Node.run`.
        """
        if self._task is not None:
            raise RuntimeError("the engine already runs")
        self._node = self._new_node()
        # It belongs to a loop, as the node does.
        self._ending = asyncio.Lock()
        opened = asyncio.get_running_loop().create_future()
        task = self._task = asyncio.create_task(self._node.run(opened.set_result), name="holon-node")
        try:
            await asyncio.wait((opened, task), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            self._task = None
            raise
        if not opened.done():
            self._task = None
            try:
                await task
            except (ConfigError, BlueprintError) as error:
                # The message tells the operator what to change. A traceback through the node would not help.
                raise error.with_traceback(None) from None
            raise RuntimeError("the node ended before its ports were open")
        self.ports = opened.result()

    async def stop(self) -> None:
        """Drain and end; returns when everything is closed, clients too. May be called again, and before `start`.

        On cancel it ends at once.
        """
        async with self._ending:
            if self._task is None or self._node is None:
                return
            self._node.stop()
            try:
                await self._task
            finally:
                self._task = None
                # A watch would wait for the node to come back.
                for client in [*self._clients]:
                    await client.__aexit__(None, None, None)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client of this node for the program that it runs in, connected until this is left, or the engine stops.

        It goes through a socket of its own, which only this process's user can open, and needs no token: it is the
        operator, as whoever has `CLIENT_TOKEN` is, and the jobs are those of the client `default`.

        Raises:
            RuntimeError: the engine does not run, or ends, or serves no clients (`ENABLE_CLIENT_API=false`).
            ConfigError: no socket can be made where temporary files are.
        """
        if self._node is None:
            raise RuntimeError("the engine does not run; call `await engine.start()` first")
        async with Client(await self._node.own_address()) as client:
            self._clients.add(client)
            try:
                yield client
            finally:
                self._clients.discard(client)

    def _new_node(self) -> Node:
        self.config.check()
        if not logging.getLogger().handlers:
            set_up_logging(self.config.LOG_LEVEL, self.config.LOG_FORMAT, self.config.TZ)
        return Node(self.config, self._blueprints, self._storage)


def _kind(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
