"""What a node tells of its workers: on pages that a document each can hold, and changes one of these where one does."""

from __future__ import annotations

from typing import Any

from holon.domain.fleet import Catalog, Machine, Skill, SkillReputation
from holon.domain.matching import Need, Offering
from holon.domain.value import replace
from holon.engine.fleets.elsewhere import Elsewhere, Roll
from holon.engine.fleets.pages import MOST_PAGES, Line, Told, paged, shelves_in, text_of
from holon.engine.fleets.stock import MOST_PACKED, Stock, Stocked, packed, stocked_in
from holon.engine.fleets.stock import text_of as text_of_stock
from holon.engine.offered import known
from holon.ports import MAX_DOCUMENT_BYTES
from holon.randomness import random_id


def told(worker_id: str, **more: Any) -> Told:
    given: dict[str, Any] = {"taking": True, "credits": 1, "held": 0, **more}
    return Told(worker_id, "an instance", connected_at=1, last_seen_at=2, **given)


def lines(count: int, stock: bytes = b"a stock") -> list[Line]:
    return [Line(f"w{n}", stock, text_of(told(f"w{n}"))) for n in range(count)]


def workers_on(pages: list[bytes]) -> list[str]:
    return sorted(one.worker_id for page in pages for shelf in shelves_in(page) or () for one in shelf.workers)


def test_all_workers_are_on_some_page_and_each_page_fits_into_a_document() -> None:
    there = lines(5_000)
    pages, left = paged(there, 1)
    assert (left, workers_on(pages)) == (0, sorted(one.worker_id for one in there))
    assert 2 <= len(pages) <= 16
    assert max(map(len, pages)) <= MAX_DOCUMENT_BYTES


def test_one_that_comes_goes_or_changes_is_a_change_of_one_page() -> None:
    there = lines(5_000)
    before, _ = paged(there, 1)
    other = Line("w7", b"a stock", text_of(told("w7", held=1)))
    for now in (there[1:], [*there, Line("new", b"another", text_of(told("new")))], [*there[:7], other, *there[8:]]):
        after, _ = paged(now, len(before))
        assert sum(one != was for one, was in zip(after, before, strict=True)) == 1


def test_where_most_have_left_there_are_fewer_pages_again() -> None:
    pages, _ = paged(lines(5_000), 1)
    assert len(paged(lines(5), len(pages))[0]) == 1


def test_past_the_most_pages_the_rest_is_left_out_and_counted() -> None:
    there = [Line(one.worker_id, f"stock of {one.worker_id}".encode() * 2_000, one.text) for one in lines(200)]
    pages, left = paged(there, 1)
    assert len(pages) == MOST_PAGES
    assert 0 < left == 200 - len(workers_on(pages))


def test_a_page_that_is_none_is_told_apart_from_one_with_nobody() -> None:
    (empty,), _ = paged([], 1)
    assert (shelves_in(empty), shelves_in(b"\xc1")) == ((), None)


def stock_of(*skills: Skill) -> Stock:
    return Stock(known(Catalog(skills)), tuple(Offering(one.name, one.version, price=one.price) for one in skills))


def test_what_is_told_of_skills_is_read_as_it_was() -> None:
    skill = Skill("t", "2", "reading", {"type": "object"}, None, "Reads.", ("unsure",), 7, events={"e": None})
    stock = stock_of(skill)
    told = packed(stock, text_of_stock(stock))
    read = stocked_in(told.text)
    assert told.whole
    assert read is not None
    assert (read.known, list(read.offers_of("t"))) == (stock.skills, [Offering("t", "2", price=7)])


def test_of_skills_that_are_too_much_to_be_told_schemas_are_left_out_and_their_keys_stay() -> None:
    large = {"properties": {random_id(): {"type": "string"} for _ in range(3_000)}}
    stock = stock_of(Skill("t", input_schema=large, description="long"), Skill("u"))
    told = packed(stock, text_of_stock(stock))
    read = stocked_in(told.text)
    assert not told.whole
    assert read is not None
    assert read.skills == (Skill("t"), Skill("u"))
    assert [one.key for one in read.known] == [one.key for one in stock.skills]


def test_of_skills_that_are_too_much_all_the_same_nothing_is_told() -> None:
    stock = stock_of(*(Skill(f"{random_id()}{random_id()}") for _ in range(1_000)))
    told = packed(stock, text_of_stock(stock))
    assert (told.whole, len(told.text) < 100 < MOST_PACKED) == (False, True)
    assert (stocked_in(told.text) or Stocked(stock)).names == frozenset()


def test_who_can_do_a_task_elsewhere_is_told_by_contract_machine_and_whether_it_takes_any() -> None:
    elsewhere = Elsewhere()
    skills = known(Catalog((Skill("t"), Skill("u", machines=(1, 5)))))
    offers = (Offering("t", contract="c1"), Offering("u"))
    machines = (Machine(properties={"ram_gb": 64}), Machine(properties={"ram_gb": 8}))
    distrusted = (SkillReputation("t", 0.1, trusted=False),)
    workers = [told("w1", taking=False), told("w2", machines=machines), told("w3", reputations=distrusted)]
    elsewhere.are({"n": Roll("n", [(Stocked(Stock(skills, offers)), workers)])})
    little, much = '{"ram_gb":8}', '{"ram_gb":64}'
    can = {
        Need("t", contracts=("c1",)): True,
        # Its params are still to be tried.
        Need("t"): True,
        Need("t", refused=("c1",)): False,
        Need("t", resources=much): True,
        # It is provided by the second of its machines, and by one that is not told of.
        Need("u", resources=much): False,
        Need("u", resources=little): True,
        Need("v"): False,
    }
    assert {need: elsewhere.can_do(need) for need in can} == can
    elsewhere.are({"n": Roll("n", [(Stocked(Stock(skills, offers)), workers[::2])])})
    assert not elsewhere.can_do(Need("t"))
    # The one that is drained, not the one without reputation.
    assert [one.taking for one in elsewhere.fitting(Need("t"))] == [False]


def test_only_what_workers_elsewhere_can_do_is_a_change_and_not_how_busy_they_are() -> None:
    elsewhere, changes = Elsewhere(), list[str]()
    stocked = Stocked(stock_of(Skill("t")))

    def are(what: str, *workers: Told) -> None:
        elsewhere.on_change = lambda: changes.append(what)
        elsewhere.are({"n": Roll("n", [(stocked, workers)])})

    here = told("w", machines=(Machine(),))
    are("none")
    are("comes", here)
    are("holds more, and was heard of", replace(here, held=1, last_seen_at=9))
    assert [row.told.held for roll in elsewhere.rolls for row in roll.workers("t")] == [1]
    are("another machine", replace(here, machines=(Machine(properties={"disk": "ssd"}),)))
    are("drains", replace(here, machines=(Machine(properties={"disk": "ssd"}),), taking=False))
    are("goes")
    assert changes == ["none", "comes", "another machine", "drains", "goes"]
