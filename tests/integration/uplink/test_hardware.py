"""What a task asks of its worker beside the skill, from a parent down to the machine that does it."""

from __future__ import annotations

from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Device, Machine, Skill
from holon.domain.task import SUCCESS, Outcome
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.wire.resources import resources_message
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.grpc_node import Node, json_payload, offering
from tests.integration.holons_below import identity
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.children import child_of
from tests.integration.uplink.offers_heard import Offered
from tests.integration.uplink.paying import above

pytestmark = pytest.mark.usefixtures("withdrawn_soon")

DONE = Outcome(SUCCESS, b"{}")
SMALL, LARGE = Machine(properties={"ram_gb": 8}), Machine((Device("gpu", "RTX 4090", "0"),), {"ram_gb": 64})
REQUIRED = {"ram_gb": 32, "devices": [{"model": "RTX"}]}
CAPABILITIES = types_pb2.CAPABILITY_HOLON, types_pb2.CAPABILITY_RESOURCE_REQUIREMENTS


def requiring(**more: Any) -> Blueprint:
    blueprint = Blueprint("above", "/above")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("ocr", {}, {"success": "end"}, resource_requirements={"resources": REQUIRED}, **more)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


async def test_a_task_that_is_passed_on_goes_to_the_version_and_the_machine_that_were_asked_for(
    certificates: Certificates,
) -> None:
    async with (
        a_child(certificates, [], skills=("ocr",)) as child,
        Leaf(child.engine, "w1", Skill("ocr", "1"), machines=[LARGE]) as old,
        Leaf(child.engine, "w2", Skill("ocr", "2"), machines=[SMALL]) as small,
        Leaf(child.engine, "w3", Skill("ocr", "2"), machines=[LARGE]) as large,
    ):
        stream = await child.linked()
        for n in range(3):
            await offered(stream, f"a{n}", "ocr", {}, version_asked="1")
            assert (await old.given()).version == "1"
            more = {"resource_requirements": json_payload(REQUIRED), "resource_hint": "latin"}
            await offered(stream, f"b{n}", "ocr", {}, version_asked="2", **more)
            given = await large.given()
            assert (given.resources, given.hint) == ('{"devices":[{"model":"RTX"}],"ram_gb":32}', "latin")
        assert small.offers.empty()


@pytest.mark.parametrize("required", [{"ram_gb": None}, {"ram_gb": "x" * 5_000}, 5])
async def test_what_no_machine_can_have_is_given_back(certificates: Certificates, required: object) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child, Leaf(child.engine, "w1", Skill("ocr")):
        stream = await child.linked()
        await offered(stream, "t1", "ocr", {}, resource_requirements=json_payload(required))
        given_back = await answer(stream)
        assert given_back.rejected.reason == "UNSUITABLE"
        assert given_back.rejected.message.startswith("resource_requirements")


async def test_what_no_machine_here_has_is_given_back(certificates: Certificates, soon: None) -> None:
    async with (
        a_child(certificates, [], skills=("ocr",), escalate_after=0.2, cleanup=0.1) as child,
        Leaf(child.engine, "w1", Skill("ocr"), machines=[SMALL]),
    ):
        stream = await child.linked()
        await offered(stream, "t1", "ocr", {}, resource_requirements=json_payload(REQUIRED))
        assert (await answer(stream)).HasField("accepted")
        given_back = await answer(stream)
        assert given_back.rejected.reason == "UNSERVABLE"
        assert "lacks ram_gb 32, a device with model 'RTX'" in given_back.rejected.message


async def test_a_parent_is_told_on_which_machines_each_skill_is(certificates: Certificates) -> None:
    async with a_child(certificates, [], skills=("ocr", "crop", "bare")) as child:
        parent = Offered(await child.linked())
        async with (
            Leaf(child.engine, "w1", Skill("ocr"), Skill("crop"), machines=[SMALL]),
            Leaf(child.engine, "w2", Skill("crop"), machines=[LARGE, SMALL]),
            Leaf(child.engine, "w3", Skill("bare")),
        ):
            while {one.skill for one in parent.offerings} != {"ocr", "crop", "bare"} or len(parent.profiles) < 2:
                await parent.hear()
            ids = {one.resources.properties.data: one.profile_id for one in parent.profiles}
            on = {one.skill: list(one.profile_ids) for one in parent.offerings}
            # All of them need not be named; of none a name is told that is no machine's.
            assert on["crop"] == []
            assert on["ocr"] == [ids[b'{"ram_gb":8}']]
            assert on["bare"]
            assert not set(on["bare"]) & set(ids.values())


async def test_a_holon_gets_a_task_if_one_of_the_machines_of_its_offering_has_what_is_required(parent: Node) -> None:
    parent.engine.blueprints.register_all([requiring()])
    job_id = await above(parent)
    told = [
        worker_pb2.Profile(profile_id=f"m{n}", resources=resources_message(one)) for n, one in enumerate((SMALL, LARGE))
    ]

    async def comes(
        name: str, *capabilities: types_pb2.Capability.ValueType, profile_ids: tuple[str, ...] = ()
    ) -> bool:
        """Whether such a holon gets the task; for the other it has no room."""
        wire = await parent.stream(name)
        catalog = worker_pb2.Catalog(offerings=[offering("ocr", profile_ids=profile_ids)], profiles=told)
        await wire.send(
            worker_pb2.SessionRequest(
                hello=worker_pb2.Hello(
                    catalog=catalog,
                    capabilities=capabilities,
                    holon_identity=identity(name),
                    instance_id=f"i-{name}",
                )
            )
        )
        await wire.expect("welcome")
        session = next(one for one in parent.engine.dispatcher.sessions if one.worker_id == name)
        return bool(session.fits)

    assert not await comes("child-1", types_pb2.CAPABILITY_HOLON)
    assert not await comes("child-2", *CAPABILITIES, profile_ids=("m0", "unknown"))
    assert "the closest machine lacks ram_gb 32" in (await parent.job(job_id)).progress_message
    assert not await comes("child-3", *CAPABILITIES, profile_ids=("unknown",))
    assert await comes("child-4", *CAPABILITIES, profile_ids=("m1",))
    assert await comes("child-5", *CAPABILITIES)


async def test_a_task_finds_the_version_and_the_machine_below_a_child_that_passes_its_skill_on(parent: Node) -> None:
    parent.engine.blueprints.register_all([requiring(skill_version="2", resource_hint="latin")])
    async with (
        child_of(parent, "child-1", [], skills=("ocr",)) as below,
        Leaf(below, "w1", Skill("ocr", "2"), machines=[SMALL]) as small,
    ):
        job_id = await above(parent)
        async with Leaf(below, "w2", Skill("ocr", "2"), machines=[LARGE]) as large:
            given = await large.given()
            assert (given.asked, given.hint) == (("2", ""), "latin")
            await large.ends(given, DONE)
            assert (await parent.ended(job_id)).status == "finished"
            assert small.offers.empty()
