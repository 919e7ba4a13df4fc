"""A whole node over TLS, with every door and every file, that attackers meet as it is; and the ways to it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx

from holon.client import Client
from holon.clock import Clock
from holon.config import Config
from holon.context import ActionFactory, ClientConfig
from holon.domain.blueprint import Blueprint
from holon.node import Node, Ports
from holon.rxon.v1 import token_pb2, worker_pb2
from holon.security.certificates import Authority, KeyPair, issue_server, issue_worker
from holon.storage.memory import MemoryStorage
from holon.storage.sqlite import SqliteStorage
from holon.testing import WAITS
from holon.worker import Worker
from holon.worker.timing import Timing
from tests.integration.grpc_node import SESSION, Wire, hello, reason_of
from tests.integration.http_wire import Answer, answers
from tests.integration.worker_certificates import revoke, root

GUARD = 60.0
LOOPBACK = "127.0.0.1"
JOBS = "/holon.rxon.v1.JobService/"
NODES = "/holon.rxon.v1.NodeService/"
TOKENS = "/holon.rxon.v1.TokenService/"
HEALTH = "/grpc.health.v1.Health/Check"
CODE = grpc.StatusCode
OWN_POOL = (("grpc.use_local_subchannel_pool", 1),)


def token(of: str) -> str:
    return f"{of}-{secrets.token_urlsafe(32)}"


def blueprints() -> list[Blueprint]:
    relay = Blueprint("relay", api_version="v1", api_endpoint="/jobs/relay")

    @relay.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data.get("skill", "t"), initial_data, {"success": "end", "failure": "broken"})

    @relay.handler(is_end=True)
    async def end(client: ClientConfig, state_history: dict[str, Any]) -> dict[str, Any]:
        return {"by": client.name, "plan": client.plan, "got": state_history.get("got")}

    @relay.handler(is_end=True, outcome="failed")
    async def broken() -> None: ...

    return [relay]


@dataclass
class Place:
    """The node's files, its doors, and whoever comes to them.

    Attributes:
        tokens: of the clients `shop` and `lab`, of the administrator `boss`, and of the worker `reporter`.
        children: workers that are holons.
    """

    folder: Path
    authority: Authority
    tokens: dict[str, str]
    storage: MemoryStorage | SqliteStorage
    config: Config
    children: tuple[str, ...] = ()
    ports: Ports = field(default_factory=lambda: Ports(0, 0, 0))
    resources: AsyncExitStack = field(default_factory=AsyncExitStack)

    # Files ------------------------------------------------------------------------------------------------------------

    def write_clients(self, text: str = "") -> None:
        roles = {"boss": 'roles = ["admin"]\n', "shop": 'plan = "gold"\n'}
        tables = (f'[{name}]\ntoken = "{self.tokens[name]}"\n{roles.get(name, "")}' for name in ("shop", "lab", "boss"))
        self.write("clients.toml", text or "".join(tables))

    def write_workers(self, text: str = "") -> None:
        children = "".join(f'[{name}]\nkind = "holon"\ncn = "{name}"\n' for name in self.children)
        self.write("workers.toml", (text or f'[reporter]\ntoken = "{self.tokens["reporter"]}"\n') + children)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text)

    def worker_files(self, worker_id: str) -> KeyPair:
        return issue_worker(self.authority, self.folder, worker_id, days=2)

    @property
    def ca(self) -> Path:
        """Whom callers trust to sign the node's certificate."""
        return self.folder / "trusted.pem"

    @property
    def authorities(self) -> Path:
        """Whom the node trusts to sign its callers' (TLS_CA_PATH)."""
        return self.folder / "ca.pem"

    # gRPC -------------------------------------------------------------------------------------------------------------

    async def channel(self, port: int, files: KeyPair | None = None) -> Any:
        """A connection of its own, to make raw calls; it ends with the place."""
        own = (files.key.read_bytes(), files.certificate.read_bytes()) if files else (None, None)
        trust = grpc.ssl_channel_credentials(self.ca.read_bytes(), *own)
        return await self.resources.enter_async_context(
            grpc.aio.secure_channel(f"localhost:{port}", trust, options=OWN_POOL)
        )

    @property
    def client_port(self) -> int:
        """Where clients' gRPC is served."""
        assert self.ports.client is not None
        return self.ports.client

    async def certified(self, files: KeyPair | str) -> Any:
        """A worker's connection at the port for certificates."""
        return await self.channel(self.ports.worker, self.worker_files(files) if isinstance(files, str) else files)

    async def uncertified(self) -> Any:
        """A connection at the port for workers' tokens."""
        assert self.ports.worker_tokens is not None
        return await self.channel(self.ports.worker_tokens)

    async def worker(self, files: KeyPair | str, *offerings: worker_pb2.Offering, **more: Any) -> Wire:
        """The stream of a worker that has its Welcome."""
        wire = await said_hello(await self.certified(files), *offerings, **more)
        wire.welcome = await wire.expect("welcome")
        return wire

    def client(self, name: str) -> Client:
        """A client of the gRPC door; to be entered."""
        return Client(f"grpcs://localhost:{self.ports.client}", self.tokens.get(name, name), self.ca)

    def sdk_worker(self, worker_id: str, **options: Any) -> Worker:
        """A worker of the SDK, by its certificate unless options say otherwise."""
        files = None if "token" in options else self.worker_files(worker_id)
        port = self.ports.worker if files else self.ports.worker_tokens
        if files is not None:
            options |= {"cert_path": files.certificate, "key_path": files.key}
        else:
            options |= {"worker_id": worker_id}
        options.setdefault("timing", Timing(least_heartbeat=0.05))
        return Worker(f"grpcs://localhost:{port}", ca_path=self.ca, **options)

    # HTTP -------------------------------------------------------------------------------------------------------------

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    @asynccontextmanager
    async def http(self, name: str = "") -> AsyncIterator[httpx.AsyncClient]:
        headers = {"x-client-token": self.tokens[name]} if name else {}
        url = f"https://localhost:{self.ports.http}"
        async with httpx.AsyncClient(
            base_url=url, headers=headers, verify=self.trust(), trust_env=False, timeout=GUARD
        ) as http:
            yield http

    async def raw(self, *sent: bytes) -> list[Answer]:
        """The answers to these bytes on a connection of their own."""
        async with asyncio.timeout(GUARD):
            reader, writer = await asyncio.open_connection(
                LOOPBACK, self.ports.http, ssl=self.trust(), server_hostname="localhost"
            )
            try:
                writer.writelines(sent)
                return answers(await reader.read())
            finally:
                writer.close()


@asynccontextmanager
async def a_place(
    folder: Path,
    storage: MemoryStorage | SqliteStorage | None = None,
    children: tuple[str, ...] = (),
    clock: Clock | None = None,
    **settings: str | float | bool,
) -> AsyncIterator[Place]:
    """A node that runs, with TLS at every door, workers by certificate and by token, two clients and an operator."""
    authority = root(folder / "authority")
    server = issue_server(authority, folder, days=2)
    for name in ("ca.pem", "trusted.pem"):
        (folder / name).write_bytes(authority.files.certificate.read_bytes())
    (folder / "lists").mkdir()
    revoke(folder / "lists/ours.pem", authority)
    names = ("shop", "lab", "boss", "reporter")
    config = Config(
        {},
        **{
            **WAITS,
            "API_PORT": 0,
            "GRPC_PORT": 0,
            "CLIENT_GRPC_PORT": 0,
            "WORKER_TOKEN_PORT": 0,
            "WORKER_AUTH_MODE": "mixed",
            "TLS_ENABLED": True,
            "TLS_CERT_PATH": str(server.certificate),
            "TLS_KEY_PATH": str(server.key),
            "TLS_CA_PATH": str(folder / "ca.pem"),
            "TLS_CRL_PATH": str(folder / "lists"),
            "CLIENTS_CONFIG_PATH": str(folder / "clients.toml"),
            "WORKERS_CONFIG_PATH": str(folder / "workers.toml"),
            "STORAGE_URI": "memory://",
            **settings,
        },
    )
    storage = storage or MemoryStorage()
    place = Place(folder, authority, {name: token(name) for name in names}, storage, config, children)
    place.write_clients()
    place.write_workers()
    async with a_running(Node(config, blueprints(), storage, clock)) as place.ports, place.resources:
        yield place


@asynccontextmanager
async def a_running(node: Node) -> AsyncIterator[Ports]:
    """A node, from when its doors are open until this is left, drained."""
    opened: asyncio.Future[Ports] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(node.run(opened.set_result))
    try:
        await asyncio.wait((opened, running), return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            await running
        yield opened.result()
    finally:
        node.stop()
        await running


async def said_hello(channel: Any, *offerings: worker_pb2.Offering, metadata: Any = None, **more: Any) -> Wire:
    """A worker's stream after its first message; it may have been refused before that, and tells it when it is read."""
    wire = opened(channel, metadata)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await wire.send(hello(*offerings, **more))
    return wire


def opened(channel: Any, metadata: Any = None) -> Wire:
    """A worker's stream on which nothing is said: who is refused for what it shows is refused before that."""
    return Wire(channel.stream_stream(SESSION)(metadata=metadata))


async def outcome(
    channel: Any, method: str, request: Any = b"", metadata: Sequence[tuple[str, str | bytes]] = ()
) -> tuple[grpc.StatusCode, str]:
    """How a unary call ends."""
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    try:
        await channel.unary_unary(method)(raw, metadata=metadata, timeout=GUARD)
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(error)
    return CODE.OK, ""


async def exchanged(channel: Any, **more: Any) -> token_pb2.ExchangeTokenResponse:
    """What an exchange gives."""
    more.setdefault("request_id", secrets.token_hex(8))
    request = token_pb2.ExchangeTokenRequest(**more).SerializeToString()
    return token_pb2.ExchangeTokenResponse.FromString(
        await channel.unary_unary(f"{TOKENS}ExchangeToken")(request, timeout=GUARD)
    )


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)
