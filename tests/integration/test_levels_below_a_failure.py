"""What is said of a failure at the worker door: of levels below only by holons; what is too much is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.causes import MAX_CAUSE_MESSAGE
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.admission import admission
from tests.integration.grpc_node import Node, Wire, a_node, json_payload, update, updates
from tests.integration.holons_below import comes, identity

CAUSE = {"code": "C", "message": "the ink ran", "holon_id": "lowest", "name": "print"}
CHAIN = {"causes": [CAUSE], "details": [1]}


def telling() -> Blueprint:
    """Ends with what its handlers are told of a failure."""
    blueprint = Blueprint("telling", "/telling")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, {"success": "end", "failure": "told"})

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    @blueprint.handler(is_end=True)
    async def told(state_history: dict[str, Any]) -> Any:
        return state_history["error"]

    return blueprint


async def told(node: Node, worker: Wire, error: types_pb2.TaskError) -> Any:
    """What the job is told of a failure that is said so, and taken."""
    node.engine.blueprints.register(telling())
    job_id = await node.create("telling")
    offer = await worker.offer()
    await worker.send(updates(update(offer, result=worker_pb2.TaskResult(status="failure", error=error))))
    assert (await worker.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
    return json.loads((await node.ended(job_id)).result.data)


@pytest.mark.parametrize(
    ("causes", "details", "heard"),
    [
        ([CAUSE], None, None),
        ([CAUSE], {"page": 3}, {"page": 3}),
        ([], CHAIN, {"details": CHAIN}),
        ([CAUSE], {"causes": [CAUSE]}, {"details": {"causes": [CAUSE]}}),
        ([], {"causes": ["damp"]}, {"causes": ["damp"]}),
    ],
)
async def test_a_plain_worker_tells_of_no_levels_below_itself_and_what_looks_so_stays_its_own(
    node: Node, causes: list[Any], details: Any, heard: Any
) -> None:
    error = types_pb2.TaskError(code="PERMANENT_ERROR", causes=[types_pb2.TaskErrorCause(**one) for one in causes])
    if details is not None:
        error.details.CopyFrom(json_payload(details))
    said = await told(node, await node.worker(), error)
    assert (said["code"], said["details"]) == ("PERMANENT_ERROR", heard)


@pytest.mark.parametrize(
    ("details", "heard"),
    [
        (b"[1]", [1]),
        (b"[" * 63 + b"]" * 63, json.loads("[" * 63 + "]" * 63)),
        (b"[" * 64 + b"]" * 64, {"details_left_out": "nested deeper than 64 levels"}),
        (b"[" * 200 + b"]" * 200, {"details_left_out": "nested deeper than 64 levels"}),
        (b'"%b"' % (b"x" * 2**20), {"details_left_out": "1048673 bytes of JSON, over the limit of 1048576"}),
    ],
)
async def test_a_failure_below_keeps_its_code_and_the_levels_below_it_however_much_it_says(
    tmp_path: Path, details: bytes, heard: Any
) -> None:
    async with a_node(admission=admission(tmp_path, '["child"]\nkind = "holon"\ncn = "child"')) as node:
        error = types_pb2.TaskError(
            code="CHILD_FAILED",
            causes=[types_pb2.TaskErrorCause(**CAUSE)],
            details=types_pb2.Payload(data=details),
        )
        said = await told(node, await comes(node, identity()), error)
        assert (said["code"], said["details"]) == ("CHILD_FAILED", {"causes": [CAUSE], "details": heard})


async def test_of_levels_below_that_are_too_much_themselves_each_is_told_within_its_limits(tmp_path: Path) -> None:
    async with a_node(admission=admission(tmp_path, '["child"]\nkind = "holon"\ncn = "child"')) as node:
        details = {"causes": [CAUSE | {"message": "x" * 40_000}] * 32}
        error = types_pb2.TaskError(code="CHILD_FAILED", details=json_payload(details))
        said = await told(node, await comes(node, identity()), error)
        below = said["details"]["causes"]
        assert (len(below), below[0] == below[-1], len(below[0]["message"])) == (32, True, MAX_CAUSE_MESSAGE)
        assert said["details"]["details"]["details_left_out"].endswith("bytes of JSON, over the limit of 1048576")
