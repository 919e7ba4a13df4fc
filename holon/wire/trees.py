"""The wire: trees of jobs and what is told of them, as the engine's values and as protobuf; what comes is checked."""

from __future__ import annotations

import math
from collections.abc import Iterable

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from holon.domain.digest import SHA256_BYTES, ChildDigest, Digest
from holon.domain.fleet import MAX_WORKER_ID
from holon.domain.texts import clipped
from holon.domain.tree import (
    MAX_COUNTS,
    MAX_ERRORS,
    MAX_SUMMARY_BYTES,
    MAX_TREE_BYTES,
    Asked,
    Kind,
    Summary,
    TreeNode,
    TreePage,
    Trouble,
    Visit,
    shorter,
)
from holon.errors import InvalidArgument
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.values import MAX_ID, cost_of, fill, is_id, timestamp

MAX_TEXT = 128
MAX_MESSAGE = 1_024
# A token of a page below becomes a part of one here.
MAX_TOKEN = 3_000
MAX_CHILDREN = 1_000
MAX_VISITS = 1_000
_LARGEST = 2**53 - 1
# The end of the year 9999, in epoch milliseconds.
_LATEST = 253_402_300_799_999
_KINDS = {Kind.JOB: types_pb2.TREE_NODE_KIND_JOB, Kind.TASK: types_pb2.TREE_NODE_KIND_TASK}
_KINDS_BACK = {number: kind for kind, number in _KINDS.items()}


# Out -----------------------------------------------------------------------------------------------------------------


def summary_message(summary: Summary) -> types_pb2.JobSummary:
    """What is told of a job."""
    message = types_pb2.JobSummary()
    _fill_summary(message, summary)
    return message


def fill_summary(message: types_pb2.JobSummary, summary: Summary, most: int = MAX_SUMMARY_BYTES) -> None:
    """Set an empty message to what is told of a job, or to as much of it as has so many bytes."""
    _fill_summary(message, summary)
    while message.ByteSize() > most:
        summary = shorter(summary)
        message.Clear()
        _fill_summary(message, summary)


def _fill_summary(message: types_pb2.JobSummary, summary: Summary) -> None:
    # Filled where they are: one comes with each result, and a copy of each part is most of what that costs.
    message.holon_id, message.job_id = summary.holon_id, summary.job_id
    message.status, message.current_state = summary.status, summary.state
    if summary.truncated:
        message.truncated = True
    if summary.cost is not None:
        message.cost = summary.cost
    fill(message.as_of, summary.as_of)
    fill(message.created_at, summary.created_at)
    if summary.finished_at is not None:
        fill(message.finished_at, summary.finished_at)
    for status, count in summary.tasks:
        message.task_counts.add(status=status, count=count)
    for status, count in summary.jobs:
        message.job_counts.add(status=status, count=count)
    message.errors.extend(map(_trouble_message, summary.errors))
    for visit in summary.states:
        state = message.states.add(state=visit.state)
        fill(state.entered_at, visit.entered)
        if visit.left is not None:
            fill(state.left_at, visit.left)
    if summary.digest is not None:
        _fill_digest(message.digest, summary.digest)


def node_message(node: TreeNode) -> types_pb2.TreeNode:
    """One node of a tree."""
    message = types_pb2.TreeNode(
        node_id=node.id,
        parent_node_id=node.parent,
        kind=_KINDS[node.kind],
        holon_id=node.holon_id,
        job_id=node.job_id,
        task_id=node.task_id,
        name=node.name,
        status=node.status,
        current_state=node.state,
        progress=node.progress,
        attempt=node.attempt,
        worker_id=node.worker_id,
        created_at=_time(node.created_at),
        finished_at=_time(node.finished_at),
        offline=node.offline,
        as_of=_time(node.as_of),
        reported=node.reported,
        cost=node.cost,
        generation=node.generation,
    )
    if node.error is not None:
        message.error.CopyFrom(_trouble_message(node.error))
    if node.digest is not None:
        _fill_digest(message.digest, node.digest)
    if node.summary is not None:
        _fill_summary(message.summary, node.summary)
    return message


def _time(ms: int | None) -> Timestamp | None:
    return None if ms is None else timestamp(ms)


def _trouble_message(one: Trouble) -> types_pb2.TaskErrorCause:
    return types_pb2.TaskErrorCause(
        code=one.code, message=clipped(one.message, MAX_MESSAGE), holon_id=one.holon_id, name=one.name
    )


def _fill_digest(message: types_pb2.HistoryDigest, digest: Digest) -> None:
    message.event_count, message.sha256 = digest.events, digest.sha256
    message.first_sequence, message.last_sequence = digest.first, digest.last
    for one in digest.children:
        message.children.add(holon_id=one.holon_id, job_id=one.job_id, sha256=one.sha256)


# In ------------------------------------------------------------------------------------------------------------------


def kept_summary(message: types_pb2.JobSummary, most: int) -> bytes:
    """What was told of a job, as `read_summary` reads it: one comes with each result, and few are ever looked at.

    Arguments:
        most: how many bytes that may have; of a longer one as much is kept as has.
    Raises:
        InvalidArgument: it is over the limits, or its ids are none.
    """
    _check_summary(message)
    if message.ByteSize() > most:
        summary = summary_of(message)
        message = types_pb2.JobSummary()
        fill_summary(message, summary, most)
    return message.SerializeToString()


def read_summary(kept: bytes) -> Summary:
    """What was told of a job, of what `kept_summary` made of it.

    Raises:
        InvalidArgument: it is nothing of that kind.
    """
    try:
        return summary_of(types_pb2.JobSummary.FromString(kept))
    except DecodeError as error:
        raise _wrong("summary", "cannot be read") from error


def _check_summary(message: types_pb2.JobSummary) -> None:
    if message.ByteSize() > MAX_SUMMARY_BYTES:
        raise _wrong("summary", f"has {message.ByteSize()} bytes, over the limit of {MAX_SUMMARY_BYTES}")
    if not is_id(message.holon_id) or not is_id(message.job_id):
        raise _wrong("summary", "lacks a valid holon_id or job_id")


def summary_of(message: types_pb2.JobSummary) -> Summary:
    """What was told of a job.

    Raises:
        InvalidArgument: it is over the limits, or its ids are none.
    """
    _check_summary(message)
    created = _time_of(message.created_at)
    return Summary(
        message.holon_id,
        message.job_id,
        clipped(message.status, MAX_TEXT),
        clipped(message.current_state, MAX_TEXT),
        _time_of(message.as_of) or 0,
        created or 0,
        _time_of(message.finished_at) if message.HasField("finished_at") else None,
        _counts(message.task_counts),
        _counts(message.job_counts),
        tuple(_trouble_of(one) for one in message.errors[:MAX_ERRORS]),
        tuple(
            Visit(
                clipped(one.state, MAX_TEXT),
                _time_of(one.entered_at) or 0,
                _time_of(one.left_at) if one.HasField("left_at") else None,
            )
            for one in message.states[:MAX_VISITS]
        ),
        _digest_of(message.digest) if message.HasField("digest") else None,
        message.truncated,
        cost_of(message),
    )


def page_of(message: worker_pb2.TreePage, asked: Asked, holon_id: str, above: frozenset[str]) -> TreePage:
    """A page of a tree, as the holon below told it.

    Arguments:
        holon_id: that holon.
        above: whom nothing below can be.
    Raises:
        InvalidArgument: it is larger than what was asked for, or it is no tree of that holon's.
    """
    if message.ByteSize() > MAX_TREE_BYTES or len(message.nodes) > asked.size:
        raise _wrong("page", f"has {len(message.nodes)} nodes and {message.ByteSize()} bytes, which is too much")
    token = message.next_page_token
    if len(token) > MAX_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise _wrong("next_page_token", "is invalid")
    if not asked.token and not message.nodes:
        raise _wrong("page", "has no root")
    known: set[str] = set()
    nodes = []
    for one in message.nodes:
        if not is_id(one.node_id) or one.node_id in known:
            raise _wrong("node_id", "is invalid, or there twice")
        is_root = not asked.token and not known
        if is_root != (not one.parent_node_id):
            raise _wrong("parent_node_id", "makes a second root, or none")
        # On a later page it may be one of the pages before.
        if not is_root and one.parent_node_id not in known and (not asked.token or not is_id(one.parent_node_id)):
            raise _wrong("parent_node_id", "comes after a node below it, or is missing")
        if one.holon_id in above or (is_root and one.holon_id != holon_id):
            raise _wrong("holon_id", "is not that of the reporting holon or of one below it")
        known.add(one.node_id)
        nodes.append(_node_of(one))
    if nodes and not asked.token and nodes[0].kind is not Kind.JOB:
        raise _wrong("kind", "of the root is not a job")
    return TreePage(tuple(nodes), token)


def _node_of(one: types_pb2.TreeNode) -> TreeNode:
    kind = _KINDS_BACK.get(one.kind)
    if kind is None:
        raise _wrong("kind", "is neither a job nor a task")
    for field in ("holon_id", "job_id"):
        if not is_id(getattr(one, field)):
            raise _wrong(field, "is invalid")
    if one.task_id and not is_id(one.task_id):
        raise _wrong("task_id", "is invalid")
    progress = one.progress if one.HasField("progress") else None
    if progress is not None and not (math.isfinite(progress) and 0 <= progress <= 100):
        raise _wrong("progress", "is not a percentage")
    return TreeNode(
        one.node_id,
        one.parent_node_id,
        kind,
        one.holon_id,
        one.job_id,
        clipped(one.name, MAX_TEXT),
        clipped(one.status, MAX_TEXT),
        task_id=one.task_id,
        state=clipped(one.current_state, MAX_TEXT),
        progress=progress,
        attempt=max(0, one.attempt),
        worker_id=clipped(one.worker_id, MAX_WORKER_ID),
        error=_trouble_of(one.error) if one.HasField("error") else None,
        created_at=_time_of(one.created_at) if one.HasField("created_at") else None,
        finished_at=_time_of(one.finished_at) if one.HasField("finished_at") else None,
        offline=one.offline,
        as_of=_time_of(one.as_of) if one.HasField("as_of") else None,
        reported=True,
        digest=_digest_of(one.digest) if one.HasField("digest") else None,
        summary=summary_of(one.summary) if one.HasField("summary") else None,
        cost=cost_of(one),
        generation=max(0, one.generation),
    )


def _time_of(value: Timestamp) -> int | None:
    ms = value.seconds * 1000 + value.nanos // 1_000_000
    return ms if 0 <= ms <= _LATEST else None


def _counts(messages: Iterable[types_pb2.StatusCount]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for one in messages:
        if len(counts) < MAX_COUNTS:
            counts[clipped(one.status, MAX_TEXT)] = max(0, min(one.count, _LARGEST))
    return tuple(counts.items())


def _trouble_of(one: types_pb2.TaskErrorCause) -> Trouble:
    return Trouble(
        clipped(one.code, MAX_TEXT),
        clipped(one.message, MAX_MESSAGE),
        clipped(one.holon_id, MAX_ID),
        clipped(one.name, MAX_TEXT),
    )


def _digest_of(message: types_pb2.HistoryDigest) -> Digest:
    numbers = (message.event_count, message.first_sequence, message.last_sequence)
    if len(message.sha256) != SHA256_BYTES or not all(0 <= one <= _LARGEST for one in numbers):
        raise _wrong("digest", "is invalid")
    children = message.children[:MAX_CHILDREN]
    if not all(is_id(one.holon_id) and is_id(one.job_id) and len(one.sha256) == SHA256_BYTES for one in children):
        raise _wrong("digest.children", "has an invalid entry")
    return Digest(
        *numbers, message.sha256, tuple(ChildDigest(one.holon_id, one.job_id, one.sha256) for one in children)
    )


def _wrong(field: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"the reported tree cannot be used: its {field} {reason}")
