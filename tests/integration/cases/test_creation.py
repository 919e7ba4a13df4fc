"""Acceptance: creating jobs, at both doors of clients."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import httpx
import pydantic
import pytest

from holon import Blueprint
from holon.client import Client, CreatedJob, JobRequest
from holon.context import ActionFactory
from holon.errors import AlreadyExists, InvalidArgument, NotFound, Unauthenticated
from holon.testing import RunningNode
from tests.integration.cases.site import GUARD, Start, create, ended, http, one_task

CREATE = "/api/v1/jobs/my_flow"


@dataclass
class Order:
    n: int
    note: str = ""


def my_flow() -> Blueprint:
    bp = Blueprint("my_flow", api_endpoint="/jobs/my_flow", api_version="v1")

    @bp.handler(is_start=True)
    async def start(initial_data: Order, state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["twice"] = 2 * initial_data.n
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def jobs(node: RunningNode) -> list[str]:
    return [job.id async for job in node.client.list_jobs()]


async def test_a01_a_job_is_accepted_with_an_id_of_its_own_and_can_be_read_at_once(start: Start) -> None:
    async with start(my_flow()) as node, http(node) as door:
        replies = [await door.post(CREATE, json={"initial_data": {"n": n}}) for n in range(2)]
        assert [reply.status_code for reply in replies] == [202, 202]
        assert [reply.json()["status"] for reply in replies] == ["accepted", "accepted"]
        ids = {reply.json()["job_id"] for reply in replies} | {await create(node, "my_flow", {"n": 3})}
        assert len(ids) == 3
        for job_id in ids:
            job = (await door.get(f"/api/v1/jobs/{job_id}")).json()
            assert (job["id"], job["blueprint_name"]) == (job_id, "my_flow")
            assert job["status"] in ("pending", "running", "finished")
            assert (await node.client.get_job(job_id)).id == job_id


async def test_a01_a_blueprint_without_a_version_has_a_path_without_one(start: Start) -> None:
    bp = Blueprint("plain", api_endpoint="plain")

    @bp.handler(is_start=True, is_end=True)
    async def only() -> None: ...

    async with start(bp) as node, http(node) as door:
        assert (await door.post("/api/plain", json={})).status_code == 202
        assert (await door.post("/api/v1/plain", json={})).status_code == 404


async def test_a02_without_a_token_or_with_a_foreign_one_no_job_is_made(start: Start) -> None:
    async with start(my_flow()) as node:
        told = set()
        for headers in ({"X-Other": "1"}, {"X-Client-Token": "another"}):
            async with http(node, **headers) as door:
                reply = await door.post(CREATE, json={"initial_data": {"n": 1}})
                assert (reply.status_code, reply.json()["code"]) == (401, "TOKEN_INVALID")
                told.add(reply.json()["error"])
        assert told == {"Missing X-Client-Token header", "Unauthorized: Invalid token"}
        missing = "no client token in the metadata; send `authorization: Bearer <token>`, or x-client-token"
        for token, said in ((None, missing), ("another", "Unauthorized: Invalid token")):
            url = f"grpcs://localhost:{node.ports.client}"
            async with Client(url, token, node.folder / "ca.pem") as stranger:
                with pytest.raises(Unauthenticated) as error:
                    await stranger.create_job("my_flow", {"n": 1})
                assert error.value.code == "TOKEN_INVALID"
                assert error.value.message == said
        assert await jobs(node) == []


async def test_a03_a_node_with_nothing_but_a_client_token_accepts_it(start: Start) -> None:
    token = "my-secret-client-token"
    async with start(my_flow(), CLIENT_TOKEN=token) as node, http(node, **{"X-Client-Token": token}) as door:
        assert (await door.post(CREATE, json={"initial_data": {"n": 1}})).status_code == 202


ORDER: Any = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}}}


async def test_a04_a_schema_that_is_written_out_as_the_hint_is_the_contract(start: Start) -> None:
    bp = Blueprint("order", api_endpoint="/jobs/order")

    @bp.handler(is_start=True, is_end=True)
    async def only(initial_data: ORDER) -> dict[str, Any]:
        return {"was": initial_data}

    async with start(bp) as node:
        with pytest.raises(InvalidArgument) as error:
            await node.client.create_job("order", {"n": 0})
        assert [one.field for one in error.value.details] == ["initial_data.n"]
        job = await node.run("order", {"n": 1, "more": True})
        assert job.result == {"was": {"n": 1, "more": True}}


BAD_INPUT: dict[str, tuple[Any, list[tuple[str, str | None]]]] = {
    "missing": ({"note": "x"}, [("initial_data.n", "is required")]),
    "of another type": ({"n": "x"}, [("initial_data.n", None)]),
    "no whole number": ({"n": 1.5}, [("initial_data.n", None)]),
    "a boolean for a number": ({"n": True}, [("initial_data.n", None)]),
    "one field too many": ({"n": 1, "colour": "red"}, [("initial_data.colour", "is not allowed")]),
    "all at once": ({"note": 1, "colour": "red"}, [("initial_data.n", None), ("initial_data.note", None)]),
    "no object": ([1], [("initial_data", None)]),
}


@pytest.mark.parametrize("bad", BAD_INPUT)
async def test_a04_data_against_the_schema_is_refused_alike_at_both_doors_and_makes_no_job(
    start: Start, bad: str
) -> None:
    data, fields = BAD_INPUT[bad]
    async with start(my_flow()) as node, http(node) as door:
        reply = await door.post(CREATE, json={"initial_data": data})
        with pytest.raises(InvalidArgument) as error:
            await node.client.create_job("my_flow", data)
        told = reply.json()
        assert (reply.status_code, told["code"], error.value.code) == (400, "INPUT_INVALID", "INPUT_INVALID")
        assert told["error"] == error.value.message
        details = [(one["field"], one["reason"]) for one in told["details"]]
        assert details == [(one.field, one.reason) for one in error.value.details]
        for field, reason in fields:
            assert field in dict(details)
            assert reason in (None, dict(details)[field])
        assert await jobs(node) == []


async def test_initial_data_may_be_left_out_and_null_is_refused_by_its_name(start: Start) -> None:
    async with start(one_task()) as node, http(node) as door:
        path = "/api/v1/jobs/one_task"
        reply = await door.post(path, json={"initial_data": None})
        told = reply.json()
        assert (reply.status_code, told["code"]) == (400, "INPUT_INVALID")
        assert told["error"] == "initial_data is null, but must be a JSON object"
        assert [one["field"] for one in told["details"]] == ["initial_data"]
        assert await jobs(node) == []
        assert (await door.post(path, json={})).status_code == 202


class Line(pydantic.BaseModel):
    sku: str
    amount: int

    @pydantic.field_validator("amount")
    @classmethod
    def _even(cls, amount: int) -> int:
        if amount % 2:
            raise ValueError("must be even")
        return amount


class Bill(pydantic.BaseModel):
    lines: list[Line]
    least: int = 0
    most: int = 10

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Bill:
        if self.least > self.most:
            raise ValueError("least is more than most")
        return self


@dataclass
class Cart:
    lines: list[Line]
    gift: Line | None = None

    def __post_init__(self) -> None:
        if not self.lines:
            raise ValueError("a cart without lines")


def billing(name: str = "billing", hint: Any = Bill) -> Blueprint:
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")

    async def start(initial_data: Any) -> int:
        return len(initial_data.lines)

    start.__annotations__["initial_data"] = hint
    bp.handler(is_start=True, is_end=True)(start)
    return bp


A, B = {"sku": "a", "amount": 2}, {"sku": "b", "amount": 3}
REFUSED: dict[str, tuple[str, Any, list[tuple[str, str]]]] = {
    "a field": ("billing", {"lines": [A, B]}, [("initial_data.lines.1.amount", "Value error, must be even")]),
    "several fields": (
        "billing",
        {"lines": [B, A, B]},
        [(f"initial_data.lines.{at}.amount", "Value error, must be even") for at in (0, 2)],
    ),
    "all of it": (
        "billing",
        {"lines": [A], "least": 2, "most": 1},
        [("initial_data", "Value error, least is more than most")],
    ),
    "within a dataclass": ("cart", {"lines": [B]}, [("initial_data.lines.0.amount", "Value error, must be even")]),
    "an optional one": (
        "cart",
        {"lines": [A], "gift": B},
        [("initial_data.gift.amount", "Value error, must be even")],
    ),
    "the dataclass itself": ("cart", {"lines": []}, [("initial_data", "a cart without lines")]),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a04_what_the_code_of_a_class_refuses_is_refused_alike_at_both_doors_and_makes_no_job(
    start: Start, what: str
) -> None:
    name, data, fields = REFUSED[what]
    async with start(billing(), billing("cart", Cart)) as node, http(node) as door:
        reply = await door.post(f"/api/v1/jobs/{name}", json={"initial_data": data})
        with pytest.raises(InvalidArgument) as error:
            await node.client.create_job(name, data)
        told = reply.json()
        assert (reply.status_code, told["code"], error.value.code) == (400, "INPUT_INVALID", "INPUT_INVALID")
        assert told["error"] == error.value.message
        assert told["error"] == f"Input validation failed for blueprint {name!r}: {fields[0][0]} {fields[0][1]}"
        assert [(one["field"], one["reason"]) for one in told["details"]] == fields
        assert [(one.field, one.reason) for one in error.value.details] == fields
        many = await node.client.create_jobs([JobRequest(name, one) for one in ({"lines": [A]}, data, {"lines": [A]})])
        assert isinstance(many[1], InvalidArgument)
        assert many[1].message == told["error"]
        good = [one.job_id for one in many if isinstance(one, CreatedJob)]
        assert [(await ended(node, job_id)).result for job_id in good] == [1, 1]
        assert sorted(await jobs(node)) == sorted(good)


async def test_a_validator_that_blocks_holds_up_its_own_creation_alone(start: Start) -> None:
    began, goes_on = threading.Event(), threading.Event()

    class Slow(pydantic.BaseModel):
        lines: list[int]

        @pydantic.model_validator(mode="after")
        def _look(self) -> Slow:
            began.set()
            if not goes_on.wait(GUARD):
                raise ValueError("held up")
            return self

    async with start(billing("slow", Slow), one_task()) as node:
        creating = asyncio.create_task(create(node, "slow", {"lines": [1]}))
        assert await asyncio.to_thread(began.wait, GUARD)
        await create(node, "one_task", {})
        assert not creating.done()
        goes_on.set()
        assert (await ended(node, await creating)).result == 1


async def test_a_validator_that_breaks_is_no_fault_of_its_caller_and_ends_nothing(start: Start) -> None:
    class Broken(pydantic.BaseModel):
        lines: list[int]

        @pydantic.model_validator(mode="after")
        def _look(self) -> Broken:
            raise SystemExit(f"{self.lines}")

    async with start(billing("broken", Broken), billing()) as node, http(node) as door:
        reply = await door.post("/api/v1/jobs/broken", json={"initial_data": {"lines": [7]}})
        assert (reply.status_code, reply.json()["code"]) == (500, "INTERNAL")
        assert "7" not in reply.json()["error"]
        assert (await node.run("billing", {"lines": [A]})).result == 1


async def test_a05_valid_data_is_accepted_and_reaches_the_handler_as_its_type(start: Start) -> None:
    async with start(my_flow()) as node:
        job = await node.run("my_flow", {"n": 4, "note": "x"})
        assert (job.status, job.result) == ("finished", {"twice": 8})


# Creating again --------------------------------------------------------------------------------------------------


async def test_an_idempotency_key_makes_one_job_whatever_the_door(start: Start) -> None:
    key = {"Idempotency-Key": "once"}
    body = {"initial_data": {"n": 1, "note": "x"}, "dispatch_timeout": 30}
    async with start(my_flow()) as node, http(node) as door:
        ids = [
            (await door.post(CREATE, json=body, headers=key)).json()["job_id"],
            (await door.post(CREATE, json={**body, "dispatch_timeout": 30.0}, headers=key)).json()["job_id"],
        ]
        again = await node.client.create_job("my_flow", {"note": "x", "n": 1}, request_id="once", dispatch_timeout=30.0)
        assert again.existing
        assert {*ids, again.job_id} == {ids[0]}
        assert await jobs(node) == [ids[0]]


async def test_one_key_asked_by_many_at_once_makes_one_job(start: Start) -> None:
    async with start(my_flow()) as node:
        calls = [node.client.create_job("my_flow", {"n": 1}, request_id="once") for _ in range(20)]
        made = await asyncio.gather(*calls)
        assert len({one.job_id for one in made}) == 1
        assert sorted(one.existing for one in made) == [False] + [True] * 19


async def test_an_idempotency_key_with_another_body_is_refused_and_makes_no_job(start: Start) -> None:
    key = {"Idempotency-Key": "once"}
    async with start(my_flow(), one_task()) as node, http(node) as door:
        first = (await door.post(CREATE, json={"initial_data": {"n": 1}}, headers=key)).json()["job_id"]
        others: list[tuple[str, Any]] = [
            (CREATE, {"initial_data": {"n": 2}}),
            (CREATE, {"initial_data": {"n": 1}, "result_timeout": 5}),
            ("/api/v1/jobs/one_task", {"initial_data": {"n": 1}}),
        ]
        for path, body in others:
            reply = await door.post(path, json=body, headers=key)
            assert (reply.status_code, reply.json()["code"]) == (409, "REQUEST_ID_REUSED")
        with pytest.raises(AlreadyExists) as error:
            await node.client.create_job("my_flow", {"n": 2}, request_id="once")
        assert error.value.code == "REQUEST_ID_REUSED"
        assert await jobs(node) == [first]


async def test_a_refused_request_does_not_use_up_its_key(start: Start) -> None:
    key = {"Idempotency-Key": "once"}
    async with start(my_flow()) as node, http(node) as door:
        assert (await door.post(CREATE, json={"initial_data": {}}, headers=key)).status_code == 400
        assert (await door.post(CREATE, json={"initial_data": {"n": 1}}, headers=key)).status_code == 202


# What is refused -------------------------------------------------------------------------------------------------


async def test_a_blueprint_without_an_endpoint_cannot_be_started_by_clients(start: Start) -> None:
    hidden = Blueprint("hidden")

    @hidden.handler(is_start=True, is_end=True)
    async def only() -> None: ...

    async with start(my_flow(), hidden) as node, http(node) as door:
        for path in ("/api/v1/jobs/hidden", "/api/hidden", "/api/v1/jobs/unknown"):
            assert (await door.post(path, json={})).status_code in (404, 405)
        for name in ("hidden", "unknown", ""):
            with pytest.raises(NotFound) as error:
                await node.client.create_job(name, {})
            assert error.value.code == "BLUEPRINT_NOT_FOUND"
            assert error.value.message.endswith("; see `holon blueprints list`")


@pytest.mark.parametrize("field", ["webhook", "Priority", "Initial_data"])
async def test_a_field_that_is_not_known_is_named_and_refused(start: Start, field: str) -> None:
    async with start(my_flow()) as node, http(node) as door:
        reply = await door.post(CREATE, json={"initial_data": {"n": 1}, field: "http://127.0.0.1/"})
        assert reply.status_code == 400
        assert [one["field"] for one in reply.json()["details"]] == [field]
        assert await jobs(node) == []


async def test_a_limit_of_transitions_that_is_none_or_over_the_node_s_is_refused(start: Start) -> None:
    async with start(my_flow(), MAX_TRANSITIONS_PER_JOB=50) as node, http(node) as door:
        for wrong in (0, 51, 1.5, True, "1"):
            reply = await door.post(CREATE, json={"initial_data": {"n": 1}, "max_transitions": wrong})
            assert (reply.status_code, [one["field"] for one in reply.json()["details"]]) == (400, ["max_transitions"])
        with pytest.raises(InvalidArgument, match="a whole number from 1 to 50"):
            await node.client.create_job("my_flow", {"n": 1}, max_transitions=51)
        assert await jobs(node) == []


async def test_a_priority_and_a_limit_are_part_of_what_a_request_id_stands_for(start: Start) -> None:
    async with start(my_flow()) as node:
        given: dict[str, Any] = {"request_id": "r", "priority": 2, "max_transitions": 5}
        job_id = await create(node, "my_flow", {"n": 1}, **given)
        assert await create(node, "my_flow", {"n": 1}, **given) == job_id
        for other in ({"priority": 3}, {"max_transitions": 6}):
            with pytest.raises(AlreadyExists):
                await node.client.create_job("my_flow", {"n": 1}, **{**given, **other})


@pytest.mark.parametrize("field", ["dispatch_timeout", "result_timeout"])
async def test_a_timeout_that_is_none_is_refused(start: Start, field: str) -> None:
    async with start(my_flow()) as node, http(node) as door:
        for value in (0, -1, "5", True, 1e300, [1]):
            reply = await door.post(CREATE, json={"initial_data": {"n": 1}, field: value})
            assert (reply.status_code, value) == (400, value)
            assert [one["field"] for one in reply.json()["details"]] == [field]
        for wrong in (0.0, -1.0):
            options: dict[str, Any] = {field: wrong}
            with pytest.raises(InvalidArgument) as error:
                await node.client.create_job("my_flow", {"n": 1}, **options)
            assert [one.field for one in error.value.details] == [field]
        assert await jobs(node) == []


async def test_a_body_that_is_no_json_object_is_refused(start: Start) -> None:
    async with start(my_flow()) as node, http(node) as door:
        for body in (b"{", b"[]", b'"x"', b'{"initial_data": {"n": NaN}}', b'{"initial_data": {"n": 1}} x'):
            reply = await door.post(CREATE, content=body)
            assert (reply.status_code, body) == (400, body)
            assert reply.json().keys() == {"error", "code", "details"}
        assert await jobs(node) == []


async def test_big_numbers_and_any_alphabet_come_back_as_they_were_given(start: Start) -> None:
    bp = Blueprint("echo", api_endpoint="/jobs/echo", api_version="v1")

    @bp.handler(is_start=True, is_end=True)
    async def only(initial_data: dict[str, Any]) -> dict[str, Any]:
        return initial_data

    data = {"big": 2**63 - 1, "float": 3.0, "text": "żółć 😀 \u2028", "null": None, "deep": {"list": [1, [2, {}]]}}
    async with start(bp) as node, http(node) as door:
        job_id = (await door.post("/api/v1/jobs/echo", json={"initial_data": data})).json()["job_id"]
        assert (await ended(node, job_id)).result == data
        shown: httpx.Response = await door.get(f"/api/v1/jobs/{job_id}")
        assert shown.json()["result"] == data
