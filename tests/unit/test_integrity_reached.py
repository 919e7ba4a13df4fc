"""Blueprints: which states are led to, and what is only warned of."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holon.domain.integrity import check
from tests.unit.integrity import blueprint, found

ELSEWHERE = "d"


def test_a_state_nobody_leads_to_is_an_error() -> None:
    async def start(actions: Any) -> None:
        actions.go_to("end")

    (problem,) = check(blueprint(start, "end", "lost"))
    assert (problem.severity, problem.state) == ("error", "lost")
    assert "leads to 'lost'" in problem.message


def test_states_that_only_lead_to_each_other_are_unreachable() -> None:
    async def start(actions: Any) -> None:
        actions.go_to("end")

    async def ping(actions: Any) -> None:
        actions.go_to("pong")

    async def pong(actions: Any) -> None:
        actions.go_to("ping")

    one = blueprint(start, "end")
    one.handler(ping)
    one.handler(pong)
    assert found(one) == [("error", "ping"), ("error", "pong")]


def test_a_text_anywhere_in_the_code_of_a_reachable_handler_makes_a_state_reachable() -> None:
    async def start(actions: Any, x: str = "") -> None:
        for name in ("a", "b"):
            if name == x:
                (lambda: actions.go_to("c"))()
        else:
            actions.go_to("a")

    assert check(blueprint(start, "a", "b", "c")) == []


async def by_a_variable(actions: Any, x: str = "") -> None:
    actions.go_to(x)


async def by_a_global(actions: Any) -> None:
    actions.go_to(ELSEWHERE)


async def by_an_f_string(actions: Any, x: str = "") -> None:
    actions.go_to(f"a{x}")


async def by_a_default(actions: Any, x: str = "") -> None:
    actions.go_to(x or "a")


async def by_another_name(actions: Any, x: str = "") -> None:
    decide = actions.go_to
    decide(x)


async def by_an_alias(actions: Any, x: str = "") -> None:
    also = actions
    also.go_to(x)


async def by_unpacking(actions: Any, x: Any = ()) -> None:
    actions.go_to(*x)


async def by_a_made_dictionary(actions: Any, x: Any = ()) -> None:
    actions.dispatch_task("t", {}, {"success": "a", **x})


async def by_another_function(actions: Any) -> None:
    print(actions)  # noqa: T201


async def by_giving_the_context_away(context: Any) -> None:
    await by_another_function(context)


@pytest.mark.parametrize(
    "start",
    [
        by_a_variable,
        by_a_global,
        by_an_f_string,
        by_a_default,
        by_another_name,
        by_an_alias,
        by_unpacking,
        by_a_made_dictionary,
        by_another_function,
        by_giving_the_context_away,
    ],
)
def test_where_a_target_is_chosen_at_run_time_unreachable_is_a_warning(start: Callable[..., Awaitable[Any]]) -> None:
    assert ("warning", "d") in found(blueprint(start, "a", "d"))
    assert ("error", "d") not in found(blueprint(start, "a", "d"))


def test_a_wrapped_handler_is_read_through_its_wrapper() -> None:
    async def inner(actions: Any) -> None:
        actions.go_to("gone")

    @functools.wraps(inner)
    async def start(*args: Any, **kwargs: Any) -> None:
        await inner(*args, **kwargs)

    assert found(blueprint(start, "end")) == [("error", "start"), ("warning", "end")]


def test_a_blueprint_without_an_end_is_a_warning() -> None:
    async def start(actions: Any) -> None:
        actions.go_to("start")

    assert found(blueprint(start)) == [("warning", None)]


def test_a_handler_that_cannot_decide_and_is_no_end_is_a_warning() -> None:
    async def start(job_id: str) -> None: ...

    assert ("warning", "start") in found(blueprint(start))


def test_an_initial_data_that_can_be_no_object_is_an_error_in_any_handler() -> None:
    async def start(initial_data: list[int], actions: Any) -> None:
        actions.go_to("later")

    async def later(initial_data: complex, actions: Any) -> None:
        actions.go_to("end")

    one = blueprint(start, "end")
    one.handler(later)
    assert found(one) == [("error", "start"), ("error", "later")]


def test_an_unresolvable_hint_of_initial_data_is_an_error() -> None:
    async def start(initial_data: Nowhere, actions: Any) -> None:  # type: ignore[name-defined]  # noqa: F821
        actions.go_to("end")

    (problem,) = check(blueprint(start, "end"))
    assert problem.severity == "error"
    assert "Nowhere" in problem.message
