"""Conditions on handlers: how they are read, and of which data they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holon.domain.conditions import condition_of
from holon.errors import BlueprintError


def holds(written: str, **initial_data: Any) -> bool:
    return condition_of(f"context.initial_data.{written}").holds(initial_data, {})


@pytest.mark.parametrize(
    ("sign", "holding"),
    [("==", [5]), ("!=", [4, 6]), (">", [6]), ("<", [4]), (">=", [5, 6]), ("<=", [4, 5])],
)
def test_b08_every_operator_compares_numbers(sign: str, holding: list[int]) -> None:
    assert [n for n in (4, 5, 6) if holds(f"n {sign} 5", n=n)] == holding
    assert [n for n in (4.0, 5.0, 6.0) if holds(f"n{sign}5", n=n)] == holding


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'urgent'", "urgent"),
        ('"urgent"', "urgent"),
        ("'5'", "5"),
        ("'true'", "true"),
        ("'null'", "null"),
        ("''", ""),
        ("' a  b '", " a  b "),
        ('"it\'s"', "it's"),
        (r"'C:\new'", r"C:\new"),
        ("'and context.x == 1'", "and context.x == 1"),
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("5.5", 5.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-2.5E-1", -0.25),
        ("18446744073709551615", 2**64 - 1),
        ("true", True),
        ("True", True),
        ("false", False),
        ("False", False),
        ("null", None),
        ("None", None),
    ],
)
def test_a_value_is_what_it_looks_like_and_what_is_quoted_is_text(written: str, value: Any) -> None:
    read = condition_of(f"context.initial_data.x == {written}")
    assert (read.value, type(read.value)) == (value, type(value))
    assert read.holds({"x": value}, {})


KINDS: tuple[Any, ...] = ("5", 5, True, None, [5], {"n": 5})


@pytest.mark.parametrize("sign", ["==", "!=", ">", "<", ">=", "<="])
@pytest.mark.parametrize("written", ["'5'", "5", "true"])
def test_what_is_of_another_kind_or_not_there_makes_it_false_and_never_raises(sign: str, written: str) -> None:
    if written == "true" and sign not in ("==", "!="):
        return
    own = json.loads(written.replace("'", '"'))
    others = [one for one in KINDS if type(one) is not type(own)]
    assert [one for one in others if holds(f"x {sign} {written}", x=one)] == []
    assert not holds(f"x {sign} {written}")
    assert not holds(f"x.y.z {sign} {written}", x=own)


def test_true_is_no_number_and_one_is_not_true() -> None:
    assert [one for one in (1, 1.0, True) if holds("x == 1", x=one) and not isinstance(one, bool)] == [1, 1.0]
    assert not holds("x == 1", x=True)
    assert not holds("x == true", x=1)
    assert not holds("x > 0", x=True)


def test_null_is_found_and_whatever_is_there_and_is_not_null_is_not() -> None:
    assert [one for one in KINDS if holds("x == null", x=one)] == [None]
    assert [one for one in KINDS if holds("x != null", x=one)] == ["5", 5, True, [5], {"n": 5}]
    assert not holds("x == null")
    assert not holds("x != null")


def test_texts_are_compared_character_by_character() -> None:
    assert holds("day >= '2026-11-28'", day="2026-12-01")
    assert not holds("day >= '2026-11-28'", day="2026-11-27")


def test_a_field_may_be_one_of_an_object_in_an_object_of_either_area() -> None:
    condition = condition_of("context.state_history.order.parcel-1.weight_kg > 20")
    assert condition.holds({}, {"order": {"parcel-1": {"weight_kg": 21}}})
    assert not condition.holds({"order": {"parcel-1": {"weight_kg": 21}}}, {})
    assert not condition.holds({}, {"order": {"parcel-1": [{"weight_kg": 21}]}})


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "at its end: write a field of context.initial_data or context.state_history first"),
        ("initial_data.x == 1", r"at 'initial_data.x == 1' \(character 1\): write a field of context"),
        ("context.x == 1", "write a field of context"),
        ("context.client.plan == 'gold'", "write a field of context"),
        ("context.initial_data == 1", "write a field of context"),
        ("context.initial_data. == 1", "write a field of context"),
        ("context.initial_data.a..b == 1", "write a field of context"),
        ("5 < context.initial_data.x", "write a field of context"),
        ("not context.initial_data.x == 1", "write a field of context"),
        ("context.initial_data.x", "at its end: after the field, write one of == != > < >= <="),
        ("context.initial_data.x = 1", r"at '= 1' \(character 24\): after the field, write one of"),
        ("context.initial_data.x is 1", "after the field, write one of"),
        ("context.initial_data.x ==", "at its end: write a text in quotes, a number, true, false or null"),
        ("context.initial_data.x == urgent", r"at 'urgent' \(character 27\): quote the text 'urgent'"),
        ("context.initial_data.x != very-urgent", "quote the text 'very-urgent'"),
        ("context.initial_data.x == urgent and more", "quote the text 'urgent'"),
        ("context.initial_data.x == 'urgent", "write a text in quotes"),
        ("context.initial_data.x === 1", "write a text in quotes"),
        ("context.initial_data.x == 1_000", "write a text in quotes"),
        ("context.initial_data.x == 1.2.3", "write a text in quotes"),
        ("context.initial_data.x == [1]", "write a text in quotes"),
        ("context.initial_data.x == context.initial_data.y", "write a text in quotes"),
        ("context.initial_data.x == 1e999", "this number is too large"),
        ("context.initial_data.x > true", "true has no order"),
        ("context.initial_data.x <= null", "null has no order"),
        ("context.initial_data.x == 1 and context.initial_data.y == 2", "a condition is one comparison"),
        ("context.initial_data.x == 'it''s'", "a condition is one comparison"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_place_in_it(written: str, why: str) -> None:
    with pytest.raises(BlueprintError, match=why) as refused:
        condition_of(written)
    assert repr(written) in str(refused.value)


@pytest.mark.parametrize(
    ("given", "why"),
    [(None, "is null"), (True, "is true or false"), (len, "is a builtin"), ("x" * 1001, "over the limit of 1000")],
)
def test_a_condition_is_text_and_not_without_end(given: Any, why: str) -> None:
    with pytest.raises(BlueprintError, match=why):
        condition_of(given)


def test_what_it_looked_at_is_told_by_its_kind_and_never_by_its_value() -> None:
    condition = condition_of("context.initial_data.a.key == 'x'")
    told = [condition.looked_at(data, {}) for data in ({}, {"a": {"key": "secret"}}, {"a": {"key": None}})]
    assert told == [f"`{condition}` found {what}" for what in ("nothing", "a text", "null")]
