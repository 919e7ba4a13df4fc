"""The admin door: a unix socket for the operator, or for the program that the node runs in: whoever can open it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc.aio

from holon.engine.jobs import Jobs
from holon.engine.overview import Overview
from holon.engine.trees import Trees
from holon.engine.watching import Watching
from holon.errors import ConfigError, Violation
from holon.security.sts.exchange import Exchange
from holon.transports.grpc.clients import OperatorCheck
from holon.transports.grpc.health import Health
from holon.transports.grpc.job_service import JobService
from holon.transports.grpc.node_service import NodeService
from holon.transports.grpc.server import FAREWELL_S, options, started
from holon.transports.grpc.settings import DoorSettings
from holon.wire.address import socket_target

MAX_STREAMS = 100
_OURS_ALONE = 0o600


class AdminDoor:
    """Serves the operator on a unix socket while it is entered. Whoever can open its file is the operator.

    Arguments:
        exchange: who gives workers tokens.
        path: of the socket; nobody but this process's user can open it.
        owner: whose jobs are shown, as of the call.
        via: what the audit log calls the way in.
        creates: whether it takes new jobs.
    """

    def __init__(
        self,
        jobs: Jobs,
        watching: Watching,
        trees: Trees,
        overview: Overview,
        exchange: Exchange,
        path: str,
        owner: Callable[[], str],
        *,
        via: str = "admin",
        creates: bool = False,
    ) -> None:
        self._path = Path(path).absolute()
        self._watching = watching
        self._jobs = JobService(jobs, watching, trees)
        self._node = NodeService(overview, exchange)
        self._check = OperatorCheck(owner, via)
        self._creates = creates

    def __repr__(self) -> str:
        return f"AdminDoor({self._path})"

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: (PORT_UNAVAILABLE) another process listens there, or nothing can.
        """
        if _is_served(self._path):
            raise _unavailable(f"another process listens at {self._path}")
        settings = DoorSettings()
        limit = settings.max_message_bytes
        self._server = grpc.aio.server(interceptors=[self._check], options=options(settings, MAX_STREAMS))
        services = [self._jobs.handler(limit, creates=self._creates), self._node.handler(limit)]
        self._server.add_generic_rpc_handlers([*services, Health(services).handler()])
        # The file is made with these permissions, and never has others.
        before = os.umask(0o777 & ~_OURS_ALONE)
        try:
            self._server.add_insecure_port(socket_target(str(self._path)))
        except RuntimeError as error:
            raise _unavailable(f"cannot listen at {self._path}") from error
        finally:
            os.umask(before)
        await started(self._server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let calls under way answer, end watches, and close."""
        self.drain()
        self._watching.close()
        await self._server.stop(FAREWELL_S)

    def drain(self) -> None:
        """Take no new jobs; other calls are still answered."""
        self._jobs.draining = True


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _unavailable(reason: str) -> ConfigError:
    return ConfigError(
        f"ADMIN_SOCKET: {reason}; choose another path",
        code="PORT_UNAVAILABLE",
        details=[Violation("ADMIN_SOCKET", reason)],
    )
