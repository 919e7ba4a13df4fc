"""What a blueprint promises to whoever writes one."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from holon.domain.blueprint import Blueprint
from holon.domain.states import Handler, State, Want
from holon.errors import BlueprintError


@dataclass
class Order:
    n: int
    note: str = ""


bp = Blueprint("every_form", api_endpoint="/jobs/every_form", api_version="v1")


@bp.handler(is_start=True)
async def start(initial_data: Order, actions: Any) -> None:
    actions.go_to("bare")


@bp.handler
async def bare(actions: Any) -> None:
    actions.go_to("called")


@bp.handler()
async def called(actions: Any) -> None:
    actions.go_to("named")


@bp.handler("named")
async def a_function_of_another_name(actions: Any, note: str = "none") -> None:
    actions.dispatch_parallel([], aggregate_into="bare_sum" if note else "called_sum")


@bp.aggregator
async def bare_sum(aggregation_results: dict[str, Any], actions: Any) -> None:
    actions.go_to("failed")


@bp.aggregator()
async def called_sum(actions: Any) -> None:
    actions.dispatch_parallel([], "named_sum")


@bp.aggregator("named_sum")
async def third(actions: Any) -> None:
    actions.dispatch_task("t", {}, {"success": "done", "failure": "broken", "late": "by_name"})


@bp.handler(is_end=True)
async def done() -> None: ...


@bp.handler("by_name", is_end=True)
async def fourth() -> None: ...


@bp.handler(is_end=True)
async def failed() -> None: ...


@bp.handler(is_end=True, outcome="failed")
async def broken() -> None: ...


def test_every_decorator_form_defines_a_state_named_by_its_argument_or_its_function() -> None:
    assert [name for name, state in bp.states.items() if not state.is_aggregator] == [
        *("start", "bare", "called", "named", "done", "by_name", "failed", "broken")
    ]
    assert [name for name, state in bp.states.items() if state.is_aggregator] == ["bare_sum", "called_sum", "named_sum"]
    assert bp.states["named"].handlers[0].function is a_function_of_another_name


def test_the_start_is_the_state_marked_so() -> None:
    wants = (Want("initial_data", True), Want("actions", True))
    assert bp.start == State("start", (Handler(start, wants, prompt=True),), True, False, None, False)


def test_an_end_is_a_success_whatever_its_name_unless_named_failed_or_said_so() -> None:
    ends = {state.name: state.outcome for state in bp.states.values() if state.is_end}
    assert ends == {"done": "finished", "by_name": "finished", "failed": "failed", "broken": "failed"}


def test_states_are_as_wide_as_they_weigh_in_the_order_of_their_definition() -> None:
    one = Blueprint("one")
    for name, weighs in (("a", 1), ("b", 0), ("c", 2.5), ("d", None)):
        one.handler(name, progress_weight=weighs)(bare)
    one.aggregator("e", progress_weight=0.5)(bare)
    one.handler("end", is_end=True)(bare)
    assert list(one.spans) == ["a", "b", "c", "d", "e", "end"]
    wide = [(0, 20), (20, 0), (20, 50), (70, 20), (90, 10), (100, 0)]
    assert [edge for span in one.spans.values() for edge in span] == pytest.approx(
        [edge for span in wide for edge in span]
    )
    # Of what weighs nothing, one is as good as another; and a sum may be too large for a number.
    one, large = Blueprint("one"), Blueprint("large")
    one.handler("all", is_start=True, is_end=True)(bare)
    for name in ("a", "b"):
        large.handler(name, progress_weight=1e308)(bare)
    assert (one.spans, large.spans) == ({"all": (0, 100)}, {"a": (0, 50), "b": (50, 50)})


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), 10**400, True, "1"])
def test_a_weight_that_is_none_is_refused_by_the_name_of_its_handler(weight: Any) -> None:
    one = Blueprint("one")
    for decorate in (one.handler("a", progress_weight=weight), one.aggregator("b", progress_weight=weight)):
        with pytest.raises(BlueprintError, match=r"^bare \(.*test_blueprint.py:\d+\): progress_weight=.*0 or more"):
            decorate(bare)
    assert not one.states


def test_an_end_named_failed_may_be_declared_a_success() -> None:
    one = Blueprint("one")

    @one.handler(is_end=True, outcome="finished")
    async def failed() -> None: ...

    assert one.states["failed"].outcome == "finished"


def test_arguments_with_a_default_are_not_required() -> None:
    assert bp.states["named"].handlers[0].wants == (Want("actions", True), Want("note", False))


@pytest.mark.parametrize(
    ("endpoint", "version", "path"),
    [
        ("/jobs/my_flow", "v1", "/api/v1/jobs/my_flow"),
        ("jobs/my_flow", "v1", "/api/v1/jobs/my_flow"),
        ("/jobs/my_flow", None, "/api/jobs/my_flow"),
        (None, "v1", None),
    ],
)
def test_the_path_is_made_of_version_and_endpoint(endpoint: str | None, version: str | None, path: str | None) -> None:
    assert Blueprint("one", endpoint, version).path == path


@pytest.mark.parametrize("endpoint", ["/.x", "/x.", "/a..b/...", "/..a/b"])
def test_dots_in_the_parts_of_an_endpoint_are_as_good_as_letters(endpoint: str) -> None:
    assert Blueprint("one", endpoint, "1.0").path == f"/api/1.0{endpoint}"


def test_the_input_schema_comes_from_the_start_handlers_hint() -> None:
    assert bp.input_schema == {
        "type": "object",
        "title": "Order",
        "properties": {"n": {"type": "integer"}, "note": {"type": "string"}},
        "required": ["n"],
        "additionalProperties": False,
    }


def test_without_a_hint_any_input_goes() -> None:
    one = Blueprint("one")

    @one.handler(is_start=True)
    async def start(initial_data, actions) -> None: ...  # type: ignore[no-untyped-def]

    assert one.input_schema is None


def test_other_hints_need_not_be_readable() -> None:
    one = Blueprint("one")

    @one.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert one.input_schema == {"type": "object"}


def test_what_is_wrong_with_a_blueprint_is_a_value_error() -> None:
    one = Blueprint("one")

    @one.handler(is_start=True)
    async def start() -> None: ...

    with pytest.raises(ValueError, match="already starts"):
        one.handler("other", is_start=True)(start)
    with pytest.raises(ValueError, match="already defined"):
        one.handler("start")(start)


def test_a_wrapped_handler_wants_what_the_wrapped_one_does() -> None:
    def logged(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> None:
            await function(*args, **kwargs)

        return wrapper

    one = Blueprint("one")

    @one.handler(is_start=True)
    @logged
    async def start(initial_data: Order) -> None: ...

    assert one.start.handlers[0].wants == (Want("initial_data", True),)
    assert one.input_schema == bp.input_schema
