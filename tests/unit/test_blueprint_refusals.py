"""What is no blueprint is refused where it is written."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holon.domain.blueprint import Blueprint
from holon.errors import BlueprintError


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 129, "ü", 5, None])
def test_a_blueprint_name_of_other_characters_is_refused(name: Any) -> None:
    with pytest.raises(BlueprintError, match="A-Z a-z 0-9 _ -"):
        Blueprint(name)


@pytest.mark.parametrize(
    ("endpoint", "version"),
    [
        ("/jobs/{id}", "v1"),
        ("//x", None),
        ("/", None),
        ("/a", "v 1"),
        ("/../x", "v1"),
        ("/a/..", None),
        ("/a/./x", None),
        ("/.", None),
        ("/x", ".."),
        ("/x", "."),
    ],
)
def test_an_endpoint_that_is_no_path_is_refused(endpoint: str, version: str | None) -> None:
    with pytest.raises(BlueprintError, match="write it like"):
        Blueprint("one", endpoint, version)


def test_a_hint_that_json_cannot_hold_names_the_handler_and_its_line() -> None:
    one = Blueprint("one")

    @one.handler(is_start=True)
    async def start(initial_data: bytes) -> None: ...

    with pytest.raises(BlueprintError, match=r"start \(.*test_blueprint_refusals.py:\d+\): initial_data: .*bytes"):
        _ = one.input_schema


def test_a_second_start_is_refused_and_names_the_first() -> None:
    one = Blueprint("one")

    @one.handler(is_start=True)
    async def first() -> None: ...

    with pytest.raises(BlueprintError, match=r"already starts in 'first'.*exactly one"):

        @one.handler(is_start=True)
        async def second() -> None: ...


def test_a_blueprint_without_start_says_so() -> None:
    with pytest.raises(BlueprintError, match="no start state"):
        _ = Blueprint("one").start


@pytest.mark.parametrize("again", ["handler", "aggregator"])
@pytest.mark.parametrize("first", ["handler", "aggregator"])
def test_a_state_defined_twice_is_refused(first: str, again: str) -> None:
    one = Blueprint("one")

    async def work() -> None: ...

    getattr(one, first)(work)
    with pytest.raises(BlueprintError, match=r"'work' of blueprint 'one' is already defined by .*work \(.*:\d+\)"):
        getattr(one, again)("work")(work)


def test_a_function_that_is_not_async_is_refused_with_its_place() -> None:
    one = Blueprint("one")

    def plain() -> None: ...

    with pytest.raises(BlueprintError, match=r"plain \(.*test_blueprint_refusals.py:\d+\): is not async; .*async def"):
        one.handler(plain)  # type: ignore[type-var]


def test_what_is_async_but_no_function_of_a_handler_is_refused_for_what_it_is() -> None:
    one = Blueprint("one")

    async def work(greeting: str) -> None: ...

    async def many() -> AsyncIterator[int]:
        yield 1

    class Flow:
        async def step(self) -> None: ...

    for odd, said in (
        (many, "is a generator, because it has a `yield`"),
        (Flow().step, "is a method"),
        (functools.partial(work, "hello"), "is a partial"),
    ):
        with pytest.raises(BlueprintError, match=f": {said}; "):
            one.handler("odd")(odd)  # type: ignore[type-var]


@pytest.mark.parametrize("flags", [{"outcome": "failed"}, {"is_end": True, "outcome": "great"}])
def test_an_outcome_without_an_end_or_of_another_word_is_refused(flags: Any) -> None:
    one = Blueprint("one")

    async def work() -> None: ...

    with pytest.raises(BlueprintError, match="outcome="):
        one.handler(**flags)(work)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            "one.aggregator('start').when('context.initial_data.x == 1')",
            "at most one condition, and aggregators have none",
        ),
        ("one.validate()", "when it is registered"),
        ("one.render_graph()", "holon blueprints graph"),
        ("one.nonsense", "'Blueprint' object has no attribute 'nonsense'$"),
    ],
)
def test_what_a_blueprint_does_not_have_is_refused_and_said_why(asked: str, told: str) -> None:
    with pytest.raises(AttributeError, match=told):
        eval(asked, {"one": Blueprint("one")})


def test_arguments_that_have_no_name_are_refused() -> None:
    one = Blueprint("one")

    async def work(*args: Any, **kwargs: Any) -> None: ...

    async def positional(job_id: str, /) -> None: ...

    for function in (work, positional):
        with pytest.raises(BlueprintError, match="cannot be passed by name"):
            one.handler(function)


@pytest.mark.parametrize("name", ["tracing_context"])
@pytest.mark.parametrize("default", ["", "=None"])
def test_an_argument_kept_for_what_is_not_there_yet_is_refused_where_it_is_written(name: str, default: str) -> None:
    space: dict[str, Any] = {}
    exec(f"async def work(actions, {name}{default}): ...", space)
    one = Blueprint("one")
    for decorate in (one.handler(is_start=True), one.handler(is_end=True), one.aggregator):
        with pytest.raises(BlueprintError, match=rf"work .*'{name}': .* yet\. .* initial_data"):
            decorate(space["work"])
    assert not one.states
