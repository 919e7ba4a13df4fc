"""Reflection: a door tells what it serves when the setting says so, to whoever may call it, and only then."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from holon.testing import running_node
from tests.integration.grpc_node import reason_of

GUARD = 60.0
ASK = reflection_pb2.ServerReflectionRequest
VERSIONS = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]


def call_of(channel: grpc.aio.Channel, token: str | None, version: str = VERSIONS[0]) -> Any:
    # The messages of both versions are the same on the wire.
    call: Any = channel.stream_stream(
        f"/{version}.ServerReflection/ServerReflectionInfo",
        ASK.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    return call(metadata=(("x-client-token", token),) if token else ())


async def ask(channel: grpc.aio.Channel, question: ASK, token: str | None, version: str = VERSIONS[0]) -> Any:
    async with asyncio.timeout(GUARD):
        call = call_of(channel, token, version)
        await call.write(question)
        return await call.read()


def files_in(told: Any) -> dict[str, FileDescriptorProto]:
    files = map(FileDescriptorProto.FromString, told.file_descriptor_response.file_descriptor_proto)
    return {file.name: file for file in files}


async def refusal(channel: grpc.aio.Channel, token: str | None) -> grpc.aio.AioRpcError:
    """How a call is refused that asks nothing yet: what it sent might not go out any more, and that would be told."""
    async with asyncio.timeout(GUARD):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call_of(channel, token).read()
        return refused.value


def channel_to(node: Any, port: int | None, *, worker: bool = False) -> grpc.aio.Channel:
    own: tuple[bytes | None, bytes | None] = (None, None)
    if worker:
        pair = node.certificate("w1")
        own = (pair.key.read_bytes(), pair.certificate.read_bytes())
    credentials = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes(), *own)
    return grpc.aio.secure_channel(f"localhost:{port}", credentials)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_door_tells_what_it_serves_and_the_protos_of_it(version: str) -> None:
    async with running_node(GRPC_REFLECTION=True) as node:
        async with channel_to(node, node.ports.client) as channel:
            told = await ask(channel, ASK(list_services=""), node.token, version)
            assert sorted(service.name for service in told.list_services_response.service) == [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "holon.rxon.v1.JobService",
                "holon.rxon.v1.NodeService",
            ]
            told = await ask(channel, ASK(file_containing_symbol="holon.rxon.v1.NodeService"), node.token, version)
            assert "holon/rxon/v1/node.proto" in files_in(told)
            # Also of itself, in both versions, and nothing of what this door does not serve.
            for name in VERSIONS:
                told = await ask(channel, ASK(file_containing_symbol=f"{name}.ServerReflection"), node.token, version)
                (file,) = files_in(told).values()
                (method,) = file.service[0].method
                assert (file.package, method.input_type) == (name, f".{name}.ServerReflectionRequest")
                types = [field.type_name for message in file.message_type for field in message.field if field.type_name]
                assert all(one.startswith(f".{name}.") for one in types)
            other = ASK(file_containing_symbol="holon.rxon.v1.WorkerService")
            assert (await ask(channel, other, node.token, version)).error_response.error_code == 5
        async with channel_to(node, node.ports.worker, worker=True) as channel:
            told = await ask(channel, ASK(list_services=""), None, version)
            names = {service.name for service in told.list_services_response.service}
            assert "holon.rxon.v1.WorkerService" in names
            assert "holon.rxon.v1.JobService" not in names


async def test_who_has_no_token_is_told_nothing() -> None:
    async with running_node(GRPC_REFLECTION=True) as node, channel_to(node, node.ports.client) as channel:
        assert reason_of(await refusal(channel, None)) == "TOKEN_INVALID"


async def test_without_the_setting_there_is_no_reflection() -> None:
    async with running_node() as node, channel_to(node, node.ports.client) as channel:
        assert (await refusal(channel, node.token)).code() is grpc.StatusCode.UNIMPLEMENTED
