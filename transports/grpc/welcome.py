"""The worker door: what a worker is told when its stream has opened."""

from __future__ import annotations

import math

from holon.engine.members import Member
from holon.rxon.v1 import worker_pb2
from holon.transports.grpc.capabilities import capabilities
from holon.transports.grpc.child_holon import ChildHolon
from holon.transports.grpc.settings import WorkerDoorSettings
from holon.transports.grpc.standing import Standing
from holon.wire.values import duration, timestamp
from holon.wire.worker import resumed_leases

PROTOCOL_VERSION = "1.0"


def welcome_of(
    hello: worker_pb2.Hello,
    member: Member,
    standing: Standing,
    child: ChildHolon | None,
    settings: WorkerDoorSettings,
    now_ms: int,
) -> worker_pb2.Welcome:
    """The Welcome that answers a Hello.

    Arguments:
        child: what the worker is if it is a holon.
    Raises:
        HolonError: the worker is not let in any more.
    """
    welcome = worker_pb2.Welcome(
        protocol_version=PROTOCOL_VERSION,
        session_id=member.session.session_id,
        node_id=settings.node_id,
        holon_id=settings.holon_id,
        capabilities=capabilities(renews=standing.renews, holons=child is not None),
        heartbeat_interval=duration(round(settings.heartbeat * 1000)),
        silence_timeout=duration(round(settings.silence * 1000)),
        lease_duration=duration(round((settings.lease if child is None else settings.child_lease) * 1000)),
        accept_timeout=duration(round(settings.offer * 1000)),
        max_message_bytes=settings.max_message_bytes,
        max_payload_bytes=settings.max_payload_bytes,
        leases=resumed_leases(member.resumed, member.dropped),
        catalog_needed=hello.WhichOneof("offered") == "catalog_hash",
        node_time=timestamp(now_ms),
        warnings=member.warnings,
    )
    if (until := standing.check().at_ms) < math.inf:
        welcome.session_expires_at.CopyFrom(timestamp(int(until)))
    if child is not None:
        child.tell(welcome)
    return welcome
