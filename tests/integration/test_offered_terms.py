"""A result is judged and charged by the offering that its task was offered under, whatever its worker offers since."""

from __future__ import annotations

import re
from typing import Any

import pytest

from holon.engine import catalogs
from holon.rxon.v1 import types_pb2, worker_pb2
from tests.integration.grpc_node import Node, Wire, a_node, json_payload, offering, result, updates

COMMITTED, INVALID = worker_pb2.VERDICT_COMMITTED, worker_pb2.VERDICT_INVALID


def needs(field: str, **more: Any) -> types_pb2.Payload:
    return json_payload({"type": "object", "required": [field], **more})


def offers(sequence: int, *offerings: worker_pb2.Offering) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(catalog=worker_pb2.Catalog(sequence=sequence, offerings=offerings))


async def verdict(worker: Wire, offer: worker_pb2.TaskOffer, data: Any) -> int:
    await worker.send(updates(result(offer, data)))
    return (await worker.verdict()).verdict


def held(node: Node) -> int:
    """How many contracts somebody needs, beside those of the blueprints."""
    found = re.search(r"held=(\d+)", repr(node.engine.contracts))
    assert found
    return int(found[1]) - 1


@pytest.mark.parametrize("later", [[offering("t", output_schema=needs("b"), price=1_000)], [offering("other")]])
@pytest.mark.parametrize(("data", "expected"), [({"a": 1}, COMMITTED), ({"b": 1}, INVALID)])
async def test_a_held_task_keeps_its_contract_and_its_price(
    later: list[worker_pb2.Offering], data: Any, expected: int
) -> None:
    async with a_node() as node:
        worker = await node.worker("w1", offering("t", output_schema=needs("a"), price=7))
        job_id = await node.create()
        offer = await worker.offer()
        for sequence in (1, 2):
            await worker.send(offers(sequence, *later))
            await node.until(lambda: not _offers(node, 7))
        assert await verdict(worker, offer, data) == expected
        assert (await node.ended(job_id)).cost == 7
        await worker.send(offers(3, offering("other")))
        await node.until(lambda: held(node) == 0)


def _offers(node: Node, price: int) -> bool:
    return any(one.price == price for session in node.engine.dispatcher.sessions for one in session.offerings)


async def test_a_result_counts_under_what_was_offered_before_the_catalog_that_follows_it() -> None:
    async with a_node() as node:
        worker = await node.worker("w1", offering("t", output_schema=needs("a"), price=7))
        job_id = await node.create()
        await worker.send(updates(result(await worker.offer(), {"b": 1})))
        await worker.send(offers(1, offering("other")))
        assert (await worker.verdict()).verdict == INVALID
        assert (await node.ended(job_id)).cost == 7


async def test_what_goes_on_in_a_newer_stream_keeps_its_contract_and_its_price() -> None:
    async with a_node() as node:
        old = await node.worker("w1", offering("t", output_schema=needs("a"), price=7), instance_id="one", credits=2)
        jobs = [await node.create(), await node.create()]
        given = [await old.offer(), await old.offer()]
        leases = [types_pb2.LeaseRef(task_id=one.task_id, lease_id=one.lease_id) for one in given]
        resume = worker_pb2.Resume(session_id=old.welcome.session_id, leases=leases)
        other = offering("t", output_schema=needs("b"), price=1_000)
        new = await node.worker("w1", other, instance_id="one", resume=resume, credits=2)
        assert await verdict(old, given[0], {"a": 1}) == COMMITTED
        await old.close()
        await node.until(lambda: held(node) == 2)
        assert await verdict(new, given[1], {"b": 1}) == INVALID
        assert [(await node.ended(job_id)).cost for job_id in jobs] == [7, 7]


@pytest.mark.parametrize("order", [1, -1])
async def test_an_offer_names_the_version_whose_contract_its_params_fit_and_is_judged_and_charged_by_that(
    order: int,
) -> None:
    of_both = [
        offering("t", version="1", type="old", input_schema=needs("x"), output_schema=needs("a"), price=1),
        offering("t", version="2", input_schema=needs("y"), output_schema=needs("b"), price=2),
    ]
    async with a_node() as node:
        worker = await node.worker("w1", *of_both[::order])
        for data, named, good, price in (({"x": 1}, ("1", "old"), "a", 1), ({"y": 1}, ("2", ""), "b", 2)):
            for answer, expected in (({good: 1}, COMMITTED), ({"neither": 1}, INVALID)):
                job_id = await node.create(**data)
                offer = await worker.offer()
                assert (offer.version, offer.type) == named
                assert await verdict(worker, offer, answer) == expected
                assert (await node.ended(job_id)).cost == price


async def test_what_fits_several_versions_is_of_the_first_in_the_catalog() -> None:
    async with a_node() as node:
        worker = await node.worker(
            "w1", offering("t", version="2", output_schema=needs("b")), offering("t", output_schema=needs("a"))
        )
        await node.create()
        offer = await worker.offer()
        assert offer.version == "2"
        assert await verdict(worker, offer, {"b": 1}) == COMMITTED


async def test_of_contracts_that_are_offered_no_more_a_session_has_the_newest_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogs, "MAX_EARLIER", 1)
    async with a_node() as node:
        worker = await node.worker("w1", offering("t", output_schema=needs("0"), price=7), credits=3)
        given = []
        for number in range(1, 4):
            await node.create()
            given.append(await worker.offer())
            await worker.send(offers(number, offering("t", output_schema=needs(str(number)), price=7 + number)))
            await node.until(lambda price=7 + number: _offers(node, price))  # type: ignore[misc]
        assert held(node) == 2
        assert [await verdict(worker, one, {}) for one in given] == [COMMITTED, COMMITTED, INVALID]
        await worker.close()
        await node.until(lambda: held(node) == 0)
