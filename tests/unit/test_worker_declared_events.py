"""The events that a skill declares: what it offers of them, and what can be no declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import orjson
import pytest

from holon.errors import InvalidArgument
from holon.worker import Worker
from holon.worker.skill import skill_of


@dataclass
class Seen:
    n: int
    where: str = ""


class Gone(TypedDict):
    why: str


def work() -> None: ...


def declared(events: Any) -> dict[str, Any]:
    offering = skill_of(work, events=events).offering()
    return {one.type: orjson.loads(one.schema.data) if one.HasField("schema") else None for one in offering.events}


def test_declared_events_are_offered_with_the_schemas_of_their_hints() -> None:
    written = {"type": "object", "required": ["x"]}
    told = declared({"seen": Seen, "gone": Gone, "odd": written, "any": None})
    assert list(told) == ["seen", "gone", "odd", "any"]
    assert (told["seen"]["required"], told["gone"]["required"]) == (["n"], ["why"])
    assert (told["odd"], told["any"]) == (written, None)
    assert declared({}) == {}


def test_the_decorator_takes_them() -> None:
    worker = Worker()
    worker.skill("work", events={"seen": Seen})(work)
    (skill,) = worker.skills
    assert [one.type for one in skill.offering().events] == ["seen"]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (["seen"], r"its events are \['seen'\]; give a dict"),
        ({"": None}, "event type ''"),
        ({"x" * 129: None}, "1 to 128 printable"),
        ({7: None}, "event type 7"),
        ({"signal_received": None}, "is reserved for what a job waits for"),
        ({"seen": int}, "event 'seen': a payload is a JSON object, but the hint <class 'int'> is not one"),
        ({"seen": bytes}, "event 'seen': JSON cannot hold the type hint <class 'bytes'>"),
        ({"seen": {"n": "int"}}, "event 'seen': a dict as a hint must be a JSON schema, but this one has none of"),
        ({f"e{n}": None for n in range(65)}, "declares 65 events, over the limit of 64"),
    ],
)
def test_what_no_event_can_be_is_refused_at_the_decorator(events: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=f"work cannot be a skill: .*{says}") as error:
        skill_of(work, events=events)
    assert error.value.code == "SKILL_INVALID"


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        ("other", {}, r"event 'other' is not declared by skill 'work' \(seen, odd, any\); add it to @worker.skill"),
        ("seen", {}, "payload of event 'seen' does not match the declaration of skill 'work': it lacks 'n'"),
        ("seen", None, "lacks 'n'"),
        ("seen", {"n": 1, "m": 2}, "has 'm', which is not declared"),
        ("seen", {"n": "1"}, "has a 'n' that is not integer"),
        ("seen", {"n": 1, "where": None}, "has a 'where' that is not string"),
        ("odd", {"y": 1}, "lacks 'x'"),
        ("odd", {"x": [{}]}, "it is not "),
    ],
)
def test_what_is_sent_is_held_against_what_is_declared(kind: str, payload: Any, says: str) -> None:
    class Odd(TypedDict):
        x: list[int]

    skill = skill_of(work, events={"seen": Seen, "odd": Odd, "any": None})
    text = b"" if payload is None else orjson.dumps(payload)
    with pytest.raises(InvalidArgument, match=says) as error:
        skill.events.check(skill.name, kind, text)
    assert error.value.code == "EVENT_INVALID"


def test_what_is_as_declared_passes_and_so_does_everything_where_nothing_is_declared() -> None:
    open_ended = {"type": "object", "additionalProperties": False, "patternProperties": {"^x": {}}, "properties": {}}
    skill = skill_of(work, events={"seen": Seen, "any": None, "open": open_ended})
    skill.events.check("work", "seen", b'{"n":1,"where":"here"}')
    skill.events.check("work", "any", b'{"whatever":[1]}')
    skill.events.check("work", "open", b'{"x1":1}')
    skill_of(work).events.check("work", "other", b'{"n":"1"}')
