"""A child holon and parents that are broken, hostile or merely busy: nothing that they send costs more than itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.digest import Fingerprint
from holon.domain.fleet import Skill
from holon.domain.holarchy import HolonIdentity
from holon.domain.job import Status
from holon.domain.task import SUCCESS, Outcome
from holon.engine.requests import Creating, Listing
from holon.errors import FailedPrecondition, HolonError, ResourceExhausted, StoreUnavailable
from holon.ports import NewJob, Note, Put, StopReason
from holon.rxon.v1 import worker_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import books, parent, running, tenure, unknown
from holon.uplink.books import KIND, origin_key, owner_of
from holon.uplink.provided import Provided, text_of
from holon.uplink.tenure import Tenure
from holon.wire.stream import MOST_MESSAGE_BYTES
from tests.integration.a_child import PARENT, STORE, Child, Leaf, a_child, answer, offered, welcomed
from tests.integration.scripted_node import GUARD, Certificates, is_at_once, make_certificates
from tests.log_watch import LogWatch


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def blueprints() -> list[Blueprint]:
    echo = Blueprint("echo")

    @echo.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.go_to("end")

    @echo.handler(is_end=True)
    async def end(initial_data: dict[str, Any]) -> dict[str, Any]:
        return {"echo": initial_data.get("n")}

    waits = Blueprint("waits")

    @waits.handler("start", is_start=True)
    async def wait(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        # By no constant: else it would be known beforehand that nobody can do it.
        actions.dispatch_task(initial_data.get("of", "nobody"), {}, transitions={"success": "end"})

    @waits.handler("end", is_end=True)
    async def waited() -> None: ...

    return [echo, waits]


async def finishes(child: Child, stream: Any, task_id: str) -> None:
    """The child does what it is asked for."""
    await offered(stream, task_id, "echo", {"n": 1})
    update = await stream.result()
    while update.task_id != task_id:
        update = await stream.result()
    assert update.result.data.data == b'{"echo":1}'
    await stream.ack(task_id)


async def test_a_child_reads_as_much_as_a_parent_can_send(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        assert (await child.linked()).hello.max_message_bytes == MOST_MESSAGE_BYTES


async def test_the_end_of_a_job_that_is_at_hand_is_told_without_a_read_of_it(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        # The first asks for what does not change.
        await finishes(child, stream, "t1")
        with monkeypatch.context() as patched:
            patched.delattr(MemoryStorage, "history")
            await offered(stream, "t2", "echo", {"n": 1})
            result = (await stream.result()).result
        (job,) = [one for one in await child.jobs() if one.job.id == result.summary.job_id]
        fingerprint = Fingerprint()
        fingerprint.take_all(await child.store.history(job.job.id, 0, 100))
        assert result.summary.digest.sha256 == fingerprint.digest().sha256
        # One that is not at hand is read.
        monkeypatch.setattr(child.store, "history_at_hand", lambda _: None)
        await offered(stream, "t3", "echo", {"n": 1})
        assert (await stream.result()).result.summary.digest.event_count == job.sequence


async def test_offers_that_come_together_are_one_call_of_the_store_and_each_is_answered_by_itself(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints(), max_jobs=200) as child:
        stream, sizes = await child.linked(), list[int]()
        create = child.store.create_jobs

        async def counted(items: Sequence[NewJob], *more: Any) -> Any:
            sizes.append(len(items))
            return await create(items, *more)

        monkeypatch.setattr(child.store, "create_jobs", counted)
        skills = [*["waits"] * 80, "nothing", "waits", "waits", "waits"]
        offers = [
            worker_pb2.TaskOffer(task_id=f"t{n}", lease_id=f"l{n}", generation=1, attempt=1, skill=skill)
            for n, skill in enumerate(skills)
        ]
        offers[1].params.data = b"[]"
        offers[2].params.data = b"{"
        offers[3].attempt = 0
        offers[82].task_id = "t81"
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=offers))
        updates = {(one := await answer(stream)).lease_id: one for _ in offers}
        said = {lease: one.rejected.reason or one.result.error.code for lease, one in updates.items()}
        refused = {lease: why for lease, why in said.items() if why}
        assert refused == {
            "l1": "INVALID_INPUT_ERROR",
            "l2": "INVALID_INPUT_ERROR",
            "l3": "UNSUITABLE",
            "l80": "UNKNOWN_SKILL",
            "l82": "STALE_OFFER",
        }
        assert sum(sizes) == len(await child.jobs()) == len(offers) - len(refused)
        assert len(sizes) == 2


async def test_a_burst_of_offers_goes_no_further_than_the_limit(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints(), max_jobs=3) as child:
        stream = await child.linked()
        create = child.engine.jobs.create_for_parent

        async def slowly(*arguments: Any) -> Any:
            await asyncio.sleep(0.1)
            return await create(*arguments)

        monkeypatch.setattr(child.engine.jobs, "create_for_parent", slowly)
        offers = [
            worker_pb2.TaskOffer(task_id=f"t{n}", lease_id=f"l{n}", generation=1, attempt=1, skill="waits")
            for n in range(10)
        ]
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=offers))
        updates = [await answer(stream) for _ in offers]
        said = [one.WhichOneof("update") for one in updates]
        assert (said.count("accepted"), said.count("rejected")) == (3, 7)
        # They crossed its word of how many: perhaps nobody else can do them.
        assert {is_at_once(one) for one in updates if one.rejected.reason == "BUSY"} == {True}
        assert len(await child.jobs()) == 3


async def test_an_offer_that_crosses_the_drain_of_a_child_is_no_job_and_comes_again_at_once(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await finishes(child, stream, "t1")
        stream.came.clear()
        child.uplink.drain()
        await offered(stream, "t2", "waits")
        update = await answer(stream)
        assert (update.rejected.reason, is_at_once(update)) == ("DRAINING", True)
        # The parent heard first that there is no room any more; and before that of the first job, perhaps.
        *before, last = stream.came[: next(at for at, one in enumerate(stream.came) if one.HasField("task_updates"))]
        assert all(one.HasField("heartbeat") for one in before)
        assert (last.heartbeat.HasField("credits"), last.heartbeat.credits) == (True, 0)
        assert [one.job.blueprint for one in await child.jobs()] == ["echo"]


async def test_what_no_task_can_be_is_given_back_and_the_link_stands(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        for more in ({"generation": 0}, {"attempt": -1}):
            offer: dict[str, Any] = {"task_id": "t", "lease_id": "l", "generation": 1, "attempt": 1, **more}
            await stream.send(task_offers=worker_pb2.TaskOffers(offers=[worker_pb2.TaskOffer(skill="echo", **offer)]))
            assert (await answer(stream)).rejected.reason == "UNSUITABLE"
        await offered(stream, "x" * 600, "echo")
        assert (await answer(stream)).rejected.reason == "UNSUITABLE"
        for n, seconds in enumerate((2**63 - 1, -(2**63))):
            await offered(stream, f"long-{n}", "waits", time_left=Duration(seconds=seconds, nanos=2**31 - 1))
        assert (await answer(stream)).HasField("accepted")
        await finishes(child, stream, "good")
        assert child.parent.waiting == 0


async def test_a_task_that_is_offered_again_before_its_first_offer_is_answered_goes_on_under_the_newer(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        offers = [
            worker_pb2.TaskOffer(task_id="t", lease_id=f"l{n}", generation=1, attempt=n, skill="waits")
            for n in (1, 2, 3)
        ]
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=offers))
        said = [await answer(stream) for _ in range(4)]
        # No more than two are kept waiting.
        assert [(one.lease_id, one.WhichOneof("update"), one.rejected.reason) for one in said] == [
            ("l3", "rejected", "BUSY"),
            ("l1", "accepted", ""),
            ("l1", "rejected", "STALE_OFFER"),
            ("l2", "accepted", ""),
        ]
        (job,) = await child.jobs()
        assert job.job.status is Status.WAITING_FOR_WORKER


async def test_a_job_of_the_parent_is_in_the_books_before_the_parent_hears_of_it(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await offered(stream, "t1", "waits")
        assert (await answer(stream)).HasField("accepted")
        (entry,) = [orjson.loads(one.value) for one in await child.store.documents(KIND)]
        assert (entry["task_id"], entry["job_id"]) == ("t1", (await child.jobs())[0].job.id)


async def test_a_job_of_the_parent_is_made_together_with_what_the_books_say_of_it(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        create = child.store.create_jobs
        kept: list[Note | None] = []

        def creating(items: Sequence[NewJob], *arguments: Any) -> Any:
            kept.extend(one.note for one in items)
            return create(items, *arguments)

        monkeypatch.setattr(child.store, "create_jobs", creating)
        await offered(stream, "t1", "waits")
        assert (await answer(stream)).HasField("accepted")
        (note,), (document,) = kept, await child.store.documents(KIND)
        assert note is not None
        assert (document.key, document.value) == ("t1", note.put.value)


async def test_who_has_lost_the_link_makes_no_job_of_a_task_that_another_node_has_taken(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        await child.until(lambda: child.uplink.linked)
        await child.store.put_document(KIND, "t1", b"another node's", version=0)
        await offered(stream, "t1", "waits")
        await stream.wait(stream.gone)
        assert await child.jobs() == []


async def test_a_job_that_may_have_been_made_all_the_same_is_stopped_and_the_task_begins_anew(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        create = child.engine.jobs.create_for_parent

        async def failing(*arguments: Any) -> Any:
            await create(*arguments)
            return [StoreUnavailable("the store is away")]

        with monkeypatch.context() as patched:
            patched.setattr(child.engine.jobs, "create_for_parent", failing)
            await offered(stream, "t1", "waits")
            assert (await answer(stream)).rejected.reason == "BUSY"
        await offered(stream, "t1", "waits", lease_id="second", attempt=2)
        assert (await answer(stream)).HasField("accepted")
        assert sorted(one.job.status for one in await child.jobs()) == [Status.CANCELLED, Status.WAITING_FOR_WORKER]


async def test_a_delegation_whose_job_was_never_made_is_dropped_at_the_next_start(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        entry = {
            "parent": PARENT,
            "task_id": "t1",
            "job_id": "0-none",
            "generation": 1,
            "attempt": 1,
            "lease_id": "l1",
            "run": 0,
            "deadline": None,
            "withdrawn": False,
        }
        await child.store.put_document(KIND, "t1", orjson.dumps(entry), version=0)
        # What is no entry harms nobody.
        await child.store.put_document(KIND, "t2", b"\xff", version=0)
        async with a_child(certificates, blueprints(), store=child.store, parent=child.parent) as again:
            stream = await again.linked()
            assert not stream.hello.HasField("resume")
            assert [one.key for one in await child.store.documents(KIND)] == ["t2"]


async def test_of_the_tasks_that_were_taken_back_the_oldest_are_forgotten(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "MAX_REMEMBERED", 2)
    async with a_child(certificates, blueprints()) as child:
        stream = await child.linked()
        for n in range(4):
            await offered(stream, f"t{n}", "waits")
            assert (await answer(stream)).HasField("accepted")
        for n in range(4):
            await stream.stop(f"t{n}", "LEASE_LOST")
        for _ in range(4):
            assert (await answer(stream)).rejected.reason == "STALE_OFFER"

        left: list[str] = []
        async with asyncio.timeout(GUARD):
            while len(left) != 2:
                await asyncio.sleep(0.001)
                left = [one.key for one in await child.store.documents(KIND)]
        # One of them that comes again, as nobody knows it: its job is found to be over, and another does it.
        forgotten = next(one for one in ("t0", "t1", "t2", "t3") if one not in left)
        await offered(stream, forgotten, "waits", lease_id="again", attempt=2)
        assert (await answer(stream)).HasField("accepted")


async def test_who_does_a_task_of_a_parents_job_has_no_longer_than_the_parent_gave_and_no_newer_lease_prolongs_it(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"}, time_left=Duration(seconds=100))
        given = await leaf.given()
        assert given.time_left is not None
        # A hundredth is the job's, which is stopped before it hears that the time of its task is over.
        assert 90_000 < given.time_left <= 99_000
        assert (await answer(stream)).HasField("accepted")
        before = [orjson.loads(one.value)["deadline"] for one in await child.store.documents(KIND)]
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2, time_left=Duration(seconds=900))
        while not (update := await answer(stream)).HasField("accepted"):
            pass
        assert update.lease_id == "newer"
        assert [orjson.loads(one.value)["deadline"] for one in await child.store.documents(KIND)] == before


async def test_a_job_whose_newer_lease_the_store_refuses_is_stopped_for_the_task_goes_to_others(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"})
        given = await leaf.given()
        assert (await answer(stream)).HasField("accepted")
        put = child.store.put_document

        async def refused(kind: str, *arguments: Any, **more: Any) -> Any:
            if kind != KIND:
                return await put(kind, *arguments, **more)
            monkeypatch.setattr(child.store, "put_document", put)
            raise StoreUnavailable("the store is away for a moment")

        monkeypatch.setattr(child.store, "put_document", refused)
        await stream.stop("t1", "LEASE_LOST")
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        update = await answer(stream)
        assert (update.lease_id, update.rejected.reason) == ("newer", "BUSY")
        async with asyncio.timeout(GUARD):
            stop = await leaf.stops.get()
        assert (stop.lease.task_id, stop.reason) == (given.task_id, StopReason.CANCELLED)


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_late_word_of_an_older_result_takes_no_newer_job_out_of_the_books(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, generation: int
) -> None:
    monkeypatch.setattr(books, "GATHER_S", 0.0)
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "waits", {"of": "a"})
        await leaf.ends(await leaf.given(), Outcome(SUCCESS, b"{}"))
        assert (await stream.result()).lease_id == "t1-lease"
        # The parent had it before, and the word of that was lost with an older stream.
        await offered(stream, "t1", "waits", {"of": "a"}, lease_id="newer", generation=generation, attempt=2)
        if generation == 2:
            await leaf.given()
        else:
            assert (await stream.result()).lease_id == "newer"
        await stream.ack("t1")
        # What is settled is deleted in its order.
        await finishes(child, stream, "t2")
        left = ["t2"]
        async with asyncio.timeout(GUARD):
            while "t2" in left:
                await asyncio.sleep(0.001)
                left = [one.key for one in await child.store.documents(KIND)]
        assert left == ["t1"]


async def test_a_task_that_comes_back_while_the_oldest_are_forgotten_has_its_result_told(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "MAX_REMEMBERED", 1)
    async with a_child(certificates, blueprints()) as child, Leaf(child.engine, "w1", Skill("a")) as leaf:
        first = await child.linked(session_id="first")
        await offered(first, "old", "waits")
        assert (await answer(first)).HasField("accepted")
        await first.stop("old", "LEASE_LOST")
        assert (await answer(first)).HasField("rejected")
        monkeypatch.setattr(running, "_COMES_BACK_S", GUARD)
        await offered(first, "t1", "waits", {"of": "a"})
        assert (await answer(first)).HasField("accepted")
        given = await leaf.given()
        first.end()
        second = await child.linked(session_id="second")
        await offered(second, "t2", "unknown")
        assert (await answer(second)).HasField("rejected")

        put, many = child.store.put_document, child.store.put_documents
        forgetting, comes_back = asyncio.Event(), asyncio.Event()

        async def slowly(kind: str, key: str, text: bytes | None, **more: Any) -> Any:
            if (kind, text) == (KIND, None):
                forgetting.set()
                await comes_back.wait()
            return await put(kind, key, text, **more)

        async def many_slowly(kind: str, puts: Sequence[Put]) -> Any:
            if kind == KIND:
                forgetting.set()
                await comes_back.wait()
            return await many(kind, puts)

        monkeypatch.setattr(child.store, "put_document", slowly)
        monkeypatch.setattr(child.store, "put_documents", many_slowly)
        # Its lease is gone, so nobody can be told of its end yet.
        await leaf.ends(given, Outcome(SUCCESS, b"{}"))
        await second.wait(forgetting)
        await offered(second, "t1", "waits", {"of": "a"}, lease_id="newer", attempt=2)
        assert (await answer(second)).HasField("accepted")
        comes_back.set()
        told = await second.result()
        assert (told.lease_id, told.result.status) == ("newer", "success")


async def test_a_parent_that_is_forgotten_while_it_is_served_is_known_again_by_its_next_welcome(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        await child.linked()
        await child.until(lambda: child.uplink.linked)
        assert await child.holarchy.accept("") == PARENT
        await child.holarchy.recall()
        assert child.holarchy.above == ()
        await child.linked()
        await child.until(lambda: child.holarchy.above == (PARENT,))


async def is_free(store: MemoryStorage) -> bool:
    """Whether any node may link."""
    lease = await store.document("uplink", "lease")
    return lease is not None and orjson.loads(lease.value)["until"] <= store.now()


async def test_a_node_that_does_not_reach_the_parent_leaves_the_link_to_another_node(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "_RENEW_S", 0.01)
    monkeypatch.setattr(tenure, "UNREACHED_S", 0.05)
    async with MemoryStorage(STORE, SystemClock()) as store:
        await store.put_document("providers", "n2", text_of(Provided())[0], version=0)
        # The parent answers nothing.
        async with a_child(certificates, blueprints(), store=store):
            async with asyncio.timeout(GUARD):
                while not await is_free(store):  # noqa: ASYNC110  it looks from outside, and nothing tells it
                    await asyncio.sleep(0.01)
            other = Tenure(store, store.now, "n2", "another")
            await other.take()
            assert other.epoch == 2


@pytest.mark.parametrize(
    "terms",
    [
        {"holon_id": "no id!"},
        {"holon_id": "x" * 129},
        {"holon_ids_above": ["root", ""]},
        {"holon_ids_above": [f"h{n}" for n in range(70)]},
        {"holon_ids_above": ["the-child"]},
        {"max_holarchy_depth": -1},
    ],
)
async def test_a_parent_that_says_nonsense_of_the_chain_is_not_served(
    certificates: Certificates, terms: dict[str, Any]
) -> None:
    async with a_child(certificates, blueprints()) as child:
        refused = await child.linked(**terms)
        again = await child.linked()
        await refused.wait(refused.gone)
        await finishes(child, again, "t1")


async def test_children_that_come_and_go_are_told_upwards_at_once_but_not_each_time(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "INTRODUCE_EVERY_S", 0.5)
    async with a_child(certificates, blueprints()) as child:
        await child.linked()
        await child.until(lambda: child.uplink.linked)
        await child.holarchy.admit("w", HolonIdentity("first", 1, "i"))
        assert list((await child.linked()).hello.holon_identity.holon_ids_below) == ["first"]
        for n in range(20):
            await child.holarchy.admit("w", HolonIdentity("first", 1, "i", (f"below-{n}",)))
            await asyncio.sleep(0)
        assert child.parent.waiting == 0
        stream = await child.linked()
        assert list(stream.hello.holon_identity.holon_ids_below) == ["first", "below-19"]
        assert child.parent.waiting == 0


async def test_a_false_claim_of_a_child_cuts_no_parent_off_before_nor_after_a_restart(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        await child.holarchy.admit("hostile", HolonIdentity("hostile", 1, "i", ("root",)))
        await child.linked(holon_ids_above=["root"])
        await child.until(lambda: child.holarchy.above == ("root", PARENT))
        async with a_child(certificates, blueprints(), store=child.store, parent=child.parent) as again:
            # Its parent has not answered yet.
            assert again.holarchy.above == ("root", PARENT)
            await welcomed(child.parent, holon_ids_above=["root"])
            await again.until(lambda: again.uplink.linked)


async def test_the_log_names_the_address_at_which_another_holon_than_the_parent_answers(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints()) as child:
        (await child.linked()).end()
        with LogWatch(f"{child.parent.url}: HOLON_CHANGED: the parent was holon {PARENT} until now") as watch:
            await welcomed(child.parent, holon_id="another")
            await asyncio.wait_for(watch.seen.wait(), GUARD)


async def test_the_lower_of_two_limits_of_depth_wins(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints()) as child:
        await child.linked(holon_ids_above=["root"], max_holarchy_depth=1)
        await child.until(lambda: child.uplink.linked)
        with pytest.raises(FailedPrecondition) as refused:
            await child.holarchy.admit("w", HolonIdentity("below", 1, "i"))
        assert refused.value.code == "HOLARCHY_DEPTH"


async def test_a_job_that_was_made_and_not_noted_is_gone_on_with_if_its_task_comes_again_and_else_stopped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown, "UNKNOWN_AFTER_S", 0.5)
    async with MemoryStorage(STORE, SystemClock()) as store:
        async with a_child(certificates, blueprints(), store=store) as child:
            await child.linked()
            for task in ("wanted", "elsewhere"):
                asked = Creating("waits", {"of": "leaf"}, origin_key(task, 1, 0))
                await child.engine.jobs.create_for_parent(owner_of(PARENT), [asked])
        async with (
            a_child(certificates, blueprints(), store=store) as child,
            Leaf(child.engine, "leaf", Skill("leaf")) as leaf,
        ):
            stream = await child.linked()
            await offered(stream, "wanted", "waits", {"of": "leaf"}, attempt=2)
            assert (await answer(stream)).HasField("accepted")
            given = {(one := await leaf.given()).job_id: one for _ in range(2)}
            async with asyncio.timeout(GUARD):
                (stop,) = [await leaf.stops.get()]
            (left,) = [offer for offer in given.values() if offer.lease_id != stop.lease.lease_id]
            await leaf.ends(left, Outcome(SUCCESS, b"{}"))
            assert (await stream.result()).task_id == "wanted"
            assert len(await child.jobs()) == 2


@pytest.mark.parametrize(
    "refused",
    [
        StoreUnavailable("away", retry_after=0.001),
        ResourceExhausted("its inbox is full", code="INBOX_FULL", retry_after=0.001),
    ],
)
async def test_each_job_that_was_made_and_not_noted_is_stopped_though_that_is_refused_at_first(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, refused: HolonError
) -> None:
    monkeypatch.setattr(unknown, "UNKNOWN_AFTER_S", 0.1)
    monkeypatch.setattr(unknown, "Listing", partial(Listing, page_size=2))
    async with MemoryStorage(STORE, SystemClock()) as store:
        async with a_child(certificates, blueprints(), store=store) as child:
            await child.linked()
            for n in range(5):
                asked = Creating("waits", {}, origin_key(f"t{n}", 1, 0))
                await child.engine.jobs.create_for_parent(owner_of(PARENT), [asked])
        async with a_child(certificates, blueprints(), store=store) as child:
            cancel = child.engine.jobs.cancel

            async def refused_once(*_: str, **__: Any) -> Any:
                monkeypatch.setattr(child.engine.jobs, "cancel", cancel)
                raise refused

            monkeypatch.setattr(child.engine.jobs, "cancel", refused_once)
            stream = await child.linked()
            async with asyncio.timeout(GUARD):
                while {one.job.status for one in await child.jobs()} != {Status.CANCELLED}:  # noqa: ASYNC110  it looks from outside
                    await asyncio.sleep(0.001)
            errors = {one.job.error.message for one in await child.jobs() if one.job.error is not None}
            assert errors == {"cancelled by the uplink: the parent holon does not ask for it"}
            # That is no reason to link again.
            await finishes(child, stream, "t9")
