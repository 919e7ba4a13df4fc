"""The worker door: whether what a worker says can be what it means, and how it is refused."""

from __future__ import annotations

from typing import TypeAlias

from google.protobuf.message import DecodeError

from holon.engine.job_errors import not_held
from holon.errors import InvalidArgument, invalid
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.values import MAX_ID

Named: TypeAlias = worker_pb2.TaskUpdate | types_pb2.LeaseRef

_NEEDS = {
    "reauthenticate": "REAUTHENTICATE",
    "command_replies": "COMMANDS",
    "tree_page": "HOLON",
}


def parsed(raw: bytes) -> worker_pb2.SessionRequest:
    """One message as it came; raises InvalidArgument (MALFORMED_FRAME) for what is none."""
    try:
        return worker_pb2.SessionRequest.FromString(raw)
    except DecodeError as error:
        raise InvalidArgument(
            f"a message of {len(raw)} bytes is not a SessionRequest", code="MALFORMED_FRAME"
        ) from error


def unknown(what: str, kind: str | None, *, code: str) -> InvalidArgument:
    """Why a message or an update of this kind is not taken."""
    needed = "STREAMS" if kind == "chunk" else _NEEDS.get(kind or "")
    if needed is not None:
        return InvalidArgument(f"{kind} needs the capability {needed}, which this node does not list", code=code)
    return InvalidArgument(f"the {what} has no member that this node knows; check its name", code=code)


def fit(named: Named) -> bool:
    """Whether what a worker names can be the ids of a lease: what cannot is not said back to it."""
    return len(named.task_id) <= MAX_ID and len(named.lease_id) <= MAX_ID


def check_ids(named: Named, where: str) -> None:
    """Raise InvalidArgument where what is named has ids that no lease has."""
    if not fit(named):
        field = "task_id" if len(named.task_id) > MAX_ID else "lease_id"
        raise invalid(f"{where}{field}", f"is longer than {MAX_ID} characters, the limit of an id")


def check_held(held: bool, update: worker_pb2.TaskUpdate) -> None:
    """Raise NotFound (TASK_NOT_HELD) unless the session holds what an update is about."""
    if not held:
        raise not_held(update.task_id, update.lease_id)
