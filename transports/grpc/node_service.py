"""The client door: NodeService, by the application service of operators."""

from __future__ import annotations

import grpc

from holon.domain.client import ADMIN
from holon.domain.graph import graph_of
from holon.engine.overview import Overview
from holon.errors import FailedPrecondition
from holon.rxon.v1 import node_pb2
from holon.security.sts.exchange import Exchange
from holon.telemetry.audit import audited
from holon.transports.grpc.calls import invalid, unary
from holon.transports.grpc.capabilities import capabilities
from holon.transports.grpc.clients import acting, client
from holon.wire.jobs import event_message
from holon.wire.nodes import blueprint_message, counts_message, skill_message, worker_message
from holon.wire.values import asked_seconds, duration, timestamp

SERVICE = "holon.rxon.v1.NodeService"
# What shows all of the node, or changes something of it. Everything else is for every client.
OF_ADMINS = (
    "ListWorkers",
    "GetStats",
    "ReloadNode",
    "DrainNode",
    "DrainWorker",
    "AcceptHolon",
    "RotateTokens",
    "GetWebhookSecret",
)
_SECRETS = {node_pb2.TOKEN_SECRET_SIGNING_KEY: "signing-key", node_pb2.TOKEN_SECRET_REFRESH: "refresh-secret"}
NEEDS = {f"/{SERVICE}/{name}": ADMIN for name in OF_ADMINS}


class NodeService:
    """Translates, as `JobService` does. `NEEDS` says which calls need a role.

    Arguments:
        exchange: who gives workers tokens; None: nobody does.
    """

    def __init__(self, overview: Overview, exchange: Exchange | None = None) -> None:
        self._overview = overview
        self._exchange = exchange

    def handler(self, max_bytes: int) -> grpc.GenericRpcHandler:
        """The service's calls by name; no answer is larger than `max_bytes`."""
        calls = {
            "GetNode": unary("GetNode", node_pb2.GetNodeRequest, self.node, max_bytes),
            "ListBlueprints": unary("ListBlueprints", node_pb2.ListBlueprintsRequest, self.blueprints, max_bytes),
            "GetBlueprint": unary("GetBlueprint", node_pb2.GetBlueprintRequest, self.blueprint, max_bytes),
            "ListWorkers": unary("ListWorkers", node_pb2.ListWorkersRequest, self.workers, max_bytes),
            "GetWorkerHistory": unary(
                "GetWorkerHistory", node_pb2.GetWorkerHistoryRequest, self.worker_history, max_bytes
            ),
            "ListSkills": unary("ListSkills", node_pb2.ListSkillsRequest, self.skills, max_bytes),
            "GetStats": unary("GetStats", node_pb2.GetStatsRequest, self.stats, max_bytes),
            "ReloadNode": unary("ReloadNode", node_pb2.ReloadNodeRequest, self.reload, max_bytes),
            "DrainNode": unary("DrainNode", node_pb2.DrainNodeRequest, self.drain_node, max_bytes),
            "DrainWorker": unary("DrainWorker", node_pb2.DrainWorkerRequest, self.drain_worker, max_bytes),
            "AcceptHolon": unary("AcceptHolon", node_pb2.AcceptHolonRequest, self.accept_holon, max_bytes),
            "RotateTokens": unary("RotateTokens", node_pb2.RotateTokensRequest, self.rotate_tokens, max_bytes),
            "GetWebhookSecret": unary(
                "GetWebhookSecret", node_pb2.GetWebhookSecretRequest, self.webhook_secret, max_bytes
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, calls)

    async def node(self, _: node_pb2.GetNodeRequest) -> node_pb2.GetNodeResponse:
        """Who and how this node is."""
        view = self._overview.node()
        node = node_pb2.Node(
            node_id=view.node_id,
            version=view.version,
            started_at=timestamp(view.started_at),
            draining=view.draining,
            capabilities=capabilities(),
            node_time=timestamp(view.now),
            holon_id=view.holon_id,
            holon_ids_above=view.above,
        )
        return node_pb2.GetNodeResponse(node=node)

    async def blueprints(self, request: node_pb2.ListBlueprintsRequest) -> node_pb2.ListBlueprintsResponse:
        """A page of the blueprints."""
        page, more = self._overview.blueprints(request.page_size, request.page_token)
        return node_pb2.ListBlueprintsResponse(
            blueprints=[blueprint_message(one) for one in page], next_page_token=more
        )

    async def blueprint(self, request: node_pb2.GetBlueprintRequest) -> node_pb2.GetBlueprintResponse:
        """One blueprint, with its graph."""
        found = self._overview.blueprint(request.name)
        return node_pb2.GetBlueprintResponse(blueprint=blueprint_message(found, graph_of(found)))

    async def workers(self, request: node_pb2.ListWorkersRequest) -> node_pb2.ListWorkersResponse:
        """A page of the workers."""
        connected = request.connected if request.HasField("connected") else None
        page, more = self._overview.workers(request.page_size, request.page_token, request.skill, connected)
        return node_pb2.ListWorkersResponse(workers=[worker_message(one) for one in page], next_page_token=more)

    async def worker_history(self, request: node_pb2.GetWorkerHistoryRequest) -> node_pb2.GetWorkerHistoryResponse:
        """A page of what a worker had part in."""
        page, more = await self._overview.worker_history(
            client().name, request.worker_id, request.page_size, request.page_token
        )
        return node_pb2.GetWorkerHistoryResponse(
            events=[event_message(one.job_id, one.sequence, one.event) for one in page], next_page_token=more
        )

    async def skills(self, request: node_pb2.ListSkillsRequest) -> node_pb2.ListSkillsResponse:
        """A page of what is offered now."""
        page, more = self._overview.skills(request.page_size, request.page_token)
        return node_pb2.ListSkillsResponse(skills=[skill_message(one) for one in page], next_page_token=more)

    async def stats(self, _: node_pb2.GetStatsRequest) -> node_pb2.GetStatsResponse:
        """The figures of now."""
        stats = await self._overview.stats()
        message = counts_message(stats.counts)
        message.workers_connected = message.sessions = stats.workers
        message.uptime.CopyFrom(duration(stats.uptime))
        message.as_of.CopyFrom(timestamp(stats.as_of))
        return message

    async def reload(self, request: node_pb2.ReloadNodeRequest) -> node_pb2.ReloadNodeResponse:
        """Read files again."""
        return node_pb2.ReloadNodeResponse(reloaded=await self._overview.reload(request.targets, acting()))

    async def drain_node(self, request: node_pb2.DrainNodeRequest) -> node_pb2.DrainNodeResponse:
        """Begin to drain this node."""
        with audited("node_drained", acting(), lambda: self._overview.node().node_id):
            self._overview.drain_node(asked_seconds(request, "grace"), request.reason)
        return node_pb2.DrainNodeResponse()

    async def drain_worker(self, request: node_pb2.DrainWorkerRequest) -> node_pb2.DrainWorkerResponse:
        """Drain a worker, or take that back."""
        with audited("worker_drained", acting(), lambda: request.worker_id):
            view = await self._overview.drain_worker(request.worker_id, undo=request.undo, reason=request.reason)
        worker = worker_message(view)
        # It is drained: whatever is told of it, the answer is sent. They are in ListWorkers.
        worker.ClearField("resources")
        return node_pb2.DrainWorkerResponse(worker=worker)

    async def accept_holon(self, request: node_pb2.AcceptHolonRequest) -> node_pb2.AcceptHolonResponse:
        """Let another holon come in the place of one that is known."""
        with audited("holon_accepted", acting(), lambda: request.worker_id or "the parent"):
            return node_pb2.AcceptHolonResponse(holon_id=await self._overview.accept_holon(request.worker_id))

    async def rotate_tokens(self, request: node_pb2.RotateTokensRequest) -> node_pb2.RotateTokensResponse:
        """Make anew what workers' tokens are made with."""
        what = _SECRETS.get(request.secret)
        if what is None:
            known = ", ".join(f"{node_pb2.TokenSecret.Name(one)} ({one})" for one in _SECRETS)
            raise invalid("secret", f"is {request.secret}; use one of {known}")
        if self._exchange is None:
            raise FailedPrecondition("this node issues no tokens to workers", code="NOT_CONFIGURED")
        with audited("tokens_rotated", acting(), lambda: what, revoked=request.revoke):
            at = self._overview.node().now
            if request.secret == node_pb2.TOKEN_SECRET_REFRESH:
                await self._exchange.rotate_refresh_secret(revoke=request.revoke)
                return node_pb2.RotateTokensResponse(in_force_at=timestamp(at))
            key = await self._exchange.rotate_signing_key(revoke=request.revoke)
            return node_pb2.RotateTokensResponse(key_id=key.kid, in_force_at=timestamp(key.active_at or at))

    async def webhook_secret(self, _: node_pb2.GetWebhookSecretRequest) -> node_pb2.GetWebhookSecretResponse:
        """Show the store's secret that signs webhooks."""
        with audited("webhook_secret_shown", acting(), lambda: self._overview.node().node_id):
            return node_pb2.GetWebhookSecretResponse(secret=self._overview.webhook_secret())
