"""What a contract promises: it tells everything that is wrong, and cannot be turned against the node."""

from __future__ import annotations

from typing import Any

import pytest

from holon.engine.contracts import MAX_PATTERNS, MAX_VIOLATIONS, Contracts
from holon.engine.unused import MOST_PATTERNS
from holon.errors import InvalidArgument, NotFound, Violation
from tests.unit.schemas import chain

ORDER = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "lines": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
        "size": {"anyOf": [{"type": "object", "required": ["w"]}, {"type": "null"}]},
    },
    "required": ["n"],
    "additionalProperties": False,
}


def test_the_id_is_the_same_for_the_same_schema_however_its_keys_are_ordered() -> None:
    contracts = Contracts()
    assert contracts.contract_id({"type": "object", "required": []}) == contracts.add(
        {"required": [], "type": "object"}
    )
    assert contracts.contract_id({"type": "object"}) != contracts.contract_id({"type": "string"})
    assert Contracts().contract_id({"type": "string"}) == "00404e686415370f1711c4d7acfa2905"


@pytest.mark.parametrize("schema", [None, {}, {"title": "anything", "description": "goes", "$defs": {"a": {}}}])
def test_a_schema_that_accepts_everything_has_the_empty_id_and_accepts_everything(
    schema: dict[str, Any] | None,
) -> None:
    contracts = Contracts()
    assert contracts.add(schema) == ""
    assert contracts.accepts("", 5)
    assert contracts.violations("", 5) == ()


def test_a_value_that_fits_has_no_violations() -> None:
    contracts = Contracts()
    contract = contracts.add(ORDER)
    value = {"n": 1, "lines": [{"sku": "a"}], "size": None}
    assert contracts.accepts(contract, value)
    assert contracts.violations(contract, value, "initial_data") == ()


def test_every_violation_names_its_field_and_repeats_no_value() -> None:
    contracts = Contracts()
    contract = contracts.add(ORDER)
    value = {"n": "secret", "lines": [{"sku": "a"}, {}], "size": {}, "extra": "secret"}
    assert not contracts.accepts(contract, value)
    assert set(contracts.violations(contract, value, "initial_data")) == {
        Violation("initial_data.n", 'value is not of type "integer"'),
        Violation("initial_data.lines.1.sku", "is required"),
        Violation("initial_data.size.w", "is required"),
        Violation("initial_data.extra", "is not allowed"),
    }
    assert contracts.violations(contract, {}) == (Violation("n", "is required"),)


def test_a_boolean_is_no_integer_and_an_integer_stays_one() -> None:
    contracts = Contracts()
    contract = contracts.add({"type": "integer"})
    assert not contracts.accepts(contract, True)
    assert contracts.accepts(contract, 2**62)


def test_violations_are_bounded_in_number_and_length() -> None:
    contracts = Contracts()
    contract = contracts.add({"properties": {}, "additionalProperties": False})
    found = contracts.violations(contract, {"k" * 10_000 + str(n): 1 for n in range(100)})
    assert len(found) == MAX_VIOLATIONS
    assert all(len(one.field) <= 300 and len(one.reason) <= 300 for one in found)
    contract = contracts.add({"items": {"type": "integer"}})
    assert len(contracts.violations(contract, ["x"] * 100)) == MAX_VIOLATIONS


def test_a_value_that_is_no_json_is_a_violation() -> None:
    contracts = Contracts()
    contract = contracts.add({"type": "object"})
    for value in (object(), {1: 2}):
        assert not contracts.accepts(contract, value)
        ((field, reason),) = [(one.field, one.reason) for one in contracts.violations(contract, value, "params")]
        assert field == "params"
        assert reason.startswith("is not valid JSON")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "bogus"}, "at type"),
        ({"pattern": "("}, "regex"),
        ([], "not an object"),
        ({"const": object()}, "not valid JSON"),
        ({"enum": ["x" * 70_000]}, "65536"),
        ({"default": ["x"] * 70_000}, "65536"),
        ({"pattern": "(?=a)b"}, "cannot have look-around"),
        ({"pattern": r"(\p{L}{100}){100}"}, "1 MiB when compiled"),
        ({"allOf": [{"pattern": f"^{n}$"} for n in range(65)]}, "65 patterns"),
        ({"patternProperties": {f"^{n}$": {} for n in range(65)}}, "65 patterns"),
        ({"$ref": "#/$defs/nowhere"}, "has no target"),
        ({"$ref": "https://example.com/schema.json"}, "never fetched"),
        ({"$ref": "file:///etc/hostname"}, "never fetched"),
        ({"properties": {"a": {"$id": "https://example.com/", "$ref": "other"}}}, r"\$id is not supported"),
        ({"$anchor": "here", "$ref": "#here"}, r"\$anchor is not supported"),
        (chain(20, 2), "expand to over"),
        (chain(1400, 1), "too deep"),
    ],
)
def test_an_unusable_schema_is_refused_with_the_reason(schema: Any, reason: str) -> None:
    contracts = Contracts()
    with pytest.raises(InvalidArgument, match=reason) as error:
        contracts.add(schema)
    assert error.value.code == "SCHEMA_INVALID"
    assert "0 of" in repr(contracts)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (chain(5, 2), 1, "x"),
        ({"properties": {"next": {"$ref": "#"}}, "type": "object"}, {"next": {"next": {}}}, {"next": {"next": 1}}),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "x"}, {"$ref": 1}),
        ({"const": {"$ref": "https://example.com/"}}, {"$ref": "https://example.com/"}, {}),
        ({"$id": "https://me.example/", "$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}}, None, 1),
    ],
)
def test_local_references_are_followed(schema: dict[str, Any], good: Any, bad: Any) -> None:
    contracts = Contracts()
    contract = contracts.add(schema)
    assert contracts.accepts(contract, good)
    assert not contracts.accepts(contract, bad)


def test_a_pattern_never_backtracks() -> None:
    contracts = Contracts()
    contract = contracts.add({"pattern": "^(a+)+$"})
    assert contracts.accepts(contract, "a" * 100_000)
    assert not contracts.accepts(contract, "a" * 100_000 + "b")


def union(depth: int, leaf: Any) -> tuple[dict[str, Any], Any]:
    """A contract like that of a union of dataclasses that refer to it, and a value that fits none of them."""
    left = {"properties": {"a": {"$ref": "#/$defs/x"}}, "required": ["b"]}
    right = {"properties": {"a": {"$ref": "#/$defs/x"}}, "required": ["c"]}
    value = leaf
    for _ in range(depth):
        value = {"a": value}
    return {"$defs": {"x": {"anyOf": [left, right, {"type": "integer"}]}}, "$ref": "#/$defs/x"}, value


@pytest.mark.parametrize("depth", [12, 60])
def test_a_small_value_that_is_wrong_in_endlessly_many_ways_is_refused_at_once(depth: int) -> None:
    schema, value = union(depth, "x")
    contracts = Contracts()
    contract = contracts.add(schema)
    assert not contracts.accepts(contract, value)
    (violation,) = contracts.violations(contract, value, "params")
    assert violation == Violation("params", "violates its schema, and is too large to say where")


def test_a_recursive_union_takes_what_fits_it_however_deep() -> None:
    schema, value = union(0, 1)
    for _ in range(60):
        value = {"a": value, "b": 0}
    contracts = Contracts()
    contract = contracts.add(schema)
    assert contracts.accepts(contract, value)
    assert contracts.violations(contract, value) == ()
    assert contracts.violations(contract, {"a": {"a": 1, "c": 2}}) != ()


def test_contracts_with_patterns_that_nobody_holds_are_few() -> None:
    contracts = Contracts()
    for number in range(2 * MOST_PATTERNS // MAX_PATTERNS):
        contracts.add({"properties": {f"p{number}_{n}": {"pattern": f"^{n}$"} for n in range(MAX_PATTERNS)}})
    assert f"<Unused {MOST_PATTERNS // MAX_PATTERNS} of" in repr(contracts)


def test_the_least_recently_used_contract_is_forgotten_and_says_so() -> None:
    contracts = Contracts(limit=2)
    first, second = contracts.add({"type": "string"}), contracts.add({"type": "integer"})
    assert contracts.accepts(first, "x")
    contracts.add({"type": "null"})
    assert contracts.accepts(first, "x")
    with pytest.raises(NotFound, match="send its schema again") as error:
        contracts.violations(second, 1)
    assert error.value.code == "CONTRACT_UNKNOWN"
    assert contracts.accepts(contracts.add({"type": "integer"}), 1)


def test_a_contract_that_somebody_holds_is_never_forgotten() -> None:
    contracts = Contracts(limit=2)
    held = contracts.add({"type": "string"})
    contracts.hold(held)
    contracts.hold(held)
    for least in range(10):
        contracts.add({"minimum": least})
    contracts.release(held)
    assert not contracts.accepts(held, 1)
    contracts.release(held)
    for least in range(10, 12):
        contracts.add({"minimum": least})
    with pytest.raises(NotFound):
        contracts.accepts(held, 1)
