"""The graph of a blueprint: its states and the ways between them, seen without running anything."""

from __future__ import annotations

from typing import Any

from holon import Blueprint
from holon.context import ActionFactory
from holon.domain.graph import Edge, Node, graph_of


def order() -> Blueprint:
    blueprint = Blueprint("order", api_endpoint="/order")

    @blueprint.handler(is_end=True)
    async def shipped() -> None: ...

    @blueprint.handler(is_start=True)
    async def new(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        if initial_data.get("many"):
            actions.dispatch_parallel([{"task_type": "pack"}], aggregate_into="gather")
        else:
            actions.dispatch_task("pack", {}, transitions={"success": "shipped", "failure": "broken"})

    @blueprint.aggregator
    async def gather(actions: ActionFactory) -> None:
        actions.go_to("shipped")

    @blueprint.handler(is_end=True, outcome="failed")
    async def broken() -> None: ...

    return blueprint


def test_states_come_with_what_they_are_the_first_one_first() -> None:
    assert graph_of(order()).nodes == (
        Node("new", "start", ""),
        Node("shipped", "end", "finished"),
        Node("gather", "aggregator", ""),
        Node("broken", "end", "failed"),
    )


def test_ways_are_labelled_with_the_status_that_takes_them() -> None:
    assert set(graph_of(order()).edges) == {
        Edge("new", "gather", ""),
        Edge("new", "shipped", "success"),
        Edge("new", "broken", "failure"),
        Edge("gather", "shipped", ""),
    }


def test_where_a_handler_chooses_as_it_runs_the_states_that_it_names_are_shown_as_possible() -> None:
    blueprint = Blueprint("choice")

    @blueprint.handler(is_start=True)
    async def choose(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.go_to({1: "one", 2: "two"}[initial_data["n"]])

    @blueprint.handler(is_end=True)
    async def one() -> None: ...

    @blueprint.handler(is_end=True)
    async def two() -> None: ...

    assert graph_of(blueprint).edges == (Edge("choose", "one", "?"), Edge("choose", "two", "?"))


def test_a_start_that_is_an_end_is_shown_as_the_start_and_says_how_it_ends() -> None:
    blueprint = Blueprint("short")

    @blueprint.handler(is_start=True, is_end=True)
    async def only() -> None: ...

    assert graph_of(blueprint).nodes == (Node("only", "start", "finished"),)


def test_the_dot_text_names_every_state_and_way_and_escapes_what_names_may_hold() -> None:
    blueprint = Blueprint("quoted")

    @blueprint.handler('say "hi"', is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("t", {}, transitions={"success": "back\\slash"})

    @blueprint.handler("back\\slash", is_end=True)
    async def end() -> None: ...

    assert graph_of(blueprint).dot == (
        'digraph "quoted" {\n'
        "  rankdir=LR;\n"
        '  "say \\"hi\\"" [shape=oval];\n'
        '  "back\\\\slash" [shape=doublecircle];\n'
        '  "say \\"hi\\"" -> "back\\\\slash" [label="success"];\n'
        "}\n"
    )
