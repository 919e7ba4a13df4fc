"""NodeService: the workers and their skills, as operators see them, and how they drain them."""

from __future__ import annotations

import json
import math

import pytest

from holon.domain.fleet import Skill
from holon.engine import offered
from holon.rxon.v1 import node_pb2, types_pb2, worker_pb2
from tests.integration.grpc_node import (
    DRAIN,
    Node,
    hello,
    json_payload,
    offering,
    reason_of,
    result,
    updates,
)
from tests.integration.node_calls import CODE, ask, drain, finish, refused, skills, workers

# Workers and skills ----------------------------------------------------------------------------------------------


async def test_a_worker_is_listed_with_all_that_it_says_of_itself(node: Node) -> None:
    gpu = types_pb2.Device(type="gpu", model="T4", id="0", properties=types_pb2.Payload(data=b'{"vram_gb":16}'))
    machine = types_pb2.Resources(devices=[gpu], properties=types_pb2.Payload(data=b'{"cpu_cores":8}'))
    wire = await node.stream("w1")
    hi = hello(
        offering("t"),
        offering("u"),
        instance_id="process-7",
        credits=3,
        sdk=worker_pb2.SdkInfo(name="sdk", version="1.0", runtime="go 1.22"),
        labels={"zone": "a"},
    )
    hi.hello.catalog.profiles.add(profile_id="p", resources=machine)
    await wire.send(hi)
    await wire.expect("welcome")
    await node.create()
    await wire.offer()
    [worker] = await workers(node)
    assert (worker.worker_id, worker.kind, worker.instance_id) == ("w1", node_pb2.WORKER_KIND_WORKER, "process-7")
    assert (worker.connected, worker.draining, worker.node_id) == (True, False, "node-1")
    assert (worker.credits, worker.held, list(worker.skills)) == (3, 1, ["t", "u"])
    assert (worker.sdk, dict(worker.labels)) == ("sdk 1.0 go 1.22", {"zone": "a"})
    assert list(worker.resources) == [machine]
    assert worker.reputation == 1.0
    await wire.beat()
    [later] = await workers(node)
    assert later.connected_at == worker.connected_at
    assert later.last_seen_at.ToMilliseconds() >= worker.last_seen_at.ToMilliseconds() > 0


async def test_a_worker_shows_the_load_that_it_told_last_and_no_number_that_cannot_be(node: Node) -> None:
    wire = await node.worker("w1", offering("t"))
    await node.create()
    offer = await wire.offer()
    assert not (await workers(node))[0].HasField("load")

    devices = [worker_pb2.DeviceLoad(device_id=f"d{n}", percent=n, memory_used_bytes=n) for n in range(65)]
    whole = worker_pb2.WorkerLoad(cpu_percent=100, memory_used_bytes=0, memory_total_bytes=2**53 - 1, devices=devices)
    await wire.beat(1, load=whole)
    told = (await workers(node))[0].load
    assert (told.cpu_percent, told.memory_used_bytes, told.memory_total_bytes) == (100.0, 0, 2**53 - 1)
    assert [(one.device_id, one.percent) for one in told.devices] == [(f"d{n}", n) for n in range(64)]

    odd = [
        worker_pb2.DeviceLoad(device_id="d1", percent=math.nan, memory_used_bytes=-1),
        worker_pb2.DeviceLoad(device_id="", percent=1),
        worker_pb2.DeviceLoad(device_id="x" * 129, percent=1),
        worker_pb2.DeviceLoad(device_id="a\nb", percent=1),
    ]
    await wire.beat(2, load=worker_pb2.WorkerLoad(cpu_percent=-0.1, memory_used_bytes=2**53, devices=odd))
    told = (await workers(node))[0].load
    assert told == node_pb2.MachineLoad(devices=[node_pb2.MachineDeviceLoad(device_id="d1")])
    # What says nothing at all leaves it, and who says it lives, and keeps its task.
    await wire.beat(3, load=worker_pb2.WorkerLoad(cpu_percent=math.inf))
    await wire.beat(4, load=worker_pb2.WorkerLoad(cpu_percent=100.1))
    await wire.beat(5, load=worker_pb2.WorkerLoad(memory_used_bytes=-1))
    await wire.beat(6)
    assert (await workers(node))[0].load == told
    await wire.send(updates(result(offer, {})))
    assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED


async def test_properties_that_no_task_can_require_are_named_to_the_worker_and_to_operators(node: Node) -> None:
    inside = json_payload({"properties": {"vram_gb": 24}})
    gpus = [types_pb2.Device(type="gpu", id=str(n), properties=inside) for n in range(2)]
    wire = await node.stream("w1")
    hi = hello(offering("t"))
    hi.hello.catalog.profiles.add(profile_id="p")
    hi.hello.catalog.profiles.add(profile_id="q", resources=types_pb2.Resources(devices=gpus, properties=inside))
    await wire.send(hi)
    [said] = (await wire.expect("welcome")).warnings
    assert said.startswith("catalog.profiles.1.resources.properties has an object 'properties' in it")
    assert "and 2 others. No task can require what is in such an object; move its properties out of it" in said
    assert list((await workers(node))[0].warnings) == [said]

    changed = worker_pb2.Catalog(sequence=1, offerings=[offering("t")])
    changed.profiles.add(resources=types_pb2.Resources(devices=gpus[:1]))
    await wire.send(worker_pb2.SessionRequest(catalog=changed))
    await node.until(lambda: said not in node.engine.fleet.workers()[0].catalog.warnings)
    [said] = (await workers(node))[0].warnings
    assert said.startswith("catalog.profiles.0.resources.devices.0.properties has an object")
    assert "others" not in said
    changed.sequence, changed.profiles[0].resources.devices[0].properties.data = 2, b'{"vram_gb":24}'
    await wire.send(worker_pb2.SessionRequest(catalog=changed))
    await node.until(lambda: not node.engine.fleet.workers()[0].catalog.warnings)


async def test_workers_that_have_much_loaded_are_listed_in_pages_that_fit(node: Node) -> None:
    for number in range(5):
        hi = hello(offering("t", price=number), offering("t", version="2", price=3), offering("u"))
        hi.hello.catalog.hot_skills.append("t")
        hi.hello.catalog.cached.extend(chr(0x1D11E) * 250 + f"{n:06}" for n in range(1_000))
        wire = await node.stream(f"w{number}")
        await wire.send(hi)
        await wire.expect("welcome")
    first = await ask(node, "ListWorkers", node_pb2.ListWorkersRequest(), node_pb2.ListWorkersResponse.FromString)
    assert 1 < len(first.workers) < 5
    told = [*first.workers, *await workers(node, page_token=first.next_page_token)]
    assert [(list(one.hot_skills), len(one.cached), dict(one.prices)) for one in told] == [
        (["t"], 1_000, {"t": max(number, 3)}) for number in range(5)
    ]


async def test_workers_are_listed_by_id_in_pages_by_skill_and_while_they_are_connected(node: Node) -> None:
    wires = {name: await node.worker(name, offering(skill)) for name, skill in (("w2", "t"), ("w1", "u"), ("w3", "t"))}
    assert [one.worker_id for one in await workers(node)] == ["w1", "w2", "w3"]
    assert [one.worker_id for one in await workers(node, skill="t")] == ["w2", "w3"]
    assert len(await workers(node, connected=True)) == 3
    assert await workers(node, connected=False) == []
    first = await ask(
        node, "ListWorkers", node_pb2.ListWorkersRequest(page_size=2), node_pb2.ListWorkersResponse.FromString
    )
    assert [one.worker_id for one in first.workers] == ["w1", "w2"]
    assert [one.worker_id for one in await workers(node, page_size=2, page_token=first.next_page_token)] == ["w3"]
    await wires["w2"].send(DRAIN)
    await wires["w2"].close()
    await node.until(lambda: len(node.engine.fleet) == 2)
    assert [one.worker_id for one in await workers(node)] == ["w1", "w3"]


async def test_a_skill_is_listed_once_for_each_contract_with_who_provides_it_and_its_lowest_price(node: Node) -> None:
    schema = json_payload({"type": "object", "required": ["n"]})
    same = json_payload({"required": ["n"], "type": "object"})
    await node.worker("w1", offering("t", input_schema=schema, price=7, description="does t"), offering("u"))
    await node.worker("w2", offering("t", input_schema=same, price=5, description="does t"))
    await node.worker("w3", offering("t", version="2", statuses=["unsure"]))
    told = await skills(node)
    assert [(one.name, one.version, one.provider_count) for one in told] == [("t", "", 2), ("t", "2", 1), ("u", "", 1)]
    first, second, third = told
    assert (first.lowest_price, first.description) == (5, "does t")
    assert json.loads(first.input_schema.data) == {"type": "object", "required": ["n"]}
    assert list(second.statuses) == ["unsure"]
    assert not third.HasField("lowest_price")
    assert not third.HasField("input_schema")
    page = await ask(
        node, "ListSkills", node_pb2.ListSkillsRequest(page_size=1), node_pb2.ListSkillsResponse.FromString
    )
    assert [one.version for one in await skills(node, page_token=page.next_page_token)] == ["2", ""]


async def test_what_tells_a_skill_apart_is_worked_out_once_however_often_it_is_listed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out: list[str] = []
    plain = offered.contract_text

    def counted(skill: Skill) -> bytes:
        worked_out.append(skill.name)
        return plain(skill)

    monkeypatch.setattr(offered, "contract_text", counted)
    schema = json_payload({"type": "object", "required": ["n"]})
    await node.worker("w1", *(offering(f"s{n}", input_schema=schema) for n in range(20)))
    token = ""
    for size in (1, 7, 0):
        request = node_pb2.ListSkillsRequest(page_size=size, page_token=token)
        page = await ask(node, "ListSkills", request, node_pb2.ListSkillsResponse.FromString)
        token = page.next_page_token
    assert [one.name for one in page.skills] == sorted(f"s{n}" for n in range(20))[8:]
    # Somebody else comes, and goes.
    other = await node.worker("w2", offering("s3", input_schema=schema))
    assert [one.provider_count for one in await skills(node) if one.name == "s3"] == [2]
    await other.send(DRAIN)
    await other.close()
    await node.until(lambda: len(node.engine.fleet) == 1)
    assert [one.provider_count for one in await skills(node) if one.name == "s3"] == [1]
    assert sorted(worked_out) == sorted([*(f"s{n}" for n in range(20)), "s3"])


async def test_a_new_catalog_replaces_what_is_listed(node: Node) -> None:
    worker = await node.worker("w1", offering("t"))
    catalog = worker_pb2.Catalog(sequence=1, offerings=[offering("v")])
    await worker.send(worker_pb2.SessionRequest(catalog=catalog))
    await node.until(lambda: [one.skill.name for one in node.engine.fleet.skills()] == ["v"])
    assert [one.name for one in await skills(node)] == ["v"]


async def join_large(node: Node, worker_id: str) -> None:
    """A worker that says of its machines as much as it may, with their numbers written out."""
    wire = await node.stream(worker_id)
    hi = hello(offering("t"), labels={"zone": worker_id})
    for n in range(32):
        properties = json_payload({f"p{n}": "x" * 65_000})
        hi.hello.catalog.profiles.add(resources=types_pb2.Resources(properties=properties))
    await wire.send(hi)
    await wire.expect("welcome")


async def test_pages_of_workers_end_before_they_do_not_fit_into_an_answer_and_a_drain_is_answered(node: Node) -> None:
    names = ["w1", "w2", "w3"]
    for name in names:
        await join_large(node, name)
    await node.worker("good-1", offering("good"))
    seen, token = [], ""
    for wanted in (["good-1", "w1"], ["w2"], ["w3"]):
        request = node_pb2.ListWorkersRequest(page_token=token)
        page = await ask(node, "ListWorkers", request, node_pb2.ListWorkersResponse.FromString)
        assert [one.worker_id for one in page.workers] == wanted
        seen += page.workers
        token = page.next_page_token
    assert not token
    assert [len(one.resources) for one in seen] == [0, 32, 32, 32]
    drained = await drain(node, "w1")
    assert (drained.draining, dict(drained.labels), len(drained.resources)) == (True, {"zone": "w1"}, 0)


async def test_pages_of_skills_end_before_they_do_not_fit_into_an_answer(node: Node) -> None:
    for worker in range(2):
        large = [json_payload({"minProperties": n, "description": "x" * 60_000}) for n in range(30)]
        offers = [offering(f"s{worker}{n:02}", input_schema=one, output_schema=one) for n, one in enumerate(large)]
        await node.worker(f"w{worker + 1}", *offers)
    names, pages, token = [], 0, ""
    while token or not pages:
        request = node_pb2.ListSkillsRequest(page_token=token, page_size=1_000)
        page = await ask(node, "ListSkills", request, node_pb2.ListSkillsResponse.FromString)
        assert page.ByteSize() <= 3 * 2**20
        names += [one.name for one in page.skills]
        pages, token = pages + 1, page.next_page_token
    assert (names, pages) == ([f"s{worker}{n:02}" for worker in range(2) for n in range(30)], 3)


# Draining a worker -----------------------------------------------------------------------------------------------


async def test_a_drained_worker_ends_what_it_holds_and_gets_nothing_new_until_that_is_taken_back(node: Node) -> None:
    worker = await node.worker(credits=10)
    await node.create()
    offer = await worker.offer()
    drained = await drain(node, "w1", reason="a new disk")
    assert (drained.draining, drained.held, drained.connected) == (True, 1, True)
    job_id = await node.create()
    await finish(worker, offer)
    assert (await node.job(job_id)).progress_message == "waiting: every worker with skill 't' is draining"
    await worker.beat()
    assert not (await drain(node, "w1", undo=True)).draining
    offer = await worker.offer()
    assert offer.job_id == job_id
    await finish(worker, offer)
    assert (await node.ended(job_id)).status == "finished"


async def test_a_drain_outlives_a_reconnect_of_the_same_process_and_not_its_restart(node: Node) -> None:
    await node.worker(instance_id="process-1")
    await drain(node, "w1")
    again = await node.worker(instance_id="process-1")
    [seen] = await workers(node)
    assert seen.draining
    job_id = await node.create()
    await again.beat()
    restarted = await node.worker(instance_id="process-2")
    assert (await restarted.offer()).job_id == job_id
    [seen] = await workers(node)
    assert not seen.draining


async def test_a_drain_of_a_worker_that_left_can_be_taken_back(node: Node) -> None:
    worker = await node.worker(instance_id="process-1")
    await drain(node, "w1")
    await worker.send(DRAIN)
    await worker.close()
    await node.until(lambda: not len(node.engine.fleet))
    gone = await drain(node, "w1", undo=True)
    assert (gone.worker_id, gone.connected, gone.node_id) == ("w1", False, "")
    await node.worker(instance_id="process-1")
    [back] = await workers(node)
    assert not back.draining


async def test_a_worker_that_leaves_by_itself_is_not_held_back(node: Node) -> None:
    worker = await node.worker()
    await worker.send(DRAIN)
    await worker.beat()
    [leaving] = await workers(node)
    assert leaving.draining
    assert (await drain(node, "w1", undo=True)).draining


async def test_an_unknown_worker_is_not_found(node: Node) -> None:
    for undo in (False, True):
        error = await refused(node, "DrainWorker", node_pb2.DrainWorkerRequest(worker_id="nobody", undo=undo))
        assert (error.code(), reason_of(error)) == (CODE.NOT_FOUND, "WORKER_NOT_FOUND")
