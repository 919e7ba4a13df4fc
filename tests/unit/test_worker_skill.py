"""What the hints of a handler promise to the node, and what they make of a task's params."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

import orjson
import pydantic
import pytest

from holon.domain.fleet import MAX_CREDITS
from holon.errors import InvalidArgument
from holon.rxon.v1 import worker_pb2
from holon.worker import Cancelled, Progress, Result, Worker
from holon.worker.skill import Skill, skill_of


@dataclass
class Point:
    x: int
    y: int = 0


class Report(TypedDict):
    total: int


class Model(pydantic.BaseModel):
    name: str


def schemas(handler: Callable[..., Any]) -> tuple[Any, Any]:
    offering = skill_of(handler).offering()
    output = orjson.loads(offering.output_schema.data) if offering.HasField("output_schema") else None
    return orjson.loads(offering.input_schema.data), output


def bound(handler: Callable[..., Any], params: Any, **injected: Any) -> dict[str, Any]:
    return skill_of(handler).bind(params, injected)


def test_arguments_are_keys_of_the_params_and_reserved_names_are_not() -> None:
    def skill(n: int, where: Point, task_id: str, progress: Progress, cancelled: Cancelled, loud: bool = False) -> None:
        """Do it.

        And more.
        """

    takes, gives = schemas(skill)
    assert takes["required"] == ["n", "where"]
    assert takes["properties"].keys() == {"n", "where", "loud"}
    assert "additionalProperties" not in takes
    assert gives is None
    assert skill_of(skill).description == "Do it."
    assert bound(skill, {"n": 1, "where": {"x": 2}, "else": 3}, task_id="t1") == {
        "n": 1,
        "where": Point(2),
        "task_id": "t1",
    }


def test_params_give_all_of_them_and_a_dataclass_hint_gets_an_instance() -> None:
    def plain(params: dict[str, Any], n: int) -> None: ...

    def typed(params: Point) -> None: ...

    def model(params: Model) -> None: ...

    assert bound(plain, {"n": 1, "m": 2}) == {"params": {"n": 1, "m": 2}, "n": 1}
    assert bound(typed, {"x": 1}) == {"params": Point(1)}
    assert bound(model, {"name": "a"})["params"].name == "a"
    takes, _ = schemas(typed)
    assert takes["required"] == ["x"]
    assert "additionalProperties" not in takes, "what a skill takes stays open"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("send_progress", "use the argument `progress`"),
        ("task_files", "use the argument `files`"),
        ("params_metadata", "give `files.download` their `size`"),
        ("priority", "does not send the priority"),
        ("tracing_context", "the current span of OpenTelemetry"),
    ],
)
@pytest.mark.parametrize("hint", ["", ": Any", ": Progress", ": dict", ": dict[str, Any]", ": Mapping[str, str]"])
def test_what_is_another_sdks_helper_and_no_key_of_the_params_is_refused_with_what_to_use(
    name: str, hint: str, says: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"skill cannot be a skill: its argument '{name}' .*{says}") as error:
        skill_of(written(f"async def skill(n: int, {name}{hint}): ..."))
    assert error.value.code == "SKILL_INVALID"
    assert f"(`{name}: int`)" in error.value.message


@pytest.mark.parametrize(
    "argument",
    [
        "priority: int",
        "priority: Literal['low', 'high']",
        "priority: int | None",
        "priority=0",
        "task_files: list[str]",
        "tracing_context: Point",
        "tracing_context: WRITTEN",
        "*, send_progress: bool",
        "params_metadata: Any = None",
    ],
)
def test_such_a_name_is_a_key_of_the_params_where_its_default_or_hint_says_so(argument: str) -> None:
    name = argument.removeprefix("*, ").partition(":")[0].partition("=")[0]
    assert name in skill_of(written(f"def skill({argument}): ...")).input_schema["properties"]


def written(text: str) -> Callable[..., Any]:
    """A function that is written so."""
    names: dict[str, Any] = {
        "Any": Any,
        "Literal": Literal,
        "Mapping": Mapping,
        "Point": Point,
        "Progress": Progress,
        "WRITTEN": WRITTEN,
    }
    exec(text, names)
    found: Callable[..., Any] = names["skill"]
    return found


WRITTEN: Any = {"type": "object", "required": ["n"], "additionalProperties": False, "properties": {"n": {}}}


def test_schemas_may_be_written_out_for_params_for_an_argument_and_for_what_is_returned() -> None:
    def whole(params: WRITTEN) -> WRITTEN: ...

    def part(one: WRITTEN) -> None: ...

    skill = skill_of(whole)
    assert (skill.input_schema, skill.output_schema) == (WRITTEN, WRITTEN)
    assert skill.bind({"n": 1}, {}) == {"params": {"n": 1}}
    assert skill_of(part).input_schema == {"type": "object", "properties": {"one": WRITTEN}, "required": ["one"]}
    with pytest.raises(InvalidArgument, match="'one' in the params"):
        skill_of(part).bind({"one": 1}, {})


def test_the_rest_goes_to_a_double_star_argument() -> None:
    def skill(n: int, **rest: Any) -> None: ...

    assert bound(skill, {"n": 1, "m": 2, "task_id": "mine"}) == {"n": 1, "m": 2}


def test_a_double_star_argument_may_be_called_as_what_is_injected() -> None:
    def skill(n: int, **params: Any) -> None: ...

    assert bound(skill, {"n": 1, "m": 2}) == {"n": 1, "m": 2}
    assert skill_of(skill).injected == frozenset()


def test_the_return_hint_is_the_output_schema() -> None:
    def row() -> Report: ...  # type: ignore[empty-body]

    def point() -> Point: ...  # type: ignore[empty-body]

    async def result() -> Result: ...  # type: ignore[empty-body]

    def either() -> Point | Result: ...  # type: ignore[empty-body]

    def nothing() -> None: ...

    def unhinted():  # type: ignore[no-untyped-def]
        ...

    assert schemas(row)[1]["properties"] == {"total": {"type": "integer"}}
    assert schemas(point)[1]["required"] == ["x"]
    assert [schemas(one)[1] for one in (result, either, nothing, unhinted)] == [None] * 4


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "lack 'n'"),
        ({"n": "1"}, "'n' in the params of skill is not int"),
        ({"n": 1, "where": {"y": 1}}, "'where'"),
        ([1], "JSON object, not list"),
    ],
)
def test_params_that_are_not_what_the_hints_ask_for_are_refused_by_name(params: Any, says: str) -> None:
    def skill(n: int, where: Point | None = None) -> None: ...

    with pytest.raises(InvalidArgument, match=says) as caught:
        bound(skill, params)
    assert caught.value.code == "INPUT_INVALID"


def test_what_cannot_be_a_skill_is_refused_at_decoration() -> None:
    worker = Worker()

    def yields() -> Any:
        yield 1

    def gives_list() -> list[int]:
        return []

    def takes_list(params: list[int]) -> None: ...

    def both(params: Point, n: int) -> None: ...

    def stars(*numbers: int) -> None: ...

    def by_place(params: dict[str, Any], /) -> None: ...

    for handler, says in (
        (yields, "generator"),
        (gives_list, "a handler returns a JSON object"),
        (takes_list, "params must be a JSON object"),
        (both, "use one of the two"),
        (stars, "cannot be passed by name"),
        (by_place, "argument 'params' of .*by_place cannot be passed by name"),
        (len, "not a function"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            worker.skill(handler)
    assert worker.skills == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": 5}, "its name is 5; use text"),
        ({"version": 2}, "its version is 2; use text, such as '2'"),
        ({"type": b"t"}, "its type is b't'; use text"),
        ({"description": ["x"]}, r"its description is \['x'\]; use text"),
        ({"name": "n" * 129}, "the name may have at most 128 printable characters"),
        ({"name": "two\nlines"}, "the name may have at most 128 printable characters"),
        ({"version": "v" * 129}, "the version may have at most 128 printable characters"),
        ({"type": "t" * 129}, "the type may have at most 128 printable characters"),
        ({"statuses": "skipped"}, "its statuses are 'skipped'; use a list of text"),
        ({"statuses": ["skipped", 5]}, r"its statuses are \['skipped', 5\]; use a list of text"),
        ({"statuses": [f"s{n}" for n in range(65)]}, "a skill may have at most 64 statuses"),
        ({"statuses": ["s" * 129]}, "a skill may have at most 64 statuses, each of 1 to 128 characters"),
        ({"statuses": [""]}, "a skill may have at most 64 statuses, each of 1 to 128 characters"),
        ({"description": "d" * 4_097}, "its description has 4097 characters, over the limit of 4096"),
    ],
)
def test_options_of_a_skill_that_no_node_takes_are_refused_at_decoration(options: dict[str, Any], says: str) -> None:
    worker = Worker()
    with pytest.raises(InvalidArgument, match=f"double cannot be a skill: {says}"):

        @worker.skill(**options)
        def double(n: int) -> dict[str, int]:
            return {"doubled": 2 * n}

    assert worker.skills == ()


def test_a_worker_holds_no_more_tasks_than_a_node_gives_it() -> None:
    Worker(max_concurrent=MAX_CREDITS)
    for wrong in (0, MAX_CREDITS + 1, 1.5, "4", True):
        with pytest.raises(
            InvalidArgument, match=f"max_concurrent must be a whole number from 1 to 10000, not {wrong!r}"
        ):
            Worker(max_concurrent=cast("Any", wrong))


def test_a_worker_declares_a_machine_that_can_be_one() -> None:
    Worker(resources={})
    Worker(resources={"ram_gb": 8, "disks": {"nvme": 2}, "devices": [{"type": "gpu"}]})
    for wrong, why in (
        ([], "resources is a list; give a dict"),
        ({"devices": {}}, r"resources\.devices is an object; give a list"),
        ({"devices": [{"id": 0}]}, r"resources\.devices\[0\].id is 0; give text"),
        ({"os": b"x"}, r"resources\.os is a bytes, which JSON cannot hold"),
        ({"os": "x" * 65_537}, r"resources has 655\d\d bytes, over the limit of 65536"),
    ):
        with pytest.raises(InvalidArgument, match=f"^{why}"):
            Worker(resources=cast("Any", wrong))


def test_a_worker_says_what_it_has_loaded_of_its_own_skills_and_of_anything_else() -> None:
    worker = Worker()

    @worker.skill("ask")
    def ask() -> None: ...

    worker.warm(skills=["ask", "ask"], cached={"llama": 1})
    worker.warm()
    for said, why in (
        ({"skills": ["other"]}, "skills has 'other', which is not a skill of this worker"),
        ({"skills": "ask"}, "skills is text; give a list of names"),
        ({"cached": [""]}, 'cached has ""; a name has 1 to 256 printable characters'),
        ({"cached": ["x" * 257]}, "a name has 1 to 256"),
        ({"cached": [7]}, "cached has 7; a name"),
        ({"cached": map(str, range(1_001))}, "cached has 1001 names, over the limit of 1000"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            worker.warm(**cast("Any", said))


def test_a_worker_that_leaves_has_a_number_of_seconds_for_what_runs() -> None:
    for right in (0, 0.5, 30, math.inf):
        Worker(drain_grace=right)
    for wrong in (-1, math.nan, "30", None):
        with pytest.raises(InvalidArgument, match=f"drain_grace must be a number of seconds, 0 or more, not {wrong!r}"):
            Worker(drain_grace=cast("Any", wrong))


def test_a_skill_has_one_home_and_keeps_its_function() -> None:
    worker = Worker()

    @worker.skill("resize", version="2", type="image", description="Smaller.", statuses=["skipped"])
    def shrink(n: int) -> dict[str, int]:
        return {"n": n}

    @worker.skill
    async def grow(n: int) -> dict[str, int]:
        return {"n": n}

    assert shrink(3) == {"n": 3}
    offering = worker.skills[0].offering()
    assert (offering.skill, offering.version, offering.type) == ("resize", "2", "image")
    assert (offering.description, list(offering.statuses)) == ("Smaller.", ["skipped"])
    assert [skill.name for skill in worker.skills] == ["resize", "grow"]
    assert [skill.is_async for skill in worker.skills] == [False, True]
    with pytest.raises(InvalidArgument, match="already a skill"):
        worker.skill(grow)


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ({"skill": "resize"}, True),
        ({"skill": "resize", "version": "2", "type": "image"}, True),
        ({"skill": "resize", "version": "1"}, False),
        ({"skill": "resize", "type": "audio"}, False),
        ({"skill": "other"}, False),
    ],
)
def test_a_skill_answers_what_names_it(asked: dict[str, str], answers: bool) -> None:
    def resize() -> None: ...

    skill: Skill = skill_of(resize, version="2", type="image")
    assert (
        skill.answers(
            worker_pb2.TaskOffer(skill=asked["skill"], version=asked.get("version", ""), type=asked.get("type", ""))
        )
        is answers
    )
