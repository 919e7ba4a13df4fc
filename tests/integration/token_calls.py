"""The worker door's calls for tokens, as tests make them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from holon.clock import SystemClock
from holon.ports import StoreSettings
from holon.rxon.v1 import token_pb2, worker_pb2
from holon.security.sts.exchange import TokenSettings
from holon.security.worker_rules import WorkerRules
from holon.security.workers_file import load_workers
from holon.storage.memory import MemoryStorage
from tests.integration.grpc_node import GUARD, WORKER_TOKEN, Node, Wire, a_node, end_of, hello, reason_of

CODE = grpc.StatusCode
SERVICE = "/holon.rxon.v1.TokenService/"
OWN = "the-own-token-of-a-worker-of-this-node"
CERTIFICATE = token_pb2.CertificateCredential()
Given = token_pb2.ExchangeTokenResponse
TOKENS = TokenSettings()


async def exchange(channel: Any, request_id: str = "r1", **more: Any) -> Given:
    request = token_pb2.ExchangeTokenRequest(request_id=request_id, **more)
    return Given.FromString(await call(channel, "ExchangeToken", request))


async def call(channel: Any, method: str, request: Any) -> bytes:
    return bytes(await channel.unary_unary(SERVICE + method)(request.SerializeToString(), timeout=GUARD))


async def refused(channel: Any, request_id: str = "r1", **more: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await exchange(channel, request_id, **more)
    return caught.value.code(), reason_of(caught.value)


async def session(channel: Any, token: str, claimed: str = "") -> Wire:
    wire = Wire(channel.stream_stream("/holon.rxon.v1.WorkerService/Session")(metadata=bearer(token)))
    # The node may have refused it before that.
    with suppress(grpc.aio.AioRpcError):
        await wire.send(hello(worker_id=claimed))
    return wire


async def refusal(channel: Any, token: str) -> tuple[grpc.StatusCode, str]:
    """How a session ends whose token is not let in. It says nothing: a refusal that meets a word may be lost."""
    return await end_of(Wire(channel.stream_stream("/holon.rxon.v1.WorkerService/Session")(metadata=bearer(token))))


async def welcomed(channel: Any, token: str) -> Wire:
    wire = await session(channel, token)
    wire.welcome = await wire.expect("welcome")
    return wire


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def rules(folder: Path, text: str) -> WorkerRules:
    path = folder / "workers.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_workers(str(path), WORKER_TOKEN)


def renewal(token: str) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(reauthenticate=worker_pb2.Reauthenticate(access_token=token))


def key_of(given: Given) -> str:
    return str(jwt.get_unverified_header(given.access_token)["kid"])


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def same(one: Given, other: Given) -> bool:
    return (one.access_token, one.refresh_token, one.expires_at) == (
        other.access_token,
        other.refresh_token,
        other.expires_at,
    )


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes of one store."""
    async with (
        MemoryStorage(StoreSettings("both", lease=30_000, offer=5_000), SystemClock()) as store,
        a_node(tokens=TOKENS, store=store) as one,
        a_node(tokens=TOKENS, store=store) as other,
    ):
        yield one, other
