"""JSON between handlers and workers: how deep it may be nested, found out without a look at each value."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from holon.domain.plain import MAX_DEPTH_READ
from holon.engine.payloads import check_depth, decode, may_be_deep
from holon.errors import InvalidArgument

# What stands in texts and looks like more of the shape, or like their end.
WORDS = ("", "a", '"', "\\", '\\"', "\\\\", "[", "{", "]}", '[[["', "é", '","', ":")


def nested(depth: int, chance: random.Random) -> Any:
    """Lists and objects so deep in each other, each with others beside the one that leads on."""
    if depth == 0:
        return chance.choice((1, None, *WORDS))
    beside = [nested(min(depth - 1, chance.randrange(3)), chance) for _ in range(chance.randrange(3))]
    inner = [*beside, nested(depth - 1, chance)]
    chance.shuffle(inner)
    if chance.random() < 0.5:
        return inner
    return {f"{chance.choice(WORDS)}{number}": one for number, one in enumerate(inner)}


def is_refused(value: Any) -> bool:
    try:
        check_depth(value, "it")
    except InvalidArgument:
        return True
    return False


@pytest.mark.parametrize("depth", [1, *(MAX_DEPTH_READ + more for more in (-1, 0, 1, 2, 40))])
def test_text_is_as_deep_as_its_value_whatever_its_texts_have_in_them(depth: int) -> None:
    for seed in range(50):
        value = nested(depth, random.Random(seed))
        text = orjson.dumps(value)
        assert may_be_deep(text) == is_refused(value) == (depth > MAX_DEPTH_READ), text
        assert may_be_deep(text, depth - 1)
        assert not may_be_deep(text, depth)


def test_what_is_large_and_not_deep_is_not_looked_at_value_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.engine.payloads.check_depth", None)
    value = {f"[{number}]": {"a": [number, '"[']} for number in range(1_000)}
    assert decode(orjson.dumps(value), "it") == value


def test_what_is_deep_is_refused_by_its_name() -> None:
    text = b"[" * (MAX_DEPTH_READ + 1) + b"]" * (MAX_DEPTH_READ + 1)
    with pytest.raises(InvalidArgument, match="the data: nested deeper than 64"):
        decode(text, "the data")
    # Of a name that is given twice the last counts.
    assert decode(b'{"a":%b,"a":1}' % text, "the data") == {"a": 1}
