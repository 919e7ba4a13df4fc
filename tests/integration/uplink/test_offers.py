"""What a child holon offers its parent: what its workers can do now, as much of it as they can begin."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from holon.clock import SystemClock
from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Catalog, Machine, Skill
from holon.domain.holarchy import HolonIdentity
from holon.domain.task import Outcome, TaskError
from holon.errors import BlueprintError, StoreUnavailable
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from holon.uplink import offerings, providers
from holon.uplink.provided import Passed, Provided, text_of
from holon.uplink.providers import Providers
from tests.integration.a_child import PARENT, STORE, Leaf, a_child, answer, offered
from tests.integration.scripted_node import GUARD, Certificates, Stream
from transports.grpc.hello import catalog_of


@pytest.fixture(autouse=True)
def withdrawn_soon(soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offerings, "WITHDRAWN_AFTER_S", 0.3)
    monkeypatch.setattr(providers, "LOOK_S", 0.02)


def blueprints() -> list[Blueprint]:
    """Three, of which two need somebody by name."""
    crawling = Blueprint("crawling")

    @crawling.handler(is_start=True)
    async def crawl(actions: ActionFactory) -> None:
        actions.dispatch_task("crawl", {}, transitions={"success": "count"})

    @crawling.handler
    async def count(actions: ActionFactory) -> None:
        actions.dispatch_task(params={}, task_type="count", transitions={"success": "end"})

    @crawling.handler("end", is_end=True)
    async def crawled() -> None: ...

    counting = Blueprint("counting")

    @counting.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.dispatch_task("count", {}, transitions={"success": "end"})

    @counting.handler("end", is_end=True)
    async def counted() -> None: ...

    asking = Blueprint("asking")

    @asking.handler(is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["skill"], {}, transitions={"success": "end"})

    @asking.handler("end", is_end=True)
    async def asked() -> None: ...

    return [crawling, counting, asking]


class Offered:
    """What the parent knows of a child's offerings, by what it was told."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.catalogs = 0
        self.total = stream.hello.credits
        self._take(stream.hello.catalog)

    async def until(self, **wanted: int) -> None:
        """Hear what the child says until this is offered, and nothing else."""
        async with asyncio.timeout(GUARD):
            while self.credits != wanted:
                await self.hear()

    def _take(self, catalog: worker_pb2.Catalog) -> None:
        # A parent of this version takes it.
        catalog_of(catalog)
        self.offerings, self.profiles = list(catalog.offerings), list(catalog.profiles)
        self.credits = {one.skill: one.credits for one in catalog.offerings}

    async def hear(self) -> worker_pb2.SessionRequest:
        """Hear one thing that the child says."""
        async with asyncio.timeout(GUARD):
            said: worker_pb2.SessionRequest = await self._stream._others.get()
        if said.HasField("catalog"):
            self.catalogs += 1
            self._take(said.catalog)
        if said.heartbeat.HasField("credits"):
            self.total = said.heartbeat.credits
        for one in said.heartbeat.offering_credits:
            assert one.skill in self.credits
            self.credits[one.skill] = one.credits
        return said


async def test_what_nobody_can_do_has_no_credits_at_once_is_withdrawn_after_a_while_and_comes_back(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        async with Leaf(child.engine, "crawler", Skill("crawl")), Leaf(child.engine, "both", Skill("count")):
            parent = Offered(await child.linked())
            await parent.until(crawling=7, counting=7, asking=7)
            # It says what has changed since its Hello, if anything has, before it beats.
            while not (await parent.hear()).HasField("heartbeat"):
                pass
            catalogs = parent.catalogs
        async with Leaf(child.engine, "counter", Skill("count")):
            await parent.until(crawling=0, counting=7, asking=7)
            assert parent.catalogs == catalogs
            await parent.until(counting=7, asking=7)
            assert parent.catalogs == catalogs + 1
            async with Leaf(child.engine, "crawler", Skill("crawl")):
                await parent.until(crawling=7, counting=7, asking=7)
                # Whoever links anew says the same in its Hello.
                child.uplink._link.introduce(worker_pb2.HolonIdentity(holon_id="the-child", uplink_epoch=1))  # type: ignore[union-attr]
                assert Offered(await child.linked()).credits == {"crawling": 7, "counting": 7, "asking": 7}


async def test_what_changes_between_the_hello_and_its_welcome_is_said_after_that(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        stream = await child.parent.session()
        parent = Offered(stream)
        async with Leaf(child.engine, "counter", Skill("count")):
            await asyncio.sleep(0.2)
            await stream.welcome(holon_id=PARENT, capabilities=[types_pb2.CAPABILITY_HOLON])
            await parent.until(crawling=0, counting=7, asking=7)
            while parent.total != 7:
                await parent.hear()


async def test_workers_of_other_nodes_of_the_holon_count(certificates: Certificates) -> None:
    async with a_child(certificates, blueprints(), max_jobs=7) as child:
        parent = Offered(await child.linked())
        await parent.until(asking=1)
        there = Providers(child.store, lambda: Provided(frozenset({"count"})), frozenset, "n2")
        running = asyncio.create_task(there.run())
        await parent.until(counting=1, asking=1)
        running.cancel()
        await asyncio.wait((running,))
        # What is no word of a node says nothing.
        await child.store.put_document("providers", "n3", b"{", version=0)
        (known,) = [one for one in await child.store.documents("providers") if one.key == "n2"]
        await child.store.put_document("providers", "n2", None, version=known.version)
        await parent.until(asking=1)


PHOTO = {"type": "object", "required": ["photo"]}
TEXT = {"type": "object", "required": ["text"]}
OCR = Skill("ocr", "2", "reading", PHOTO, TEXT, "Reads.", ("unsure",), 7)


async def test_a_skill_is_passed_on_as_the_workers_offer_it_as_often_as_they_have_room(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [], skills=("ocr", "nobodys")) as child:
        async with Leaf(child.engine, "w1", OCR, credits=2) as leaf, Leaf(child.engine, "w2", OCR, credits=1) as other:
            stream = await child.linked()
            parent = Offered(stream)
            await parent.until(ocr=3)
            (told,) = parent.offerings
            assert (told.type, told.version, told.description, told.price) == ("reading", "2", "Reads.", 7)
            assert (list(told.statuses), told.input_schema.data, told.output_schema.data) == (
                ["unsure"],
                orjson.dumps(PHOTO, option=orjson.OPT_SORT_KEYS),
                orjson.dumps(TEXT, option=orjson.OPT_SORT_KEYS),
            )
            for n in range(3):
                await offered(stream, f"t{n}", "ocr", {"photo": n})
            for worker in (leaf, leaf, other):
                await worker.given()
            # No more than it has, until there is room again.
            await parent.until(ocr=3)
        async with Leaf(child.engine, "w3", OCR) as leaf:
            # A worker of another contract joins: what they do not agree upon is not promised.
            async with Leaf(child.engine, "w4", Skill("ocr", "3", "reading")):
                while parent.offerings[0].HasField("input_schema"):
                    await parent.hear()
            await child.engine.workers.offers(
                leaf.member, Catalog((Skill("ocr", "4"),), (Machine(properties={"g": 1}),))
            )
            while parent.offerings[0].version != "4" or not parent.profiles:
                await parent.hear()
            assert [one.resources.properties.data for one in parent.profiles] == [b'{"g":1}']


async def test_a_skill_is_passed_on_as_the_workers_of_all_nodes_offer_it(certificates: Certificates) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child:
        parent = Offered(await child.linked())
        there = Provided(frozenset({"ocr"}), passed=(Passed(Skill("ocr", "2", "", PHOTO, statuses=("torn",)), 2),))
        running = asyncio.create_task(Providers(child.store, lambda: there, frozenset, "n2").run())
        # Nobody here has it.
        await parent.until(ocr=1)
        (told,) = parent.offerings
        assert (list(told.statuses), told.HasField("price"), told.type) == (["torn"], False, "")
        async with Leaf(child.engine, "w1", OCR):
            while "unsure" not in parent.offerings[0].statuses:
                await parent.hear()
            (told,) = parent.offerings
            # Who declares no price may be the one that does it.
            assert (list(told.statuses), told.HasField("price"), told.version) == (["torn", "unsure"], False, "2")
            assert told.input_schema.data == orjson.dumps(PHOTO, option=orjson.OPT_SORT_KEYS)
            there = Provided(frozenset({"ocr"}), passed=(Passed(Skill("ocr", price=9), 1),))
            while parent.offerings[0].price != 9:
                await parent.hear()
            (told,) = parent.offerings
            assert (list(told.statuses), told.HasField("input_schema"), told.version) == ([], False, "")
        running.cancel()
        await asyncio.wait((running,))


async def test_the_machines_of_the_workers_of_all_nodes_are_told_each_once(certificates: Certificates) -> None:
    mine, theirs = Machine(properties={"g": 1}), Machine(properties={"g": 2})
    async with a_child(certificates, [], skills=("ocr",)) as child:
        parent = Offered(await child.linked())
        there = Provided(frozenset({"ocr"}), passed=(Passed(OCR, 1),), machines=(theirs, mine))
        running = asyncio.create_task(Providers(child.store, lambda: there, frozenset, "n2").run())
        async with Leaf(child.engine, "w1", OCR) as leaf:
            await child.engine.workers.offers(leaf.member, Catalog((OCR,), (mine,)))
            while [one.resources.properties.data for one in parent.profiles] != [b'{"g":1}', b'{"g":2}']:
                await parent.hear()
        running.cancel()
        await asyncio.wait((running,))


@pytest.mark.parametrize("more", [(), tuple(f"y{n}" for n in range(25))])
async def test_a_parent_is_told_no_statuses_where_a_worker_may_end_with_others(
    certificates: Certificates, more: tuple[str, ...]
) -> None:
    some = tuple(f"z{n}" for n in range(40))
    async with (
        a_child(certificates, [], skills=("ocr",)) as child,
        Leaf(child.engine, "w1", Skill("ocr", statuses=some)),
    ):
        parent = Offered(await child.linked())
        # The Hello may have been said before it was there.
        while not parent.offerings or not parent.offerings[0].statuses:
            await parent.hear()
        assert list(parent.offerings[0].statuses) == sorted(some)
        async with Leaf(child.engine, "w2", Skill("ocr", statuses=more)):
            while parent.offerings[0].statuses:
                await parent.hear()


async def test_whatever_workers_say_of_themselves_the_parent_is_told_no_more_than_it_takes(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    large = [Skill(f"s{n:02}", input_schema={"description": "x" * 60_000, "minProperties": 1}) for n in range(20)]
    machines = tuple(Machine(properties={f"p{n}": "x" * 60_000}) for n in range(32))
    names = [skill.name for skill in large]
    async with a_child(certificates, blueprints(), skills=names) as child, Leaf(child.engine, "w1", *large) as leaf:
        parent = Offered(await child.linked())
        while "s16" not in parent.credits:
            await parent.hear()
        # What is the holon's own goes before what others say, and that stays a part of what a message may be.
        assert "asking" in parent.credits
        assert "s17" not in parent.credits
        await child.engine.workers.offers(leaf.member, Catalog((Skill("s01"),), machines))
        while len(parent.profiles) < 17:
            await parent.hear()
        assert len(parent.profiles) == 17
        assert "asking" in parent.credits
        # Whoever links anew has the same in its Hello.
        child.uplink._link.introduce(worker_pb2.HolonIdentity(holon_id="the-child", uplink_epoch=1))  # type: ignore[union-attr]
        again = await child.linked()
        assert again.hello.ByteSize() < 2**20 + 2**16
        assert len(again.hello.catalog.profiles) == 17
    [said] = [one.message for one in caplog.records if one.name == offerings.__name__]
    assert "too large: 3 offerings and 0 machines are left out of it" in said


async def test_skills_of_several_workers_have_no_more_patterns_together_than_a_parent_takes(
    certificates: Certificates,
) -> None:
    def of(name: str) -> Skill:
        return Skill(name, input_schema={"patternProperties": {f"^{name}{n}$": {} for n in range(60)}})

    names = ["a", "b", "c", "d", "e"]
    async with (
        a_child(certificates, [], skills=names) as child,
        Leaf(child.engine, "w1", *map(of, names[:3])),
        Leaf(child.engine, "w2", *map(of, names[3:])),
    ):
        parent = Offered(await child.linked())
        await parent.until(a=10, b=10, c=10, d=10)
        while not (await parent.hear()).HasField("heartbeat"):
            pass
        assert "e" not in parent.credits


CAUSE = b'{"code":"C","message":"","holon_id":"","name":"b"}'


@pytest.mark.parametrize(
    ("outcome", "status", "data", "error"),
    [
        (Outcome("success", b'{"text":"a"}'), "success", b'{"text":"a"}', None),
        (Outcome("unsure", b'{"perhaps":"b"}'), "unsure", b'{"perhaps":"b"}', None),
        (
            Outcome("failure", error=TaskError("TRANSIENT_ERROR", "the ink ran", b'{"page":3}')),
            "failure",
            b"",
            ("TRANSIENT_ERROR", "the ink ran", b'{"page":3}'),
        ),
        (
            Outcome("failure", error=TaskError("BLURRED", "no", b'{"causes":[%b],"details":[1]}' % CAUSE)),
            "failure",
            b"",
            ("BLURRED", "no", b"[1]"),
        ),
        *(
            (Outcome("failure", error=TaskError("ODD", "no", own)), "failure", b"", ("ODD", "no", own))
            # What a worker calls causes is its own.
            for own in (
                b'{"causes":["damp","dust"]}',
                b'{"causes":[{"code":"C","name":"b"}],"details":[1]}',
                b'{"causes":[{"why":"damp"}],"page":3}',
                b'{"causes":[%b],"page":3}' % CAUSE,
                b'{"causes":[]}',
            )
        ),
        (Outcome("cancelled"), "cancelled", b"", None),
    ],
)
async def test_what_a_worker_says_is_what_the_parent_hears_after_one_try(
    certificates: Certificates, outcome: Outcome, status: str, data: bytes, error: tuple[str, str, bytes] | None
) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child, Leaf(child.engine, "w1", OCR) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "ocr", {"photo": 1})
        assert (await answer(stream)).HasField("accepted")
        await leaf.ends(await leaf.given(), outcome)
        result = (await stream.result()).result
        assert leaf.offers.empty()
        if status == "cancelled":
            # Nobody below may cancel a task of the parent's.
            assert (result.status, result.error.code) == ("failure", "CANCELLED_BY_CHILD")
            return
        assert (result.status, result.data.data) == (status, data)
        if error is not None:
            assert (result.error.code, result.error.message, result.error.details.data) == error
            assert [one.code for one in result.error.causes] == (["C"] if error[0] == "BLURRED" else [])


async def test_a_worker_that_comes_later_may_answer_what_none_did_when_the_task_was_taken(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child, Leaf(child.engine, "w1", Skill("ocr"), credits=1):
        stream = await child.linked()
        for n in range(2):
            await offered(stream, f"t{n}", "ocr", {"photo": n})
            assert (await answer(stream)).HasField("accepted")
        async with Leaf(child.engine, "w2", OCR) as late:
            given = await late.given()
            await late.ends(given, Outcome("unsure", b'{"text":"b"}'))
            result = (await stream.result()).result
            assert (result.status, result.data.data) == ("unsure", b'{"text":"b"}')


@pytest.mark.parametrize("below", [HolonIdentity("below", 1, "a"), None], ids=["holon", "worker"])
async def test_whether_another_try_may_help_goes_up_as_the_holon_below_said_it(
    certificates: Certificates, below: HolonIdentity | None
) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child, Leaf(child.engine, "w1", OCR, holon=below) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "ocr", {"photo": 1})
        assert (await answer(stream)).HasField("accepted")
        error = TaskError("PERMANENT_ERROR", "not now", retryable=True)
        await leaf.ends(await leaf.given(), Outcome("failure", error=error))
        told = (await stream.result()).result.error
        assert (told.code, told.retryable, told.HasField("retryable")) == ("PERMANENT_ERROR", bool(below), bool(below))


async def test_a_skill_that_is_passed_on_may_not_have_the_name_of_a_blueprint(certificates: Certificates) -> None:
    with pytest.raises(BlueprintError, match="counting"):
        async with a_child(certificates, blueprints(), skills=("counting",)):
            pass


async def test_what_other_nodes_say_is_read_again_soon_where_the_store_was_away_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with MemoryStorage(STORE, SystemClock()) as store:
        one = Providers(store, Provided, frozenset, "n1")
        # The first reading is over once this node has told what it has.
        running = asyncio.create_task(one.run())
        async with asyncio.timeout(GUARD):
            while not await store.documents("providers"):  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        documents, tries = store.documents, 0
        read_again = asyncio.Event()

        async def away_at_first(kind: str) -> Any:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise StoreUnavailable("away")
            try:
                return await documents(kind)
            finally:
                asyncio.get_running_loop().call_soon(read_again.set)

        monkeypatch.setattr(store, "documents", away_at_first)
        monkeypatch.setattr(providers, "REPEAT_S", 3_600)
        await store.put_document("providers", "n2", text_of(Provided(frozenset({"ocr"})))[0], version=0)
        one.hints.changed(frozenset({"providers"}))
        await asyncio.wait_for(read_again.wait(), GUARD)
        assert one.elsewhere("ocr")
        running.cancel()


async def test_who_lacks_somebody_for_an_offer_says_that_it_has_no_credits_for_it_before_it_gives_it_back(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_child(certificates, blueprints()) as child:
        async with Leaf(child.engine, "counter", Skill("count")):
            stream = await child.linked()
            await child.until(lambda: bool(child.uplink._credits._due()[1].get("counting")))  # type: ignore[union-attr]
            # By itself it looks later.
            monkeypatch.setattr("holon.uplink.credits.LOOK_S", GUARD)
            await asyncio.sleep(0.1)
        stream.came.clear()
        await offered(stream, "t1", "counting", {})
        assert (await answer(stream)).rejected.reason == "UNSERVABLE"
        assert stream.came[0].HasField("heartbeat")
        granted: dict[str, int] = {}
        while granted.get("counting") != 0:
            beat = (await stream.message("heartbeat")).heartbeat
            granted |= {one.skill: one.credits for one in beat.offering_credits}
