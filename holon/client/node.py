"""The client: the calls of NodeService, with plain values in and out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, cast

import grpc.aio

from holon.client.calls import Calls, duration_of, names_of, request_of
from holon.client.node_shapes import (
    BlueprintInfo,
    NodeInfo,
    NodeStats,
    Rotation,
    SkillInfo,
    WorkerInfo,
    blueprint_of,
    node_of,
    rotation_of,
    skill_of,
    stats_of,
    worker_of,
)
from holon.client.shapes import HistoryEvent, event_of
from holon.rxon.v1 import node_pb2
from holon.rxon.v1.node_pb2_grpc import NodeServiceStub

if TYPE_CHECKING:
    from holon.rxon.v1.node_pb2_grpc import NodeServiceAsyncStub


class NodeClient:
    """The node itself, for operators; a client has it as `node`. Calls raise as those of `Client`."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._stub = cast("NodeServiceAsyncStub", NodeServiceStub(channel))
        self._calls = calls

    def __repr__(self) -> str:
        return f"NodeClient({self._calls.url})"

    async def info(self) -> NodeInfo:
        """Read who and how the node is."""
        return node_of((await self._calls.call(self._stub.GetNode, node_pb2.GetNodeRequest())).node)

    async def stats(self) -> NodeStats:
        """Read the figures of now."""
        return stats_of(await self._calls.call(self._stub.GetStats, node_pb2.GetStatsRequest()))

    async def list_blueprints(self) -> AsyncIterator[BlueprintInfo]:
        """Go through the blueprints, by name, without their graphs."""
        token = ""
        while True:
            request = node_pb2.ListBlueprintsRequest(page_token=token)
            page = await self._calls.call(self._stub.ListBlueprints, request)
            for one in page.blueprints:
                yield blueprint_of(one)
            token = page.next_page_token
            if not token:
                return

    async def get_blueprint(self, name: str) -> BlueprintInfo:
        """Read one blueprint, with its graph."""
        answer = await self._calls.call(self._stub.GetBlueprint, request_of(node_pb2.GetBlueprintRequest, name=name))
        return blueprint_of(answer.blueprint)

    async def list_workers(self, *, skill: str = "", connected: bool | None = None) -> AsyncIterator[WorkerInfo]:
        """Go through the workers, by id.

        Arguments:
            skill: only those that offer it; empty means all.
            connected: only those with a live session, or without; None means both.
        """
        token = ""
        while True:
            request = request_of(node_pb2.ListWorkersRequest, page_token=token, skill=skill, connected=connected)
            page = await self._calls.call(self._stub.ListWorkers, request)
            for one in page.workers:
                yield worker_of(one)
            token = page.next_page_token
            if not token:
                return

    async def worker_history(self, worker_id: str, *, page_size: int = 0) -> AsyncGenerator[HistoryEvent, None]:
        """Go through what a worker had part in, newest first, page by page; also one that is not connected.

        Arguments:
            page_size: at most 1,000; 0 means 100.
        Raises:
            FailedPrecondition: (HISTORY_NOT_KEPT) the node has no database of history.
        """
        token = ""
        while True:
            request = request_of(
                node_pb2.GetWorkerHistoryRequest, worker_id=worker_id, page_size=page_size, page_token=token
            )
            page = await self._calls.call(self._stub.GetWorkerHistory, request)
            for event in page.events:
                yield event_of(event)
            token = page.next_page_token
            if not token:
                return

    async def list_skills(self) -> AsyncIterator[SkillInfo]:
        """Go through the skills that are offered now, by name, type and version; one for each contract."""
        token = ""
        while True:
            page = await self._calls.call(self._stub.ListSkills, node_pb2.ListSkillsRequest(page_token=token))
            for one in page.skills:
                yield skill_of(one)
            token = page.next_page_token
            if not token:
                return

    async def reload(self, targets: Sequence[str] = ()) -> tuple[str, ...]:
        """Have the node read files of its own again, such as who the clients are: all of them, or none.

        Arguments:
            targets: which, such as `clients`; empty means all.
        Returns:
            what was read again.
        Raises:
            FailedPrecondition: (CONFIG_INVALID) a file is bad; nothing has changed.
            InvalidArgument: the node reads no such file.
        """
        request = request_of(node_pb2.ReloadNodeRequest, targets=names_of("targets", targets))
        return tuple((await self._calls.call(self._stub.ReloadNode, request)).reloaded)

    async def drain(self, *, grace: float | None = None, reason: str = "") -> None:
        """Begin to drain the node: it takes no new work, ends what runs, and ends itself. Safe to repeat.

        Arguments:
            grace: seconds that this may take; None is the node's own.
            reason: for its log.
        """
        request = request_of(node_pb2.DrainNodeRequest, grace=duration_of("grace", grace), reason=reason)
        await self._calls.call(self._stub.DrainNode, request)

    async def drain_worker(self, worker_id: str, *, undo: bool = False, reason: str = "") -> WorkerInfo:
        """Give a worker no more tasks until it starts again, or take that back; the worker as it is now."""
        request = request_of(node_pb2.DrainWorkerRequest, worker_id=worker_id, undo=undo, reason=reason)
        return worker_of((await self._calls.call(self._stub.DrainWorker, request)).worker)

    async def accept_holon(self, worker_id: str = "") -> str:
        """Let another holon come in the place of a child, by its worker id, or of the parent; the one known so far.

        Raises:
            NotFound: (HOLON_UNKNOWN) none is known there.
        """
        request = request_of(node_pb2.AcceptHolonRequest, worker_id=worker_id)
        return str((await self._calls.call(self._stub.AcceptHolon, request)).holon_id)

    async def rotate_signing_key(self, *, revoke: bool = False) -> Rotation:
        """Have workers' access tokens signed with another key, at every node, once all of them can know it.

        Arguments:
            revoke: take none any more that an earlier key has signed. Then the new one signs at once, and sessions that
                such tokens have opened end; their workers get new ones by themselves.
        """
        return await self._rotate(node_pb2.TOKEN_SECRET_SIGNING_KEY, revoke=revoke)

    async def rotate_refresh_secret(self, *, revoke: bool = False) -> Rotation:
        """Have workers' refresh tokens made of another secret, at every node, from now on.

        Arguments:
            revoke: take none any more that was made before; whoever has one is to present its credential again.
        """
        return await self._rotate(node_pb2.TOKEN_SECRET_REFRESH, revoke=revoke)

    async def webhook_secret(self) -> str:
        """The secret that the store keeps for signing webhooks, such as `whsec_...`.

        Raises:
            FailedPrecondition: (WEBHOOK_SECRET_SET) the node signs with the setting WEBHOOK_SECRET, or sends none.
        """
        answer = await self._calls.call(self._stub.GetWebhookSecret, node_pb2.GetWebhookSecretRequest())
        return str(answer.secret)

    async def _rotate(self, secret: node_pb2.TokenSecret.ValueType, *, revoke: bool) -> Rotation:
        request = node_pb2.RotateTokensRequest(secret=secret, revoke=revoke)
        return rotation_of(await self._calls.call(self._stub.RotateTokens, request))
