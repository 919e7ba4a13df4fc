"""What a handler is given, and how it decides."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from itertools import repeat
from typing import Any, get_args

import pytest

from holon.context import ActionFactory, DispatchStrategy, JobContext, PartItem, TaskItem
from holon.domain import fanning
from holon.domain.blueprint import Blueprint
from holon.domain.decisions import AskedTask, DispatchParallel, DispatchTask, GoTo
from holon.domain.states import Handler
from holon.domain.strategies import STRATEGIES
from holon.engine.arguments import arguments
from holon.errors import BlueprintError, InvalidArgument


def test_nothing_is_decided_before_a_call() -> None:
    assert ActionFactory().decision is None


def test_what_is_asked_for_to_keep_something_and_is_not_there_is_answered_with_what_there_is() -> None:
    context: Any = JobContext("1", "bp", "start", {})
    for one, name in ((context.actions, "update_context"), (context, "update"), (context, "save_state")):
        with pytest.raises(AttributeError, match=rf"'{name}': .* write `state_history"):
            getattr(one, name)
    with pytest.raises(AttributeError, match=r"no attribute 'gone'$"):
        _ = context.gone


def test_of_a_misspelt_action_it_is_said_which_may_be_meant() -> None:
    actions: Any = ActionFactory()
    with pytest.raises(AttributeError, match=r"no attribute 'dispach_task': did you mean 'dispatch_task'\?$"):
        _ = actions.dispach_task


def test_go_to_decides_the_next_state() -> None:
    actions = ActionFactory()
    actions.go_to("end")
    assert actions.decision == GoTo("end")


def test_dispatch_task_takes_its_first_arguments_by_position() -> None:
    actions = ActionFactory()
    actions.dispatch_task("t", {"n": 1}, {"success": "end"})
    assert actions.decision == DispatchTask(AskedTask("t", {"n": 1}), {"success": "end"})


def test_dispatch_task_takes_everything_by_name() -> None:
    actions = ActionFactory()
    actions.dispatch_task(
        task_type="t",
        params={"n": [1, 2.5, None, True, {"a": ()}]},
        transitions={"success": "end"},
        priority=2,
        timeout_seconds=3,
        dispatch_timeout_seconds=4.5,
        result_timeout_seconds=6,
    )
    assert actions.decision == DispatchTask(
        AskedTask("t", {"n": [1, 2.5, None, True, {"a": ()}]}, 2.0, 3.0, 4.5, 6.0), {"success": "end"}
    )


def test_dispatch_task_needs_only_the_skill() -> None:
    actions = ActionFactory()
    actions.dispatch_task("t")
    assert actions.decision == DispatchTask(AskedTask("t", {}), {})


def test_dispatch_parallel_takes_task_type_and_type_and_keeps_the_order() -> None:
    actions = ActionFactory()
    both: Any = {"task_type": "c", "type": "c", "dispatch_timeout_seconds": 3, "result_timeout_seconds": 4}
    actions.dispatch_parallel(
        [
            {"task_type": "a", "params": {"n": 1}},
            {"type": "b", "priority": 1, "timeout_seconds": 2},
            both,
        ],
        "gather",
    )
    assert actions.decision == DispatchParallel(
        (AskedTask("a", {"n": 1}), AskedTask("b", {}, 1.0, 2.0), AskedTask("c", {}, None, None, 3.0, 4.0)), "gather"
    )


def test_dispatch_parallel_takes_no_more_tasks_than_a_step_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanning, "MAX_BRANCHES", 1_000)
    actions = ActionFactory()
    task: TaskItem = {"task_type": "t", "params": {}}
    with pytest.raises(BlueprintError, match="over 1000 tasks") as raised:
        actions.dispatch_parallel(repeat(task), "met")
    assert (raised.value.code, actions.decision) == ("ACTION_INVALID", None)
    actions.dispatch_parallel(repeat(task, 1_000), "met")
    assert isinstance(actions.decision, DispatchParallel)
    assert len(actions.decision.branches) == 1_000


def test_of_tasks_that_say_little_and_ask_for_the_same_skill_only_the_params_are_looked_at_and_are_copied() -> None:
    params: list[dict[str, Any]] = [{"n": n, "list": [n]} for n in range(1_000)]
    given: list[TaskItem] = [{"task_type": "t", "params": one} for one in params]
    actions, called = ActionFactory(), 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal called
        called += event == "call"

    sys.setprofile(count)
    try:
        actions.dispatch_parallel(given, "gather")
    finally:
        sys.setprofile(None)
    # The generator goes on; the params are looked at, and their number, and their list, twice, and what is in that.
    assert called <= 6 * 1_000 + 50
    assert actions.decision == DispatchParallel(
        tuple([AskedTask("t", {"n": n, "list": [n]}) for n in range(1_000)]), "gather"
    )
    params[1]["n"] = -1
    assert isinstance(actions.decision.branches[1], AskedTask)
    assert actions.decision.branches[1].params == {"n": 1, "list": [1]}


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"task_type": "t", "params": {"x": {1}}}, "task 1: params.x is a set, which JSON cannot hold"),
        ({"task_type": "t", "params": {"x": 2**64}}, "task 1: params.x is an integer of over 64 bits"),
        ({"task_type": "t", "params": {"x": float("inf")}}, "task 1: params.x is inf, which JSON cannot hold"),
        ({"task_type": "t", "params": [1]}, "task 1: params is a list; give a dict"),
        ({"task_type": "", "params": {}}, "task 1: task_type is ''; give text that is not empty"),
        ({"task_type": None, "params": {}}, "task 1: task_type is None; give text that is not empty"),
    ],
)
def test_a_task_after_one_of_the_same_skill_is_refused_as_that_would_be(second: Any, reason: str) -> None:
    for tasks in ([{"task_type": "t", "params": {}}, second], [{"task_type": "u"}, second]):
        with pytest.raises(BlueprintError, match=re.escape(reason)):
            ActionFactory().dispatch_parallel(tasks, "gather")
    with pytest.raises(BlueprintError, match=re.escape(reason.replace("task 1", "task 0"))):
        ActionFactory().dispatch_parallel([second], "gather")


def test_dispatch_parallel_takes_any_iterable_even_an_empty_one() -> None:
    actions = ActionFactory()
    actions.dispatch_parallel(tasks=iter([]), aggregate_into="gather", fail_fast=True)
    assert actions.decision == DispatchParallel((), "gather", fail_fast=True)


def test_a_second_decision_is_refused_and_the_first_stands() -> None:
    actions = ActionFactory()
    actions.go_to("a")
    with pytest.raises(
        BlueprintError, match="already called go_to, and now calls dispatch_task; call one action"
    ) as error:
        actions.dispatch_task("t")
    assert error.value.code == "SECOND_DECISION"
    assert actions.decision == GoTo("a")


@pytest.mark.parametrize(
    ("method", "given", "reason"),
    [
        ("go_to", {"state": ""}, "state is ''"),
        ("go_to", {"state": None}, "state is None"),
        ("dispatch_task", {"task_type": 5}, "task_type is 5"),
        ("dispatch_task", {"task_type": "t", "params": [1]}, "params is a list"),
        ("dispatch_task", {"task_type": "t", "params": {1: 2}}, "params has the key 1"),
        ("dispatch_task", {"task_type": "t", "params": {"a": [{"b": {1}}]}}, r"params\.a\[0\]\.b is a set"),
        ("dispatch_task", {"task_type": "t", "params": {"a": float("nan")}}, r"params\.a is nan"),
        ("dispatch_task", {"task_type": "t", "params": {"a": 2**64}}, r"params\.a is an integer of over 64 bits"),
        ("dispatch_task", {"task_type": "t", "transitions": ["end"]}, "transitions is a list"),
        ("dispatch_task", {"task_type": "t", "transitions": {"success": None}}, "the state for 'success' is None"),
        ("dispatch_task", {"task_type": "t", "transitions": {"": "end"}}, "a status in transitions is ''"),
        ("dispatch_task", {"task_type": "t", "priority": "high"}, "priority is 'high'"),
        ("dispatch_task", {"task_type": "t", "priority": float("inf")}, "priority is inf"),
        ("dispatch_task", {"task_type": "t\ud800"}, r"task_type is 't\\ud800', which cannot be written as UTF-8"),
        ("dispatch_task", {"task_type": "t\0\x1b[2J"}, "which no worker can offer"),
        ("dispatch_parallel", {"tasks": [{"type": "a\nb"}], "aggregate_into": "x"}, "which no worker can offer"),
        ("dispatch_task", {"task_type": "t" * 129}, "task_type has 129 characters, over the limit of 128"),
        ("dispatch_task", {"task_type": "t", "transitions": {"x": "\ud800"}}, "cannot be written as UTF-8"),
        ("dispatch_parallel", {"tasks": [{"type": "\ud800"}], "aggregate_into": "x"}, "cannot be written as UTF-8"),
        ("go_to", {"state": "\ud800"}, "cannot be written as UTF-8"),
        ("dispatch_task", {"task_type": "t", "timeout_seconds": 0}, "timeout_seconds is 0"),
        ("dispatch_task", {"task_type": "t", "dispatch_timeout_seconds": True}, "dispatch_timeout_seconds is True"),
        ("dispatch_task", {"task_type": "t", "result_timeout_seconds": -1}, "result_timeout_seconds is -1"),
        ("dispatch_task", {"task_type": "t", "timeout_seconds": 1e300}, "timeout_seconds is 1e.300; .* at most"),
        ("dispatch_task", {"task_type": "t", "dispatch_timeout_seconds": 10**17}, "dispatch_timeout_seconds is 10"),
        ("dispatch_task", {"task_type": "t", "max_retries": -1}, "max_retries is -1"),
        ("dispatch_task", {"task_type": "t", "max_retries": 2**64}, "max_retries is 18446744073709551616"),
        ("dispatch_task", {"task_type": "t", "on_lost": "wait"}, "on_lost is 'wait', .*; give timeout_seconds or"),
        ("dispatch_task", {"task_type": "t", "on_lost": "soon"}, "on_lost is 'soon'"),
        ("dispatch_task", {"task_type": "t", "on_lost": 0}, "on_lost is 0"),
        ("dispatch_task", {"task_type": "t", "max_retries": True}, "max_retries is True"),
        (
            "dispatch_parallel",
            {"tasks": [{"type": "a"}, {"type": "b", "max_retries": -1}], "aggregate_into": "x"},
            "task 1: max_retries is -1; give a whole number from 0",
        ),
        ("dispatch_parallel", {"tasks": "abc", "aggregate_into": "x"}, "tasks is a str"),
        ("dispatch_parallel", {"tasks": 5, "aggregate_into": "x"}, "tasks is a int"),
        ("dispatch_parallel", {"tasks": ["t"], "aggregate_into": "x"}, "task 0 is a str"),
        ("dispatch_parallel", {"tasks": [], "aggregate_into": ""}, "aggregate_into is ''"),
        ("dispatch_parallel", {"tasks": [], "aggregate_into": "x", "fail_fast": 1}, "fail_fast is 1"),
        ("dispatch_parallel", {"tasks": [{"params": {}}], "aggregate_into": "x"}, "task 0: task_type is None"),
        (
            "dispatch_parallel",
            {"tasks": [{"type": "a"}, {"type": "a", "task_type": "b"}], "aggregate_into": "x"},
            "task 1 has task_type 'b' and type 'a'",
        ),
        (
            "dispatch_parallel",
            {"tasks": [{"type": "a", "transitions": {}}], "aggregate_into": "x"},
            "task 0 has the unknown key 'transitions'",
        ),
        (
            "dispatch_parallel",
            {"tasks": [{"type": "a", "timeout_seconds": "x"}], "aggregate_into": "x"},
            "task 0: time",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_the_call_with_its_place(method: str, given: dict[str, Any], reason: str) -> None:
    actions = ActionFactory()
    with pytest.raises(BlueprintError, match=f"{method}.*{reason}") as error:
        getattr(actions, method)(**given)
    assert error.value.code == "ACTION_INVALID"
    assert actions.decision is None


def test_params_that_contain_themselves_are_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(BlueprintError, match="nested over 200 levels deep"):
        ActionFactory().dispatch_task("t", loop)


def test_an_argument_that_is_not_honoured_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="requirements"):
        ActionFactory().dispatch_task("t", {}, {}, requirements={})  # type: ignore[call-arg]


def test_what_is_mistyped_is_found_by_the_type_checker_and_refused_at_the_call() -> None:
    # The type checker reports an ignore that is not needed, so it refuses each of these lines too.
    actions, files = ActionFactory(), ["a", "b"]
    with pytest.raises(BlueprintError, match="task 0 has the unknown key 'parms'"):
        actions.dispatch_parallel([{"task_type": "t", "parms": {}}], "x")  # type: ignore[list-item]
    items = [TaskItem(task_type="t"), TaskItem(task_type="t", parms={})]  # type: ignore[typeddict-unknown-key]
    with pytest.raises(BlueprintError, match="task 1 has the unknown key 'parms'"):
        actions.dispatch_parallel(items, "x")
    with pytest.raises(BlueprintError, match="task_type is None"):
        actions.dispatch_parallel([{"params": {"file": one}} for one in files], "x")  # type: ignore[misc]
    with pytest.raises(BlueprintError, match="max_retries is '3'"):
        actions.dispatch_parallel([{"task_type": "t", "max_retries": "3"}], "x")  # type: ignore[typeddict-item]
    with pytest.raises(BlueprintError, match="on_lost is 'waits'"):
        actions.dispatch_parallel([{"type": "t", "on_lost": "waits"}], "x")  # type: ignore[typeddict-item]
    with pytest.raises(BlueprintError, match='dispatch_strategy is "cheepest"'):
        actions.dispatch_parallel([{"type": "t", "dispatch_strategy": "cheepest"}], "x")  # type: ignore[typeddict-item]
    with pytest.raises(BlueprintError, match='dispatch_strategy is "cheepest"'):
        actions.dispatch_task("t", dispatch_strategy="cheepest")  # type: ignore[arg-type]
    with pytest.raises(BlueprintError, match="task 0 has the unknown key 'params'"):
        actions.dispatch_parallel([{"blueprint_name": "b", "params": {}}], "x")  # type: ignore[list-item]
    assert actions.decision is None
    part: PartItem = {"blueprint_name": "b", "initial_data": {"n": 1}}
    strategy: DispatchStrategy = "cheapest"
    actions.dispatch_parallel(
        [
            {"task_type": "t", "params": {"file": "a"}, "dispatch_strategy": strategy, "on_lost": 30},
            {"type": "u"},
            part,
        ],
        "x",
    )


def test_the_strategies_that_can_be_named_are_those_that_there_are() -> None:
    assert get_args(DispatchStrategy) == tuple(STRATEGIES)


def test_an_item_takes_what_dispatch_task_takes_but_where_its_job_goes() -> None:
    of_a_task = {*inspect.signature(ActionFactory.dispatch_task).parameters}
    assert {*TaskItem.__annotations__} == of_a_task - {"self", "transitions", "event_transitions"}
    said: dict[str, Any] = {
        "priority": 1,
        "timeout_seconds": 2,
        "dispatch_timeout_seconds": 3,
        "result_timeout_seconds": 4,
        "max_retries": 5,
        "on_lost": 6,
        "allowed_skills": ["s"],
        "max_cost": 7,
        "skill_version": "8",
        "skill_type": "9",
        "resource_requirements": {"resources": {"ram_gb": 10}},
        "dispatch_strategy": "cheapest",
        "resource_hint": "11",
    }
    assert {*said} == {*TaskItem.__annotations__} - {"task_type", "params"}
    alone, many = ActionFactory(), ActionFactory()
    alone.dispatch_task("t", {"n": 1}, **said)
    item: Any = {"task_type": "t", "params": {"n": 1}, **said}
    many.dispatch_parallel([item], "x")
    assert isinstance(alone.decision, DispatchTask)
    assert many.decision == DispatchParallel((alone.decision.task,), "x")


@dataclass
class Order:
    n: int


def handler_of(function: Any) -> Handler:
    one = Blueprint("flow")
    one.handler("work", is_start=True)(function)
    return one.start.handlers[0]


def context(**fields: Any) -> JobContext:
    return JobContext(
        **{"job_id": "j1", "blueprint_name": "flow", "current_state": "work", "initial_data": {}, **fields}
    )


def test_context_fields_win_over_history_and_history_over_initial_data() -> None:
    async def work(job_id: str, path: str, n: int, size: int, actions: ActionFactory) -> None: ...

    given = context(
        initial_data={"job_id": "x", "path": "old", "n": 1},
        state_history={"path": "new", "size": 3, "actions": "x"},
    )
    assert arguments(handler_of(work), given) == {
        "job_id": "j1",
        "path": "new",
        "n": 1,
        "size": 3,
        "actions": given.actions,
    }


def test_the_context_may_be_mixed_with_everything() -> None:
    async def work(  # type: ignore[no-untyped-def]
        context, job_id, blueprint_name, current_state, initial_data, state_history, aggregation_results, data_stores, n
    ) -> None: ...

    given = context(initial_data={"n": 1, "data_stores": 2}, state_history={"a": 2}, aggregation_results={"t": {}})
    assert arguments(handler_of(work), given) == {
        "context": given,
        "job_id": "j1",
        "blueprint_name": "flow",
        "current_state": "work",
        "initial_data": {"n": 1, "data_stores": 2},
        "state_history": {"a": 2},
        "aggregation_results": {"t": {}},
        "data_stores": given.data_stores,
        "n": 1,
    }


def test_the_history_given_is_the_jobs_own() -> None:
    async def work(state_history: dict[str, Any]) -> None: ...

    given = context()
    assert arguments(handler_of(work), given)["state_history"] is given.state_history


def test_a_value_of_none_is_a_value() -> None:
    async def work(path: str | None = "default") -> None: ...

    assert arguments(handler_of(work), context(state_history={"path": None})) == {"path": None}


def test_an_argument_that_is_nowhere_keeps_its_default() -> None:
    async def work(path: str = "default") -> None: ...

    assert arguments(handler_of(work), context()) == {}


def test_a_required_argument_that_is_nowhere_is_an_error_that_says_what_there_is() -> None:
    async def work(path: str) -> None: ...

    given = context(initial_data={"n": 1}, state_history={"size": 2})
    with pytest.raises(BlueprintError) as error:
        arguments(handler_of(work), given)
    assert error.value.code == "MISSING_ARGUMENT"
    for part in ("'path'", "'work'", "'flow'", "n, size", "job_id"):
        assert part in error.value.message


def test_initial_data_is_built_as_the_hint_of_this_handler_says() -> None:
    async def typed(initial_data: Order) -> None: ...

    async def untyped(initial_data) -> None: ...  # type: ignore[no-untyped-def]

    given = context(initial_data={"n": 1})
    assert arguments(handler_of(typed), given) == {"initial_data": Order(1)}
    assert arguments(handler_of(untyped), given) == {"initial_data": {"n": 1}}
    assert given.initial_data == {"n": 1}


def test_initial_data_that_does_not_fit_the_hint_is_an_invalid_argument() -> None:
    async def work(initial_data: Order) -> None: ...

    with pytest.raises(InvalidArgument, match="cannot become Order"):
        arguments(handler_of(work), context())
