"""The worker SDK: `Worker`, what a user makes, decorates handlers with, and runs."""

from __future__ import annotations

import asyncio
import platform
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import Any, Self, TypeVar, overload

from holon.domain.fleet import MAX_CACHED, MAX_CREDITS, MAX_NAME
from holon.errors import ConfigError, InvalidArgument
from holon.rxon.v1 import worker_pb2
from holon.wire.stream import MAX_MESSAGE_BYTES
from holon.worker.alone import run_alone
from holon.worker.background import Background
from holon.worker.link import CAPABILITIES
from holon.worker.profile import loaded, profile_of
from holon.worker.settings import read_settings
from holon.worker.skill import Skill, skill_of
from holon.worker.timing import Timing
from holon.worker.tokens import REAUTHENTICATE
from holon.worker.tracing import tracing_here

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Worker:
    """A worker: skills, and the node that it serves.

    What is not given here is read from the environment when the worker starts: NODE_URL, WORKER_ID, WORKER_TOKEN,
    TLS_CA_PATH, TLS_CERT_PATH, TLS_KEY_PATH, WORKER_STS.

    Arguments:
        node_url: `grpcs://host:7700`, several split by commas for failover; `grpc://` on the loopback only.
        worker_id: the id that it claims; the common name of its certificate by default.
        token: the worker token, where the node asks for one.
        ca_path: PEM file of the authorities that the node's certificate may come from; the system's by default.
        cert_path, key_path: PEM files of its own certificate and key.
        sts: whether it shows short-lived tokens, which the node gives for its certificate, or else its token.
        max_concurrent: how many tasks it holds, and so runs, at once.
        resources: what its machine has, such as `{"ram_gb": 64, "devices": [{"type": "gpu", "model": "RTX 4090"}]}`;
            without, it is given no task that requires hardware.
        drain_grace: seconds for what runs when the worker is told to leave; then it is handed back.
        timing: shorter waits, for tests.
    """

    def __init__(
        self,
        node_url: str | None = None,
        *,
        worker_id: str | None = None,
        token: str | None = None,
        ca_path: str | Path | None = None,
        cert_path: str | Path | None = None,
        key_path: str | Path | None = None,
        sts: bool | None = None,
        max_concurrent: int = 4,
        resources: Mapping[str, Any] | None = None,
        drain_grace: float = 30.0,
        timing: Timing | None = None,
    ) -> None:
        if type(max_concurrent) is not int or not 1 <= max_concurrent <= MAX_CREDITS:
            raise InvalidArgument(
                f"max_concurrent must be a whole number from 1 to {MAX_CREDITS}, not {max_concurrent!r}"
            )
        if not _is_time(drain_grace):
            raise InvalidArgument(f"drain_grace must be a number of seconds, 0 or more, not {drain_grace!r}")
        self._given: dict[str, Any] = {
            "node_url": node_url,
            "worker_id": worker_id,
            "token": token,
            "ca_path": ca_path,
            "cert_path": cert_path,
            "key_path": key_path,
            "sts": sts,
        }
        self._max_concurrent = max_concurrent
        self._profiles = () if resources is None else (profile_of(resources),)
        self._drain_grace = drain_grace
        self._timing = timing or Timing()
        self._skills: dict[tuple[str, str, str], Skill] = {}
        self._hot: tuple[str, ...] = ()
        self._cached: tuple[str, ...] = ()
        # How often it has said what it offers.
        self._said = 0
        self._saying = threading.Lock()
        self._background: Background | None = None
        self._serving: asyncio.Task[None] | None = None
        # Why, once it is asked to leave.
        self._leaving: str | None = None

    def __repr__(self) -> str:
        return f"Worker(skills={[skill.name for skill in self.skills]}, {self._background or 'not running'})"

    @property
    def node_url(self) -> str | None:
        """The address that it was made with; None: that is read when it starts."""
        url: str | None = self._given["node_url"]
        return url

    @property
    def worker_id(self) -> str | None:
        """The id that it was made with; None: that is read when it starts."""
        name: str | None = self._given["worker_id"]
        return name

    @property
    def skills(self) -> tuple[Skill, ...]:
        """What it can do."""
        return tuple(self._skills.values())

    @overload
    def skill(self, name: Handler, /) -> Handler: ...

    @overload
    def skill(
        self,
        name: str = "",
        *,
        version: str = "",
        type: str = "",
        description: str = "",
        statuses: Sequence[str] = (),
        price: int | None = None,
        events: Mapping[str, Any] = MappingProxyType({}),
    ) -> Callable[[Handler], Handler]: ...

    def skill(
        self,
        name: Any = "",
        *,
        version: str = "",
        type: str = "",  # noqa: A002  # the contract's own word for it
        description: str = "",
        statuses: Sequence[str] = (),
        price: int | None = None,
        events: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        """Make a function a skill: `@worker.skill("name")`, or `@worker.skill` under the function's own name.

        Its arguments are keys of the task's params, checked and built as their hints say, but for these, which are
        injected: `params` (all of them), `task_id`, `job_id`, `attempt` (from 1), `deadline` (epoch seconds of the
        node's clock, or None), `progress`, `cancelled`, `log`, `send_event`, `files`. It returns a dict, a `Result` or
        None, or raises `TaskError`. A plain function runs in a thread, an `async` one on the worker's loop.

        Arguments:
            name: what tasks ask for; the function's name by default.
            version, type: more that tasks may ask for.
            description: for people; the first line of the docstring by default.
            statuses: the statuses that it may end with besides success, failure and cancelled.
            price: what a task of it costs, in millionths of the cost unit; without, it is given no task with a
                `max_cost`.
            events: those that it may send, by type, each with the schema of its payload: a JSON schema, a dataclass,
                or any other hint of an object; None: anything goes. Without any, it may send all.
        Returns:
            The function, unchanged.
        Raises:
            InvalidArgument: it cannot be a skill, there is one of that name, or the worker serves; it says why.
        """
        if callable(name):
            self._add(skill_of(name))
            return name

        def add(handler: Handler) -> Handler:
            self._add(
                skill_of(
                    handler,
                    name=name,
                    version=version,
                    type=type,
                    description=description,
                    statuses=statuses,
                    price=price,
                    events=events,
                )
            )
            return handler

        return add

    def warm(self, *, skills: Iterable[str] = (), cached: Iterable[str] = ()) -> None:
        """Say what is loaded just now, in the place of what was said before. Any thread may call it, at any time.

        A task goes to who has it rather than to others, where both have room, unless it says otherwise.

        Arguments:
            skills: those of the worker's skills that would begin at once.
            cached: what else is there, such as names of models; tasks hint at it with `resource_hint`.
        Raises:
            InvalidArgument: one is no skill of the worker's, or no name, or they are too many; nothing is said.
        """
        hot, there = loaded("skills", skills, MAX_NAME), loaded("cached", cached, MAX_CACHED)
        if unknown := set(hot).difference(skill.name for skill in self.skills):
            raise InvalidArgument(f"skills has {min(unknown)!r}, which is not a skill of this worker")
        # Handlers say it, several at a time: what was said last is to be what is sent last.
        with self._saying:
            self._hot, self._cached = hot, there
            if self._background:
                self._background.offer(self._catalog())

    def _catalog(self) -> worker_pb2.Catalog:
        self._said += 1
        return worker_pb2.Catalog(
            sequence=self._said,
            offerings=[skill.offering() for skill in self.skills],
            profiles=self._profiles,
            hot_skills=self._hot,
            cached=self._cached,
        )

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain, and return; blocks. Call it in the main thread.

        Raises:
            ConfigError: a setting is missing or wrong.
            Replaced: a newer process has the worker's id.
            KeyboardInterrupt: a second signal asked to stop without draining.
        """
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, self._on_signal)
        try:
            run_alone(self._serve)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._leaving = None

    async def serve(self) -> None:
        """Serve until `drain`; async handlers run on this loop. On cancel it stops without draining.

        Raises:
            ConfigError: a setting is missing or wrong.
            Replaced: a newer process has the worker's id.
        """
        try:
            await self._serve()
        finally:
            self._leaving = None

    async def ready(self) -> None:
        """Return once the node has welcomed a worker that serves.

        Raises:
            Unavailable: it has left before that.
        """
        if self._background is None:
            raise RuntimeError("the worker does not serve; call serve(), or use `async with`, first")
        await self._background.ready()

    def drain(self, reason: str = "drain") -> None:
        """Ask a worker to take no more tasks, finish what runs, and leave. Any thread may call it.

        One that does not serve yet leaves as soon as it does.
        """
        self._leaving = reason
        if self._background:
            self._background.drain(reason, self._drain_grace)

    async def __aenter__(self) -> Self:
        """Serve in the background; leaving drains, or stops at once when an exception leaves."""
        background = self._prepare()
        self._serving = asyncio.create_task(background.run(), name="worker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        serving, self._serving = self._serving, None
        if serving is None:
            return
        if kind is None:
            self.drain("the `async with` block ended")
        else:
            serving.cancel()
        try:
            await serving
        except asyncio.CancelledError:
            if kind is None or (task := asyncio.current_task()) is None or task.cancelling():
                raise
        finally:
            self._background = self._leaving = None

    def _add(self, skill: Skill) -> None:
        if self._background:
            raise InvalidArgument(f"the worker already serves, without skill {skill!r}; add the skill before")
        key = (skill.name, skill.type, skill.version)
        if key in self._skills:
            raise InvalidArgument(f"there is already a skill {skill!r}; give one of them another name or version")
        self._skills[key] = skill

    async def _serve(self) -> None:
        background = self._prepare()
        try:
            await background.run()
        finally:
            self._background = None

    def _prepare(self) -> Background:
        if self._background:
            raise RuntimeError("the worker already serves")
        if not self._skills:
            raise ConfigError("the worker has no skill; decorate a function with @worker.skill")
        settings = read_settings(**self._given)
        hello = worker_pb2.Hello(
            worker_id=settings.worker_id,
            instance_id=secrets.token_hex(8),
            sdk=worker_pb2.SdkInfo(
                name="holon-python", version=_version(), runtime=f"python {platform.python_version()}"
            ),
            capabilities=(*CAPABILITIES, *((REAUTHENTICATE,) if settings.tokens else ())),
            catalog=self._catalog(),
        )
        if hello.ByteSize() > MAX_MESSAGE_BYTES // 2:
            raise ConfigError(
                f"the schemas of the skills take {hello.ByteSize()} bytes, over the node's limit of "
                f"{MAX_MESSAGE_BYTES}; make them smaller"
            )
        tracing = tracing_here()
        background = Background(settings, hello, self.skills, self._max_concurrent, self._timing, tracing)
        self._background = background
        # A signal may come before there is who drains.
        if self._leaving is not None:
            background.drain(self._leaving, self._drain_grace)
        return background

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the shape of a signal handler
        if self._leaving is not None:
            raise KeyboardInterrupt
        self.drain(signal.Signals(number).name)


def _version() -> str:
    # Not from `holon` itself, which names the whole node to type checkers.
    try:
        return metadata.version("holon-node")
    except metadata.PackageNotFoundError:
        return "source"


def _is_time(seconds: object) -> bool:
    return isinstance(seconds, int | float) and seconds >= 0
