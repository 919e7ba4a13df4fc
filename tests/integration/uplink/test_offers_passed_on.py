"""Skills that a child passes on to its parent: offered as its workers offer them, at whichever node."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from holon.domain.fleet import Catalog, Machine, Skill
from holon.errors import BlueprintError
from holon.uplink.provided import Passed, Provided
from holon.uplink.providers import Providers
from tests.integration.a_child import Leaf, a_child, offered
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.offers_heard import OCR, PHOTO, TEXT, Offered, blueprints

pytestmark = pytest.mark.usefixtures("withdrawn_soon")


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


async def test_a_skill_that_is_passed_on_may_not_have_the_name_of_a_blueprint(certificates: Certificates) -> None:
    with pytest.raises(BlueprintError, match="counting"):
        async with a_child(certificates, blueprints(), skills=("counting",)):
            pass
