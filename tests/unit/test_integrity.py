"""What is found wrong with a blueprint before any job runs."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holon.domain.blueprint import Blueprint
from holon.domain.integrity import branching_tasks, check, unknown_statuses
from tests.unit.integrity import blueprint


def test_a_sound_blueprint_has_no_problem() -> None:
    async def start(actions: Any) -> None:
        actions.go_to("end")

    assert check(blueprint(start, "end")) == []


def test_a_blueprint_without_start_is_an_error() -> None:
    one = Blueprint("one")

    @one.handler(is_end=True)
    async def end() -> None: ...

    (problem,) = check(one)
    assert (problem.severity, problem.state) == ("error", None)
    assert "no start state" in problem.message


@pytest.mark.parametrize(("count", "sound"), [(64, True), (65, False)])
def test_the_ends_of_a_blueprint_have_no_more_statuses_than_a_parent_takes(count: int, sound: bool) -> None:
    one = Blueprint("one")

    async def start(actions: Any, to: str) -> None:
        actions.go_to(to)

    one.handler("start", is_start=True)(start)
    for n in range(count):

        async def end() -> None: ...

        one.handler(f"end{n}", is_end=True, status=f"s{n}")(end)
    errors = [problem.message for problem in check(one) if problem.severity == "error"]
    assert errors == [] if sound else "its ends have 65 statuses, over the limit of 64" in errors[0]


async def by_position(actions: Any) -> None:
    actions.go_to("gone")


async def by_name(actions: Any) -> None:
    actions.go_to(state="gone")


async def through_the_context(context: Any) -> None:
    context.actions.go_to("gone")


async def in_one_branch_of_a_choice(actions: Any, x: int = 0) -> None:
    actions.go_to("end" if x else "gone")


async def in_a_nested_function(actions: Any) -> None:
    def go() -> None:
        actions.go_to("gone")

    go()


async def in_an_exception_handler(actions: Any) -> None:
    try:
        actions.go_to("end")
    except ValueError:
        actions.go_to("gone")
    finally:
        with contextlib.suppress(OSError):
            print()  # noqa: T201


async def in_transitions_by_position(actions: Any) -> None:
    actions.dispatch_task("t", {}, {"success": "gone"})


async def in_transitions_by_name(actions: Any) -> None:
    actions.dispatch_task("t", params={"a": "b"}, transitions={"success": "gone", "failure": "end"}, priority=1)


async def in_transitions_beside_a_variable(actions: Any, x: str = "end") -> None:
    actions.dispatch_task("t", {}, {"success": "gone", "failure": x})


async def in_transitions_that_are_merged(actions: Any, x: Any = ()) -> None:
    if x:
        actions.dispatch_task("t", {}, {"success": "gone"} | {"failure": "end"})
    else:
        actions.go_to("end")


async def in_transitions_that_another_is_merged_into(actions: Any, x: Any = ()) -> None:
    actions.dispatch_task("t", {}, transitions=x | {"failure": "gone"})


async def in_transitions_that_are_spread(actions: Any) -> None:
    actions.dispatch_task("t", {}, {**{"success": "gone"}, "failure": "end"})  # noqa: PIE800


async def in_transitions_beside_some_that_are_spread(actions: Any, x: Any = ()) -> None:
    actions.dispatch_task("t", {}, {**x, "failure": "gone"})


async def in_what_follows_a_decision(actions: Any, x: str = "?") -> None:
    actions.await_human_approval("chat", x, {"yes": "gone", "no": "end"}, timeout_seconds=5)


async def in_what_follows_a_pause(actions: Any, x: float = 5) -> None:
    actions.sleep(x, state="gone")


async def as_aggregator_by_position(actions: Any) -> None:
    actions.dispatch_parallel([{"type": "t", "params": {"n": n}} for n in range(3)], "gone")


async def as_aggregator_by_name(actions: Any) -> None:
    actions.dispatch_parallel(tasks=[], aggregate_into="gone", fail_fast=True)


@pytest.mark.parametrize(
    "start",
    [
        by_position,
        by_name,
        through_the_context,
        in_one_branch_of_a_choice,
        in_a_nested_function,
        in_an_exception_handler,
        in_transitions_by_position,
        in_transitions_by_name,
        in_transitions_beside_a_variable,
        in_transitions_that_are_merged,
        in_transitions_that_another_is_merged_into,
        in_transitions_that_are_spread,
        in_transitions_beside_some_that_are_spread,
        in_what_follows_a_decision,
        in_what_follows_a_pause,
        as_aggregator_by_position,
        as_aggregator_by_name,
    ],
)
def test_a_constant_target_that_is_no_state_is_an_error_with_its_line(start: Callable[..., Awaitable[Any]]) -> None:
    (problem,) = [one for one in check(blueprint(start, "end")) if "'gone'" in one.message]
    assert (problem.severity, problem.state) == ("error", "start")
    assert "leads to 'gone', which is not a state" in problem.message
    line = int(problem.message.split("test_integrity.py:")[1].split(")")[0])
    assert "gone" in lines()[line - 1]


@functools.cache
def lines() -> list[str]:
    return Path(__file__).read_text(encoding="utf-8").splitlines()


async def an_action_that_there_is_not(actions: Any) -> None:
    actions.goto("end")


async def an_action_through_the_context(context: Any, x: int = 0) -> None:
    if x:
        context.actions.run_workflow("end", {})


async def an_action_in_a_nested_function(actions: Any) -> None:
    def go() -> None:
        actions.emit("end", {"yes": "end"})

    go()


async def an_argument_that_there_is_not(actions: Any, x: int = 0) -> None:
    y = x
    actions.dispatch_task("t", {}, {"success": "end"}, priority=y, output_schema={})


async def a_part_of_the_context_that_there_is_not(context: Any) -> None:
    if context.tracing_context.get("x"):
        context.actions.go_to("end")


@pytest.mark.parametrize(
    ("start", "named", "there"),
    [
        (a_part_of_the_context_that_there_is_not, "tracing_context", "context.state_history"),
        (an_action_that_there_is_not, "goto", "actions.go_to"),
        (an_action_through_the_context, "run_workflow", "actions.dispatch_task"),
        (an_action_in_a_nested_function, "emit", "actions.dispatch_parallel"),
        (an_argument_that_there_is_not, "output_schema", "max_cost"),
    ],
)
def test_what_actions_or_context_do_not_have_is_an_error_with_its_line_and_what_there_is(
    start: Callable[..., Awaitable[Any]], named: str, there: str
) -> None:
    (problem,) = check(blueprint(start, "end"))
    assert (problem.severity, problem.state) == ("error", "start")
    assert there in problem.message
    line = int(problem.message.split("test_integrity.py:")[1].split(")")[0])
    assert f".{named}" in lines()[line - 1] or f"{named}=" in lines()[line - 1]


async def a_misspelt_action(actions: Any) -> None:
    actions.dispach_task("t", {}, {"success": "end"})


async def a_misspelt_argument(actions: Any) -> None:
    actions.dispatch_task("t", {}, transition={"success": "end"})


async def a_misspelt_state(actions: Any) -> None:
    actions.dispatch_task("t", {}, {"success": "end", "failure": "edn"})


@pytest.mark.parametrize(
    ("start", "meant"),
    [
        (a_misspelt_action, "no actions.dispach_task in this version; did you mean actions.dispatch_task?"),
        (a_misspelt_argument, "does not take transition in this version (did you mean 'transitions'?)"),
        (a_misspelt_state, "which is not a state of blueprint 'one' (did you mean 'end'?)"),
    ],
)
def test_of_a_misspelt_name_it_is_said_which_may_be_meant(start: Callable[..., Awaitable[Any]], meant: str) -> None:
    (problem,) = [one for one in check(blueprint(start, "end")) if "test_integrity.py" in one.message]
    assert (problem.severity, problem.message.partition("): ")[2].endswith(meant)) == ("error", True), problem


@pytest.mark.parametrize("declared", [[], [frozenset()], [frozenset({"needs_review"}), frozenset()]])
def test_a_status_like_one_of_every_task_is_told_where_a_skill_may_end_with_others(
    declared: list[frozenset[str]],
) -> None:
    async def start(actions: Any) -> None:
        actions.dispatch_task("t", {}, {"sucess": "end", "approved": "end"})

    (task,) = branching_tasks(blueprint(start, "end"))
    ((status, problem),) = unknown_statuses(task, declared).items()
    assert (status, problem.severity) == ("sucess", "warning")
    assert problem.message.endswith("which a worker only returns if it declares it (did you mean 'success'?)")
    assert unknown_statuses(task, [frozenset(), frozenset({"sucess"})]) == {}


async def keeps_by_an_action(actions: Any) -> None:
    actions.update_context({"x": 1})
    actions.go_to("end")


async def keeps_by_the_context(actions: Any, context: Any) -> None:
    context.set("x", 1)
    actions.go_to("end")


@pytest.mark.parametrize("start", [keeps_by_an_action, keeps_by_the_context])
def test_who_wants_to_keep_something_by_what_there_is_not_is_told_of_state_history(
    start: Callable[..., Awaitable[Any]],
) -> None:
    (problem,) = check(blueprint(start, "end"))
    assert problem.severity == "error"
    assert re.search(r"there is no (actions|context)\.(update_context|set) in .*write `state_history", problem.message)


async def writes_a_key(initial_data: dict[str, Any], actions: Any) -> None:
    if initial_data["x"]:
        initial_data["lost"] = {"y": initial_data.get("y")}
    actions.go_to("end")


async def adds_to_a_key(initial_data: dict[str, Any], actions: Any) -> None:
    initial_data["lost"] += 1
    actions.go_to("end")


async def writes_by_the_context(context: Any) -> None:
    x = context.initial_data["x"]
    context.initial_data["lost"] = x
    context.actions.go_to("end")


async def writes_by_a_method(initial_data: dict[str, Any], actions: Any) -> None:
    initial_data.update(lost=1)
    actions.go_to("end")


async def writes_a_field(initial_data: Any, actions: Any) -> None:
    initial_data.lost = 1
    actions.go_to("end")


@pytest.mark.parametrize(
    "start", [writes_a_key, adds_to_a_key, writes_by_the_context, writes_by_a_method, writes_a_field]
)
def test_what_is_written_into_initial_data_and_goes_nowhere_is_a_warning_with_its_line(
    start: Callable[..., Awaitable[Any]],
) -> None:
    (problem,) = check(blueprint(start, "end"))
    assert (problem.severity, problem.state) == ("warning", "start")
    assert problem.message.endswith("to keep it for later states, write it into state_history")
    line = int(problem.message.split("test_integrity.py:")[1].split(")")[0])
    assert "lost" in lines()[line - 1]


async def hands_it_on(initial_data: dict[str, Any], actions: Any) -> None:
    initial_data["x"] = 1
    actions.dispatch_task("t", initial_data, {"success": "end"})


async def reads_it_again(initial_data: dict[str, Any], state_history: dict[str, Any], actions: Any) -> None:
    initial_data["x"] = initial_data["y"]
    state_history["x"] = initial_data["x"]
    actions.go_to("end")


async def goes_through_it(initial_data: dict[str, Any], actions: Any) -> None:
    initial_data["x"] = 1
    actions.dispatch_task("t", dict(initial_data.items()), {"success": "end"})


async def has_another(initial_data: dict[str, Any], actions: Any) -> None:
    initial_data = {**initial_data}
    initial_data["x"] = 1
    actions.go_to("end")


async def has_a_function_that_sees_it(initial_data: dict[str, Any], actions: Any) -> None:
    def whole() -> dict[str, Any]:
        return initial_data

    initial_data["x"] = 1
    actions.dispatch_task("t", whole(), {"success": "end"})


@pytest.mark.parametrize(
    "start", [hands_it_on, reads_it_again, goes_through_it, has_another, has_a_function_that_sees_it]
)
def test_what_is_written_into_initial_data_for_the_same_run_is_no_problem(start: Callable[..., Awaitable[Any]]) -> None:
    assert check(blueprint(start, "end")) == []


async def another_variable_of_the_name(initial_data: dict[str, Any]) -> None:
    actions = []
    actions.append(initial_data["end"])


async def the_argument_with_another_value(actions: Any, x: Any = None) -> None:
    actions = x or actions
    actions.whatever("end")


async def another_context(actions: Any, context: Any = None) -> None:
    context = context or object()
    actions.go_to(context.whatever)


async def another_argument_of_the_name(actions: Any) -> None:
    def pick(actions: list[str]) -> str:
        return actions.pop()

    actions.go_to(pick(["end"]))


@pytest.mark.parametrize(
    "start",
    [
        another_variable_of_the_name,
        the_argument_with_another_value,
        another_argument_of_the_name,
        another_context,
    ],
)
def test_what_only_has_the_name_of_actions_or_context_may_have_anything(start: Callable[..., Awaitable[Any]]) -> None:
    assert [one for one in check(blueprint(start, "end")) if one.severity == "error"] == []


def test_what_stands_before_a_handler_may_give_it_other_actions() -> None:
    def extended(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(handler)
        async def wrapper(actions: Any) -> None:
            await handler(actions=actions)

        return wrapper

    assert [
        one for one in check(blueprint(extended(an_action_that_there_is_not), "end")) if one.severity == "error"
    ] == []


async def other_texts_are_no_targets(actions: Any, page: Any = None) -> None:
    """Says gone."""
    if page:
        page.go_to("gone")
        page.dispatch_task("gone", {}, {"success": "gone"})
    actions.dispatch_task("gone", {"success": "gone", "transitions": {"failure": "gone"}}, {"gone": "end"})


async def no_transitions_are_no_target(actions: Any, x: bool = False) -> None:
    if x:
        actions.dispatch_task("t", {})
    elif actions.decision:
        actions.dispatch_task("t", {}, None)
    else:
        actions.go_to("end")


async def what_is_hidden_by_a_merge_is_no_target(actions: Any, x: Any = ()) -> None:
    if x:
        actions.dispatch_task("t", {}, {"success": "gone"} | {"success": "end"})
    elif actions.decision:
        # What may be hidden is not sure to be one.
        actions.dispatch_task("t", {}, {"success": "gone"} | {**x, "failure": "end"})
    else:
        actions.dispatch_task("t", {}, {"success": "gone", **x})


@pytest.mark.parametrize(
    "start", [other_texts_are_no_targets, no_transitions_are_no_target, what_is_hidden_by_a_merge_is_no_target]
)
def test_what_is_no_argument_for_a_state_is_no_target(start: Callable[..., Awaitable[Any]]) -> None:
    assert check(blueprint(start, "end")) == []
