"""States with several handlers: which of them runs, what they say of their state, and what is checked of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.graph import Edge, graph_of
from holon.domain.integrity import check, is_parallel, skills_of
from holon.errors import BlueprintError

URGENT = "context.initial_data.type == 'urgent'"
LARGE = "context.initial_data.size > 10"


async def urgent() -> None: ...


async def large() -> None: ...


async def normal() -> None: ...


@pytest.mark.parametrize("order", list(itertools.permutations([urgent, large, normal])))
def test_the_first_that_holds_runs_in_the_order_of_definition_and_else_the_one_without(order: Any) -> None:
    one = Blueprint("one")
    conditions = {urgent: URGENT, large: LARGE}
    for function in order:
        decorate: Any = one.handler("sort")
        (decorate.when(conditions[function]) if function in conditions else decorate)(function)
    state = one.states["sort"]

    def runs(**data: Any) -> Any:
        return state.handler(data, {}).function

    assert runs(type="urgent") is urgent
    assert runs(size=11) is large
    assert runs(type="normal", size=1) is runs() is normal
    first = next(one for one in order if one is not normal)
    assert runs(type="urgent", size=11) is first


def test_without_a_default_the_error_names_what_was_looked_at_and_no_value() -> None:
    one = Blueprint("one")
    one.handler("sort").when(URGENT)(urgent)
    one.handler("sort").when(LARGE)(large)
    with pytest.raises(BlueprintError) as none:
        one.states["sort"].handler({"type": "slow"}, {})
    assert none.value.code == "NO_CONDITION_HOLDS"
    looked = f"`{URGENT}` found a text; `{LARGE}` found nothing"
    assert str(none.value) == f"state 'sort' has no handler for this job: {looked}; add a handler without a condition"


def test_a_condition_is_read_where_it_is_written() -> None:
    one = Blueprint("one")
    with pytest.raises(BlueprintError, match=r"^state 'sort': when: the condition 'x == 1' cannot be read at 'x == 1'"):
        one.handler("sort").when("x == 1")
    with pytest.raises(ValueError, match=r"^when: the condition 'x == 1' cannot be read"):
        one.handler().when("x == 1")
    assert not one.states


def test_what_is_said_with_one_handler_holds_for_its_state_in_either_order() -> None:
    for first, second in itertools.permutations(["conditional", "default"]):
        one = Blueprint("one")
        flags: Any = {"is_start": True, "is_end": True, "status": "partial", "progress_weight": 3}
        for which in (first, second):
            decorate: Any = one.handler("sort", **(flags if which == "conditional" else {}))
            (decorate.when(URGENT) if which == "conditional" else decorate)(normal)
        state = one.start
        said = state.is_end, state.outcome, state.status, state.progress_weight, len(state.handlers)
        assert said == (True, "finished", "partial", 3, 2)


def test_a_name_left_out_is_that_of_the_function() -> None:
    one = Blueprint("one")
    one.handler().when(URGENT)(normal)
    one.handler(normal)
    assert [len(state.handlers) for state in one.states.values()] == [2]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"is_end": True, "outcome": "failed"}, {"is_end": True, "outcome": "finished"}, "outcome='failed' in another"),
        ({"is_end": True, "status": "a"}, {"is_end": True, "status": "b"}, "status='a' in another"),
        ({"progress_weight": 0}, {"progress_weight": 1}, "progress_weight=0 in another"),
        ({"is_end": True, "outcome": "failed"}, {"is_end": True, "status": "b"}, "status='b' is invalid; use a word"),
    ],
)
def test_two_handlers_that_say_different_things_of_their_state_are_refused(first: Any, second: Any, why: str) -> None:
    one = Blueprint("one")
    one.handler("sort", **first).when(URGENT)(urgent)
    with pytest.raises(BlueprintError, match=why):
        one.handler("sort", **second)(normal)
    assert len(one.states["sort"].handlers) == 1


def test_a_second_default_a_condition_that_is_there_and_an_aggregator_are_refused() -> None:
    one = Blueprint("one")
    one.handler("sort").when(URGENT)(urgent)
    one.handler("sort")(normal)
    for decorate in (one.handler("sort"), one.aggregator("sort")):
        with pytest.raises(BlueprintError, match=r"'sort' of blueprint 'one' is already defined by \w+ \("):
            decorate(large)
    with pytest.raises(BlueprintError, match=r"already defined, with the same condition, by urgent \("):
        one.handler("sort").when(URGENT)(large)
    one.aggregator("gather")(normal)
    with pytest.raises(BlueprintError, match=r"'gather' of blueprint 'one' is already defined"):
        one.handler("gather").when(URGENT)(urgent)


def test_a_second_start_is_another_state_and_no_other_handler_of_the_first() -> None:
    one = Blueprint("one")
    one.handler("sort", is_start=True).when(URGENT)(urgent)
    one.handler("sort", is_start=True)(normal)
    with pytest.raises(BlueprintError, match="already starts in 'sort'"):
        one.handler("other", is_start=True).when(URGENT)(urgent)


@dataclass
class Order:
    type: str


@dataclass
class Other:
    type: str
    n: int


def starting(first: Any, second: Any) -> Blueprint:
    one = Blueprint("one")

    async def quick(initial_data: Any) -> None: ...

    async def slow(initial_data: Any) -> None: ...

    quick.__annotations__["initial_data"] = first
    slow.__annotations__["initial_data"] = second
    one.handler("start", is_start=True, is_end=True).when(URGENT)(quick)
    one.handler("start")(slow)
    return one


@pytest.mark.parametrize(("first", "second"), [(Order, Order), (Order, Any), (Any, Order)])
def test_the_handlers_of_the_start_have_one_contract_and_one_without_a_hint_says_nothing(
    first: Any, second: Any
) -> None:
    one = starting(first, second)
    assert check(one) == []
    assert one.input_schema is not None
    assert one.input_schema["required"] == ["type"]


@pytest.mark.parametrize(("first", "second"), [(Order, Other), (Order, dict)])
def test_contracts_of_one_start_that_differ_are_an_error_that_names_both_handlers(first: Any, second: Any) -> None:
    one = starting(first, second)
    (problem,) = check(one)
    assert (problem.severity, problem.state) == ("error", "start")
    for part in ("slow (", "quick (", "initial_data", "start state 'start'"):
        assert part in problem.message
    with pytest.raises(BlueprintError, match="differ"):
        _ = one.input_schema


def test_a_result_is_promised_where_all_handlers_of_the_end_promise_it() -> None:
    def ending(*hints: Any) -> Blueprint:
        one = Blueprint("one")
        for number, hint in enumerate(hints):

            async def end() -> Any: ...

            end.__annotations__["return"] = hint
            one.handler("end", is_start=True, is_end=True).when(f"context.initial_data.n == {number}")(end)
        return one

    assert ending(Order, Order).output_schema == ending(Order).output_schema is not None
    assert ending(Order, Other).output_schema is None
    assert ending(Order, Any).output_schema is None


def nobody(_: str) -> None:
    """There is no other blueprint."""


def flow() -> Blueprint:
    one = Blueprint("one")

    @one.handler("start", is_start=True).when(URGENT)
    async def now(actions: ActionFactory) -> None:
        actions.dispatch_task("hurry", {}, {"success": "end"})

    @one.handler("start")
    async def later(actions: ActionFactory) -> None:
        actions.dispatch_parallel([{"task_type": "t"}], "gather")

    @one.handler("start").when(LARGE)
    async def anywhere(actions: ActionFactory) -> None:
        actions.go_to("end")

    @one.aggregator
    async def gather(actions: ActionFactory) -> None:
        actions.go_to("end")

    @one.handler(is_end=True)
    async def end() -> None: ...

    return one


def test_ways_of_all_handlers_of_a_state_are_followed_and_labelled_with_their_condition() -> None:
    one = flow()
    assert check(one) == []
    assert graph_of(one).edges == (
        Edge("start", "end", f"success when {URGENT}"),
        Edge("start", "end", LARGE),
        Edge("start", "gather", ""),
        Edge("gather", "end", ""),
    )
    assert (set(skills_of(one, nobody)), is_parallel(one, nobody)) == ({"hurry"}, True)


def test_what_is_wrong_with_a_conditional_handler_is_found_in_its_line() -> None:
    one = flow()

    @one.handler("gone_to").when(URGENT)
    async def lost(actions: Any) -> None:
        actions.go_to("nowhere")

    @one.handler("gone_to")
    async def mistaken(actions: Any) -> None:
        actions.fly()

    @one.handler("gone_to").when(LARGE)
    async def idle() -> None: ...

    first = lost.__code__.co_firstlineno
    found = [(problem.severity, problem.message) for problem in check(one)]
    places = [f"state 'gone_to' ({__file__}:{line})" for line in (first + 2, first + 8, first + 6, first)]
    assert [severity for severity, _ in found] == ["error", "warning", "error", "error"]
    for (_, message), place in zip(found, places, strict=True):
        assert message.startswith(place)
