"""Needs: of contracts that nobody offers any more, so many are known."""

from __future__ import annotations

from holon.engine.contracts import Contracts
from holon.engine.needs import MAX_UNUSED, Needs
from holon.engine.unused import MOST_PATTERNS


def known(needs: Needs) -> int:
    """How many contracts of the skill are known."""
    need = needs.of("t", {})
    return len(need.contracts) + len(need.refused)


def test_i8_of_the_contracts_that_nobody_offers_the_last_are_known() -> None:
    needs = Needs(Contracts())
    offered, _ = needs.learn("t", {"required": ["offered"]})
    for number in range(2 * MAX_UNUSED):
        contract, new = needs.learn("t", {"required": [f"field-{number}"]})
        assert new
        needs.release("t", contract)
    assert known(needs) == MAX_UNUSED + 1
    assert offered in needs.of("t", {}).refused
    # Who comes back soon finds what waits tried on it; who comes back late does not.
    for number, tried in ((2 * MAX_UNUSED - 1, True), (0, False)):
        contract, new = needs.learn("t", {"required": [f"field-{number}"]})
        assert new is not tried
        needs.release("t", contract)


def test_i8_contracts_with_patterns_are_known_as_long_as_those_are_few() -> None:
    needs = Needs(Contracts())
    most = 64
    for number in range(20):
        schema = {"properties": {f"p{number}-{n}": {"pattern": f"^{n}$"} for n in range(most)}}
        contract, _ = needs.learn("t", schema)
        needs.release("t", contract)
    assert known(needs) == MOST_PATTERNS // most


def test_a_contract_that_is_offered_again_is_known_however_many_others_come_and_go() -> None:
    needs = Needs(Contracts())
    schema = {"required": ["offered"]}
    offered, _ = needs.learn("t", schema)
    needs.release("t", offered)
    needs.learn("t", schema)
    for number in range(MAX_UNUSED + 1):
        contract, _ = needs.learn("t", {"required": [f"field-{number}"]})
        needs.release("t", contract)
    assert offered in needs.of("t", {}).refused
    assert known(needs) == MAX_UNUSED + 1


def test_params_are_tried_however_deep_they_are_nested() -> None:
    needs, deep = Needs(Contracts()), b'{"a":' * 150 + b"{}" + b"}" * 150
    waiting = needs.of("t", {})
    accepts, _ = needs.learn("t", {"type": "object"})
    refuses, _ = needs.learn("t", {"required": ["b"]})
    tried = needs.tried(waiting, deep)
    assert (tried.contracts, tried.refused) == ((accepts,), (refuses,))
