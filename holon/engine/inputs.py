"""What jobs are given: read as what was asked, and checked by the contract of its blueprint."""

from __future__ import annotations

from typing import Any

from holon.domain.blueprint import Blueprint
from holon.engine.contracts import Contracts
from holon.engine.requests import Creating, input_of
from holon.errors import InvalidArgument


class Inputs:
    """Reads and checks what jobs are given.

    Arguments:
        contracts: those of the blueprints.
        max_payload: the most bytes that a job may be given.
    """

    def __init__(self, contracts: Contracts, max_payload: int) -> None:
        self._contracts = contracts
        self._max_payload = max_payload

    def __repr__(self) -> str:
        return f"Inputs({self._contracts!r})"

    def read(self, asked: Creating, blueprint: Blueprint, contract: str) -> tuple[Any, bytes]:
        """What a job of a blueprint is given, and that as JSON text.

        Raises:
            InvalidArgument: (INPUT_INVALID, NOT_JSON) it does not fit the contract, or is no JSON object.
            TooLarge: (LIMIT_EXCEEDED) its text has more bytes than the limit.
        """
        data, text = input_of(asked, self._max_payload)
        violations = self._contracts.violations(contract, data, "initial_data")
        if violations:
            first = violations[0]
            raise InvalidArgument(
                f"Input validation failed for blueprint {blueprint.name!r}: {first.field} {first.reason}",
                code="INPUT_INVALID",
                details=violations,
            )
        return data, text
