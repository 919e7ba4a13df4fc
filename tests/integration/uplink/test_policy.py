"""Which skills a job may use, over holons below each other: a limit goes down with its tasks, and only shrinks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.client import Client
from holon.domain.fleet import Skill
from holon.domain.policy import Allowed
from holon.domain.task import SUCCESS, Outcome
from holon.engine.requests import Creating
from holon.errors import BlueprintError
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.grpc_node import Node, json_payload, offering
from tests.integration.holon_line import a_holon, passing
from tests.integration.holons_below import comes, identity
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.children import child_of

DONE = Outcome(SUCCESS, b"{}")


def asking(name: str, *, leaves: list[str] | None = None) -> Blueprint:
    """Has the skills that it is given done at once; `leaves` is what it lets those use."""
    blueprint = Blueprint(name, "/" + name)

    @blueprint.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        more: dict[str, Any] = {} if leaves is None else {"allowed_skills": leaves}
        items: list[Any] = [{"task_type": one, **more} for one in initial_data["of"]]
        actions.dispatch_parallel(items, "end")

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


def limit(*skills: str) -> worker_pb2.TaskOffer:
    return worker_pb2.TaskOffer(lineage=types_pb2.Lineage(skill_limit=types_pb2.SkillLimit(skills=skills)))


async def test_a_child_does_what_it_may_and_sends_nothing_where_it_may_not(certificates: Certificates) -> None:
    async with (
        a_child(certificates, [asking("t")]) as child,
        Leaf(child.engine, "w1", Skill("a"), Skill("b")) as leaf,
    ):
        stream = await child.linked()
        assert types_pb2.CAPABILITY_SKILL_LIMIT in stream.hello.capabilities
        await offered(stream, "t1", "t", {"of": ["a"]}, lineage=limit("t", "a").lineage)
        assert (await answer(stream)).HasField("accepted")
        given = await leaf.given()
        # What goes further down is no more than that.
        assert (given.skill, given.allowed_skills) == ("a", ("a", "t"))
        await leaf.ends(given, DONE)
        assert (await stream.result()).result.status == "success"

        await offered(stream, "t2", "t", {"of": ["a", "b"]}, lineage=limit("t", "a").lineage)
        result = (await stream.result()).result
        assert (result.status, result.error.code) == ("failure", "CHILD_FAILED")
        assert [one.code for one in result.error.causes] == ["POLICY_DENIED"]
        assert "'b', but the job may only use 'a', 't'. Nothing was dispatched" in result.error.message
        assert leaf.offers.empty()


NO_SKILLS = worker_pb2.TaskOffer(lineage=types_pb2.Lineage(skill_limit=types_pb2.SkillLimit(no_skills=True)))


@pytest.mark.parametrize("given", [limit(), NO_SKILLS, limit("t", "b")])
async def test_a_child_that_may_use_nothing_that_it_needs_sends_nothing(
    certificates: Certificates, given: worker_pb2.TaskOffer
) -> None:
    async with a_child(certificates, [asking("t")]) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "t", {"of": ["a"]}, lineage=given.lineage)
        assert [one.code for one in (await stream.result()).result.error.causes] == ["POLICY_DENIED"]
        assert leaf.offers.empty()


@pytest.mark.parametrize("given", [None, limit("t", "a", "b")])
async def test_a_childs_operator_may_allow_its_parents_tasks_less(
    certificates: Certificates, given: worker_pb2.TaskOffer | None
) -> None:
    more: dict[str, Any] = {} if given is None else {"lineage": given.lineage}
    async with (
        a_child(certificates, [asking("t")], allowed_skills=("a", "c")) as child,
        Leaf(child.engine, "w1", Skill("a"), Skill("b")) as leaf,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "t", {"of": ["b"]}, **more)
        assert [one.code for one in (await stream.result()).result.error.causes] == ["POLICY_DENIED"]
        await offered(stream, "t2", "t", {"of": ["a"]}, **more)
        assert (await leaf.given()).allowed_skills == (("a", "c") if given is None else ("a",))


async def test_a_limit_that_is_none_is_given_back_and_no_job_is_made(certificates: Certificates) -> None:
    async with a_child(certificates, [asking("t")]) as child:
        stream = await child.linked()
        for number, wrong in enumerate((limit(""), limit("x" * 129), limit(*map(str, range(257))))):
            await offered(stream, f"t{number}", "t", {"of": []}, lineage=wrong.lineage)
            rejected = (await answer(stream)).rejected
            assert rejected.reason == "UNSUITABLE"
            assert rejected.message.startswith("lineage.skill_limit has ")
        wrong = limit("t")
        wrong.lineage.skill_limit.no_skills = True
        await offered(stream, "t9", "t", {"of": []}, lineage=wrong.lineage)
        rejected = (await answer(stream)).rejected
        assert rejected.reason == "UNSUITABLE"
        assert rejected.message.startswith("lineage.skill_limit.no_skills is set, but the list has 1")
        assert await child.jobs() == []


async def test_a_job_may_use_nothing_where_its_client_leaves_out_empty_messages(parent: Node) -> None:
    request = job_pb2.CreateJobRequest(blueprint_name="relay", initial_data=json_payload({"n": 1}))
    request.skill_limit.no_skills = True
    job_id = (await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)).job_id
    assert (await parent.ended(job_id)).error.code == "POLICY_DENIED"


@pytest.mark.parametrize(
    ("own", "leaves", "below"),
    [
        (None, None, None),
        (["t", "a", "b"], None, ("a", "b", "t")),
        (None, ["a"], ("a", "t")),
        (["t", "a", "b"], ["b", "c"], ("b", "t")),
    ],
)
async def test_a_task_takes_down_what_both_its_job_and_its_blueprint_allow(
    parent: Node, own: list[str] | None, leaves: list[str] | None, below: Allowed
) -> None:
    parent.engine.blueprints.register_all([asking("above", leaves=leaves)])
    async with (
        child_of(parent, "child-1", [asking("t")]) as child,
        Leaf(child, "w1", Skill("a"), Skill("b"), Skill("c")) as leaf,
    ):
        request = job_pb2.CreateJobRequest(blueprint_name="above", initial_data=json_payload({"of": ["t"]}))
        if own is not None:
            request.skill_limit.skills.extend(own)
        await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
        await parent.until(lambda: any(one.leases for one in parent.engine.dispatcher.sessions))
        (session,) = [one for one in parent.engine.dispatcher.sessions if one.leases]
        (offer,) = session.leases.values()
        assert offer.allowed_skills == below
        assert leaf.offers.empty()


async def test_a_holon_that_keeps_to_no_limit_is_offered_no_task_that_has_one(parent: Node) -> None:
    old = await comes(parent, identity("old"), "child-1")
    plain = await parent.worker("w1", offering("good"))
    free = await parent.create(skill="t")
    assert (await old.offer()).job_id == free
    limited: dict[str, Any] = {"blueprint_name": "relay", "skill_limit": types_pb2.SkillLimit(skills=["t", "good"])}
    asked = job_pb2.CreateJobRequest(initial_data=json_payload({"skill": "t"}), **limited)
    job_id = (await parent.call("CreateJob", asked, job_pb2.CreateJobResponse.FromString)).job_id
    asked = job_pb2.CreateJobRequest(initial_data=json_payload({"skill": "good"}), **limited)
    await parent.call("CreateJob", asked, job_pb2.CreateJobResponse.FromString)
    # A plain worker uses no skill but its own.
    assert list((await plain.offer()).lineage.skill_limit.skills) == ["good", "t"]
    await old.beat(1)
    # Whatever it offers later.
    again = worker_pb2.Catalog(sequence=1, offerings=[offering("t"), offering("more")])
    await old.send(worker_pb2.SessionRequest(catalog=again))
    sessions = parent.engine.dispatcher.sessions
    await parent.until(lambda: any(one.skill == "more" for session in sessions for one in session.offerings))
    await old.beat(2)
    job = await parent.job(job_id)
    assert "every holon with skill 't' has a version that does not support allowed_skills" in job.progress_message
    keeps = [types_pb2.CAPABILITY_HOLON, types_pb2.CAPABILITY_SKILL_LIMIT]
    young = await parent.worker(
        "child-2", offering("t"), capabilities=keeps, holon_identity=identity("young"), instance_id="i2"
    )
    given = await young.offer()
    assert (given.job_id, list(given.lineage.skill_limit.skills)) == (job_id, ["good", "t"])


async def test_a_limit_stays_when_a_contract_comes_that_the_waiting_task_is_tried_on(parent: Node) -> None:
    request = job_pb2.CreateJobRequest(blueprint_name="relay", initial_data=json_payload({"n": 1}))
    request.skill_limit.skills.append("t")
    await parent.call("CreateJob", request, job_pb2.CreateJobResponse.FromString)
    schema = types_pb2.Payload(data=b'{"required":["n"]}')
    worker = await parent.worker("w1", offering("t", input_schema=schema))
    assert list((await worker.offer()).lineage.skill_limit.skills) == ["t"]


async def test_the_same_request_with_another_limit_is_another_request(parent: Node) -> None:
    jobs, ann = parent.engine.jobs, Client("ann")
    parent.engine.blueprints.register_all([asking("above")])
    created = await jobs.create(ann, Creating("above", {"of": []}, "r1", allowed_skills=("a",)))
    again = await jobs.create(ann, Creating("above", {"of": []}, "r1", allowed_skills=("a",)))
    assert (again.job_id, again.existing) == (created.job_id, True)
    for other in (None, (), ("a", "b")):
        with pytest.raises(Exception, match="'r1' was used for another job"):
            await jobs.create(ann, Creating("above", {"of": []}, "r1", allowed_skills=other))


async def test_a_limit_holds_three_levels_down_and_through_a_skill_that_is_passed_on(tmp_path: Path) -> None:
    runs: list[str] = []
    async with (
        a_holon(tmp_path, "root", passing("top", "middle"), passing("relay", "work")) as root,
        a_holon(tmp_path, "middle", passing("middle", "last"), above=root, UPLINK_SKILLS="work") as middle,
        a_holon(tmp_path, "last", passing("last", "work"), above=middle, UPLINK_SKILLS="work") as last,
    ):
        worker = last.new_worker("leaf")

        @worker.skill("work")
        async def work(params: dict[str, Any]) -> dict[str, Any]:
            runs.append("work")
            return params

        async with worker, asyncio.timeout(60):
            client = root.client
            allowed = ["middle", "last", "work"]
            job = (await client.create_job("top", {"n": 1}, allowed_skills=allowed)).job_id
            assert (await client.wait_for(job, timeout=60)).status == "finished"
            assert runs == ["work"]
            # A skill that is passed on is the same skill at every level.
            job = (await client.create_job("relay", {"n": 2}, allowed_skills=["work"])).job_id
            assert (await client.wait_for(job, timeout=60)).status == "finished"
            assert runs == ["work", "work"]
            job = (await client.create_job("top", {"n": 3}, allowed_skills=["middle", "last"])).job_id
            ended = await client.wait_for(job, timeout=60)
            assert (ended.status, ended.error and ended.error.code) == ("failed", "CHILD_FAILED")
            assert ended.error is not None
            assert [one["code"] for one in ended.error.details["causes"]] == ["CHILD_FAILED", "POLICY_DENIED"]
            assert runs == ["work", "work"]


async def test_a_skill_that_cannot_be_passed_on_is_told_of_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(
        BlueprintError, match=r"UPLINK_SKILLS: 'work' cannot be passed on: .*'work' is already registered"
    ):
        async with a_holon(
            tmp_path, "child", passing("work", "other"), PARENT_URL="grpcs://127.0.0.1:1", UPLINK_SKILLS="work"
        ):
            pass
