"""What the workers of one node offer, as the other nodes of its holon are told it."""

from __future__ import annotations

import zlib

import pytest

from holon.domain.fleet import Device, Machine, Skill
from holon.domain.matching import Need, Offering
from holon.domain.value import replace
from holon.ports import MAX_DOCUMENT_BYTES
from holon.randomness import random_id
from holon.uplink.provided import Equipped, Holons, Passed, Provided, provided_in, text_of


@pytest.mark.parametrize(
    ("need", "can"),
    [
        (Need("ocr"), True),
        (Need("ocr", "2"), True),
        (Need("ocr", "3"), False),
        (Need("ocr", max_cost=7), True),
        (Need("ocr", max_cost=6), False),
        (Need("ocr", allowed_skills=("ocr",)), False),
        (Need("crop"), False),
        (Need("crop", contracts=("c1",)), True),
        (Need("other"), False),
    ],
)
def test_who_has_a_skill_can_do_what_it_fits_only(need: Need, *, can: bool) -> None:
    offers = frozenset({Offering("ocr", "2", keeps_limits=False, price=7), Offering("crop", contract="c1")})
    assert Provided(frozenset({"ocr", "crop"}), offers).can_do(need) is can


def test_who_takes_no_tasks_can_do_none() -> None:
    assert not Provided(frozenset({"ocr"})).can_do(Need("ocr"))


def test_holons_below_whom_nobody_can_do_it_do_not_count_and_others_do() -> None:
    alike = Holons(frozenset({"h1", "h2"}), frozenset({Offering("ocr")}))
    leaves = Holons(frozenset({"h3"}), frozenset())
    provided = Provided(frozenset({"ocr"}), holons=(alike, leaves))
    need = Need("ocr")
    assert [provided.can_do(need, but) for but in ((), ("h1",), ("h1", "h3"), ("h2", "h1"))] == [
        True,
        True,
        True,
        False,
    ]
    assert replace(provided, offers=frozenset({Offering("ocr")})).can_do(need, ("h1", "h2"))


def test_what_requires_hardware_can_do_who_offers_it_on_a_machine_that_has_it() -> None:
    machines = (Machine(properties={"ram_gb": 8}), Machine(properties={"ram_gb": 64}))
    ocr, crop = frozenset({Offering("ocr", "2")}), frozenset({Offering("crop")})
    provided = Provided(frozenset({"ocr", "crop"}), ocr | crop, machines=machines)
    little, much = '{"ram_gb":8}', '{"ram_gb":64}'
    assert not provided.can_do(Need("ocr", resources=little))
    provided = replace(provided, equipped=(Equipped((0,), ocr), Equipped((0, 1), crop), Equipped((1,), ocr, "h1")))
    assert provided.can_do(Need("crop", resources=much))
    assert provided.can_do(Need("ocr", resources=much))
    assert not provided.can_do(Need("ocr", resources=much), ("h1",))
    assert provided.can_do(Need("ocr", resources=little), ("h1",))
    assert not provided.can_do(Need("ocr", "3", resources=little))


def test_what_is_told_is_read_as_it_was() -> None:
    skill = Skill("ocr", "2", "reading", {"type": "object"}, None, "Reads.", ("unsure",), 7)
    machines = (Machine((Device("gpu", "H100", "0"),), {"zone": "a", "racks": [1, 2.5]}), Machine())
    holons = (Holons(frozenset({"h1"}), frozenset({Offering("ocr", "2", price=9)})),)
    offers = frozenset({Offering("ocr", "2", price=7)})
    equipped = (Equipped((0, 1), offers), Equipped((1,), offers, "h1"))
    said = Provided(frozenset({"ocr"}), offers, (Passed(skill, 3),), machines, holons, equipped)
    text, whole = text_of(said)
    assert (provided_in(text), whole) == (said, True)


def test_of_what_is_too_much_to_be_told_machines_are_left_out_first() -> None:
    large = Machine(properties={str(number): random_id() for number in range(3_000)})
    skill = Skill("ocr", "2", "", {"type": "object"}, statuses=("unsure",))
    said = Provided(frozenset({"ocr"}), frozenset({Offering("ocr")}), (Passed(skill, 3),))
    text, whole = text_of(replace(said, machines=(large,), equipped=(Equipped((0,), said.offers),)))
    assert (provided_in(text), whole) == (said, False)


def test_of_what_is_too_much_to_be_told_schemas_are_left_out_next_and_then_skills() -> None:
    def noise(many: int) -> str:
        return "".join(random_id() for _ in range(many))

    offers = frozenset({Offering("ocr")})
    skill = Skill("ocr", "2", "", {"description": noise(5_000)}, statuses=("unsure",))
    text, whole = text_of(Provided(frozenset({"ocr"}), offers, (Passed(skill, 3),)))
    bare = Passed(Skill("ocr", "2", "", statuses=("unsure",)), 3)
    assert (provided_in(text), whole) == (Provided(frozenset({"ocr"}), offers, (bare,)), False)
    names = frozenset(noise(4) for _ in range(3_000))
    of_holons = frozenset(Offering(name) for name in sorted(names)[::2])
    offers = frozenset(Offering(name) for name in names) - of_holons
    text, whole = text_of(Provided(names, offers, holons=(Holons(frozenset({"h1"}), of_holons),)))
    assert len(text) <= MAX_DOCUMENT_BYTES
    told = provided_in(text)
    assert told is not None
    assert not whole
    assert told.skills < names
    assert {one.skill for one in told.offers} == told.skills


@pytest.mark.parametrize("text", [b"{", b'["ocr"]', zlib.compress(b'["ocr"]'), zlib.compress(b"{}")[:-6]])
def test_what_is_no_word_of_a_node_is_not_read(text: bytes) -> None:
    assert provided_in(text) is None
