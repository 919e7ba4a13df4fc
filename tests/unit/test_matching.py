"""Matching: which worker may do which task, and the key that stands for a need."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.fleet import Machine
from holon.domain.matching import ANY_CONTRACT, Need, Offering, fits
from holon.domain.task import ANY_STATUS, own_statuses


def test_a_worker_without_the_skill_never_fits() -> None:
    assert fits(Need("a"), Offering("a"))
    assert not fits(Need("a"), Offering("b"))
    assert not fits(Need("a"), Offering("A"))


@pytest.mark.parametrize("field", ["version", "type"])
def test_a_version_or_type_is_compared_only_when_asked_for(field: str) -> None:
    two: dict[str, Any] = {field: "2"}
    three: dict[str, Any] = {field: "3"}
    assert fits(Need("a"), Offering("a", **two))
    assert fits(Need("a", **two), Offering("a", **two))
    assert not fits(Need("a", **two), Offering("a", **three))
    assert not fits(Need("a", **two), Offering("a"))


def test_a_worker_without_an_input_schema_accepts_all_params() -> None:
    assert fits(Need("a"), Offering("a", contract=ANY_CONTRACT))
    assert fits(Need("a", contracts=("x",)), Offering("a", contract=ANY_CONTRACT))


def test_a_worker_with_an_input_schema_must_be_among_those_that_accept_the_params() -> None:
    need = Need("a", contracts=("x", "y"))
    assert fits(need, Offering("a", contract="x"))
    assert fits(need, Offering("a", contract="y"))
    assert not fits(need, Offering("a", contract="z"))
    assert not fits(Need("a"), Offering("a", contract="x"))


def test_a_task_with_a_limit_of_skills_is_for_whoever_keeps_to_it() -> None:
    for limit in ((), ("a",)):
        assert fits(Need("a", allowed_skills=limit), Offering("a"))
        assert not fits(Need("a", allowed_skills=limit), Offering("a", keeps_limits=False))
    assert fits(Need("a"), Offering("a", keeps_limits=False))


@pytest.mark.parametrize("price", [None, 0, 4, 5, 6, 2**53 - 1])
def test_a_task_that_may_cost_so_much_is_for_whoever_declares_a_price_within_it(price: int | None) -> None:
    assert fits(Need("a"), Offering("a", price=price))
    assert fits(Need("a", max_cost=5), Offering("a", price=price)) == (price in (0, 4, 5))
    assert fits(Need("a", max_cost=0), Offering("a", price=price)) == (price == 0)


def test_who_declares_statuses_has_to_declare_all_that_the_job_goes_on_by() -> None:
    need = Need("a", statuses=("retry", "skipped"))
    assert fits(need, Offering("a"))
    assert fits(need, Offering("a", statuses=frozenset({"skipped", "retry", "more"})))
    assert not fits(need, Offering("a", statuses=frozenset({"skipped"})))
    assert fits(Need("a"), Offering("a", statuses=frozenset({"skipped"})))


def test_a_task_that_requires_hardware_is_for_whoever_has_a_machine_with_it() -> None:
    need = Need("a", resources='{"ram_gb":16}')
    small, large = Machine(properties={"ram_gb": 8}), Machine(properties={"ram_gb": 32})
    assert fits(need, Offering("a"), (small, large))
    assert not fits(need, Offering("b"), (small, large))
    assert not fits(need, Offering("a"), (small,))
    assert not fits(need, Offering("a"))
    assert fits(Need("a"), Offering("a"), (small,))


def test_the_keys_of_tasks_that_were_written_before_stay_the_same() -> None:
    assert Need("resize").key == "d3322d374683507840d9ff5a"
    assert Need("a", "1", "b", ("x",), ("y",), ("a",), 5, ("skipped",)).key == "0c70bd56ec77f0d1ad9bbc5e"


def test_the_statuses_that_every_worker_has_are_asked_of_none() -> None:
    assert own_statuses(["success", "failure", "cancelled", "timeout", ANY_STATUS]) == ()
    assert own_statuses(["skipped", "success", "retry"]) == ("retry", "skipped")


def test_keys_of_equal_needs_are_equal_in_every_process() -> None:
    assert Need("a", "1", "b", ("x", "y")).key == Need("a", "1", "b", ("x", "y")).key
    assert Need("resize").key == Need("resize", "", "", ()).key


@pytest.mark.parametrize(
    "other",
    [
        Need("b"),
        Need("a", version="1"),
        Need("a", type="1"),
        Need("a", contracts=("1",)),
        Need("a", contracts=("1", "2")),
        Need("a", contracts=("12",)),
        Need("a", allowed_skills=()),
        Need("a", allowed_skills=("a",)),
        Need("a", max_cost=0),
        Need("a", max_cost=1),
        Need("a", statuses=("b",)),
        Need("a", resources='{"b":1}'),
        Need("a", strategy="cheapest"),
        Need("a", hint="cheapest"),
    ],
)
def test_keys_of_different_needs_differ(other: Need) -> None:
    assert Need("a").key != other.key


def test_the_fields_of_a_need_do_not_run_into_each_other() -> None:
    needs = [Need("ab"), Need("a", "b"), Need("a", "", "b"), Need("a", "", "", ("b",)), Need("a", "", "", ("", "b"))]
    limits = [("a", "b"), ("a', 'b",), ("a\x1fb",), ("a", "\x1e", "b"), ()]
    needs += [Need("a", allowed_skills=limit) for limit in limits]
    needs += [Need("a", max_cost=1), Need("a", max_cost=11), Need("a", allowed_skills=(), max_cost=1)]
    needs += [Need("a", statuses=words) for words in limits if words]
    needs += [Need("a", resources="1"), Need("a", max_cost=1, resources="1"), Need("a", resources="11")]
    needs += [Need("a", strategy="b", hint="c"), Need("a", hint="bc"), Need("a", resources="1", hint="c")]
    assert len({need.key for need in needs}) == len(needs)
