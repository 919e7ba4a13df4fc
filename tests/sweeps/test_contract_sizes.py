"""Contracts and values of the largest size: what is usual is checked, and what would keep the node busy is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from holon.engine.contracts import Contracts
from holon.engine.needs import Needs
from holon.errors import Violation
from tests.unit.schemas import chain


def test_of_a_large_value_the_first_violation_is_told() -> None:
    contracts = Contracts()
    contract = contracts.add({"properties": {"xs": {"items": {"type": "integer"}}}})
    (violation,) = contracts.violations(contract, {"xs": [1, 1, *["x"] * 100_000]}, "data")
    assert violation == Violation("data.xs.2", 'value is not of type "integer"')
    contract = contracts.add({"properties": {"xs": {"items": {"anyOf": [{"type": "integer"}, {"minLength": 9}]}}}})
    (violation,) = contracts.violations(contract, {"xs": ["x"] * 100_000}, "data")
    assert violation == Violation("data", "violates its schema, and is too large to say where")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"contains": {"enum": [[n] for n in range(5_000)]}}, [[-1]] * 20_000),
        ({"items": {"allOf": [{"minimum": -n} for n in range(2_000)]}}, [0] * 100_000),
        (chain(13, 2) | {"items": {"$ref": "#/$defs/a0"}, "$ref": "#/$defs/a1"}, [1] * 100_000),
        # The engine of patterns follows all ways at once: 800 at each character, and as many of each short text.
        ({"pattern": "[ab]*a[ab]{800}c"}, "ab" * 500_000),
        ({"items": {"pattern": "^([ab]{1,9}c?){90}$"}}, ["ab" * 50] * 10_000),
        ({"patternProperties": {"[ab]*a[ab]{800}c": {}}}, {f"{'ab' * 500}{n}": 1 for n in range(900)}),
        ({"propertyNames": {"pattern": "[ab]*a[ab]{800}c"}}, {f"{'ab' * 500}{n}": 1 for n in range(900)}),
        # Where it is not clear what is repeated: blanks in a verbose one, and a bracket that two read in two ways.
        ({"pattern": "(?x: a { 8 # hundreds\n 00 } )"}, "ab" * 50_000),
        ({"pattern": "[]a]{9}[ab]{800}"}, "ab" * 50_000),
        # Numbers with many digits are worked with as exact fractions.
        ({"items": {"multipleOf": 1e-300}}, [1e308] * 10_000),
        ({"items": {"multipleOf": 0.01}}, [1e308] * 10_000),
        ({"items": {"allOf": [{"minimum": 0.5 + n} for n in range(100)]}}, [1e-300] * 10_000),
        ({"items": {"enum": [n + 0.5 for n in range(1_000)]}}, [0.1] * 10_000),
        ({"items": {"allOf": [{"uniqueItems": True}] * 1_000}}, [[{"n": n} for n in range(14)]] * 1_000),
    ],
)
def test_a_value_that_would_take_too_long_to_check_is_refused(schema: dict[str, Any], value: Any) -> None:
    contracts = Contracts()
    contract = contracts.add(schema)
    assert not contracts.accepts(contract, value)
    (violation,) = contracts.violations(contract, value, "params")
    assert violation == Violation("params", "is too large for its schema; checking it would take too long")


UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[1-7][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"pattern": UUID}}, ["0b7e3c52-19a4-4d6f-8e21-5a9c0d7f3b68"] * 25_000),
        ({"pattern": "^data:image/png;base64,[A-Za-z0-9+/]+={0,2}$"}, f"data:image/png;base64,{'Zm9v' * 240_000}"),
        ({"items": {"pattern": r"^[^@\s]+@[^@\s]+\.[^@\s]+$"}}, ["somebody@mail.example.org"] * 40_000),
        ({"properties": {"id": {"pattern": "[ab]*a[ab]{90}"}}}, {"id": "ab" * 50, "rows": [{"text": "ab" * 500_000}]}),
        ({"items": {"multipleOf": 0.01}}, [19.99] * 100_000),
        ({"items": {"minimum": -1.0, "maximum": 1.0}}, [0.123456] * 100_000),
        ({"uniqueItems": True}, [f"name-{n}" for n in range(80_000)]),
    ],
)
def test_a_large_value_for_usual_patterns_and_numbers_is_checked(schema: dict[str, Any], value: Any) -> None:
    contracts = Contracts()
    contract = contracts.add(schema)
    assert contracts.accepts(contract, value)
    assert contracts.violations(contract, value) == ()


def test_a_large_value_of_many_plain_parts_is_checked() -> None:
    fields = {f"field_{n}": {"type": "string", "maxLength": 10} for n in range(50)}
    contracts = Contracts()
    contract = contracts.add({"items": {"properties": fields, "required": list(fields)}})
    assert contracts.accepts(contract, [dict.fromkeys(fields, "x")] * 1_000)


def test_of_many_contracts_for_one_value_the_dearest_are_taken_to_refuse_it() -> None:
    contracts = Contracts()
    value = [0] * 10_000
    dear = [
        contracts.add({"items": {"allOf": [{"type": "integer"}] * 900, "title": f"the {number}th"}})
        for number in range(40)
    ]
    plain = contracts.add({"items": {"type": "integer"}})
    assert all(contracts.accepts(one, value) for one in dear[:2])
    for asked in ([*dear, plain], [*dear[:4], plain]):
        accepting = contracts.accepting(asked, value)
        assert plain in accepting
        assert len(accepting) <= 3
    assert contracts.accepting([dear[0]], value) == {dear[0]}
    assert contracts.accepting([*dear, plain], [0]) == {*dear, plain}


def test_a_task_that_fits_a_contract_which_it_was_not_tried_on_says_so(caplog: pytest.LogCaptureFixture) -> None:
    needs, refused = Needs(Contracts()), {"items": {"allOf": [{"type": "string"}] * 900}}
    learned = [needs.learn("t", refused)[0]]
    for number in itertools.count():
        # The first of them, by its id, is what the log tells of.
        fitting = {"items": {"allOf": [{"type": "integer"}] * 1_300, "title": f"the {number}th"}}
        if Contracts().contract_id(fitting) < learned[0]:
            break
    learned.append(needs.learn("t", fitting)[0])
    assert sorted(needs.of("t", [0] * 10_000).refused) == sorted(learned)
    assert "params is too large to be checked against all contracts of the skill" in caplog.text
