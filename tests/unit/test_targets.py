"""What can be known of a blueprint by its handlers' bytecode: whom it asks for, and whether for many at once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from holon.context import ActionFactory, JobContext
from holon.domain.blueprint import Blueprint
from holon.domain.integrity import is_parallel, skills_of
from holon.domain.surface import ACTIONS, CONTEXT, READ


async def asks(actions: ActionFactory) -> None:
    actions.dispatch_task("resize", {}, {"success": "end"})


async def asks_one_of_two(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    if initial_data["large"]:
        actions.dispatch_task(params={}, task_type="resize", transitions={"success": "end"})
    else:
        actions.dispatch_task(initial_data["skill"], {}, {"success": "end"})


async def fans_out(actions: ActionFactory) -> None:
    actions.dispatch_parallel([{"task_type": "resize"}], "end")


async def fans_out_out_of_sight(context: JobContext) -> None:
    spread(context.actions)


async def fans_out_by_a_tuple(actions: ActionFactory) -> None:
    actions.dispatch_parallel(*([], "end"))


def spread(actions: ActionFactory) -> None:
    """Whatever it does."""


def blueprint_of(handler: Callable[..., Any]) -> Blueprint:
    blueprint = Blueprint("x")
    blueprint.handler("start", is_start=True)(handler)

    @blueprint.handler(is_end=True)
    async def end() -> None: ...

    return blueprint


@pytest.mark.parametrize(
    ("handler", "parallel", "skills"),
    [
        (asks, False, {"resize"}),
        (asks_one_of_two, False, {"resize"}),
        (fans_out, True, set()),
        (fans_out_out_of_sight, True, set()),
        (fans_out_by_a_tuple, True, set()),
    ],
)
def test_it_is_known_whom_a_blueprint_asks_for_by_name_and_whether_for_many_at_once(
    handler: Callable[..., Any], parallel: bool, skills: set[str]
) -> None:
    blueprint = blueprint_of(handler)
    assert is_parallel(blueprint, lambda _: None) is parallel
    assert skills_of(blueprint, lambda _: None) == skills


def test_what_the_context_is_known_to_have_is_what_it_has() -> None:
    assert tuple(one.name for one in dataclasses.fields(JobContext)) == CONTEXT


def test_the_actions_that_are_known_by_name_are_those_that_there_are() -> None:
    public = {name for name in vars(ActionFactory) if not name.startswith("_")} - READ
    assert public == set(ACTIONS)
    for name, arguments in ACTIONS.items():
        assert ("self", *arguments) == tuple(inspect.signature(getattr(ActionFactory, name)).parameters)
