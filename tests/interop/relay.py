"""A relay between a worker and its node, which takes down what both say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from holon.rxon.v1 import worker_pb2
from holon.security.certificates import KeyPair

SERVICE = "holon.rxon.v1.WorkerService"


class Relay:
    """Serves a worker as its node would, and is that worker for the node.

    Attributes:
        said, heard: the worker's frames and the node's, in order.
        port: where it listens.
    """

    def __init__(self, node: grpc.aio.Channel) -> None:
        self.said: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.port = 0
        self._session: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = node.stream_stream(f"/{SERVICE}/Session")

    async def carry(
        self, frames: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        """Serve one stream."""

        async def taken_down() -> AsyncIterator[bytes]:
            async for frame in frames:
                self.said.append(MessageToDict(worker_pb2.SessionRequest.FromString(frame)))
                yield frame

        try:
            async for frame in self._session(taken_down()):
                self.heard.append(MessageToDict(worker_pb2.SessionResponse.FromString(frame)))
                yield frame
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")


@contextlib.asynccontextmanager
async def relay(url: str, authority: bytes, server: KeyPair, worker: KeyPair) -> AsyncIterator[Relay]:
    """A relay to a node's worker door, with mutual TLS on both sides.

    Arguments:
        url: the door, as `localhost:7700`.
        authority: who issued both, PEM.
        server: what it shows to the worker.
        worker: what it shows to the node, as the worker itself does to it.
    """
    mine = grpc.ssl_channel_credentials(authority, worker.key.read_bytes(), worker.certificate.read_bytes())
    its = grpc.ssl_server_credentials(
        [(server.key.read_bytes(), server.certificate.read_bytes())],
        root_certificates=authority,
        require_client_auth=True,
    )
    async with grpc.aio.secure_channel(url, mine) as node:
        one = Relay(node)
        handlers: Any = {"Session": grpc.stream_stream_rpc_method_handler(one.carry)}
        door = grpc.aio.server()
        door.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        one.port = door.add_secure_port("127.0.0.1:0", its)
        await door.start()
        try:
            yield one
        finally:
            await door.stop(0)
