"""What jobs are given: read as what was asked, and checked by the contract of its blueprint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from holon.domain.blueprint import Blueprint
from holon.domain.class_checks import refusals
from holon.domain.schema import hint_of
from holon.engine.contracts import Contracts
from holon.engine.requests import Creating, input_of
from holon.errors import BlueprintError, HolonError, InvalidArgument, Violation

log = logging.getLogger(__name__)


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
            raise _invalid(blueprint, violations)
        return data, text

    def check_now(self, asked: Creating, blueprint: Blueprint, contract: str) -> None:
        """Raise what a job would be refused for by what it is given; runs code of the blueprint, which may block."""
        data, _ = self.read(asked, blueprint, contract)
        if (refusal := self.refusal(blueprint, data)) is not None:
            raise refusal

    async def check(self, given: Sequence[tuple[Blueprint, Any]]) -> list[HolonError | None]:
        """For each input of a job that was read, why the classes of the blueprint refuse it; None: they do not.

        What they check by is code of the blueprint's author, so it runs in a thread.
        """
        if not any(blueprint.checks_input for blueprint, _ in given):
            return [None] * len(given)
        return await asyncio.to_thread(lambda: [self.refusal(*one) for one in given])

    def refusal(self, blueprint: Blueprint, data: Any) -> HolonError | None:
        """The same of one; runs their code, which may block."""
        if not blueprint.checks_input:
            return None
        try:
            handler = blueprint.start.handler(data, {})
            violations = refusals(hint_of(handler.function, "initial_data"), data, "initial_data")
        except BlueprintError:
            # No handler of the start is for such a job: that is said where it runs.
            return None
        except HolonError as error:
            log.warning("blueprint %s: %s", blueprint.name, error.message, exc_info=error.__cause__)
            return error
        return _invalid(blueprint, violations) if violations else None


def _invalid(blueprint: Blueprint, violations: Sequence[Violation]) -> InvalidArgument:
    first = violations[0]
    return InvalidArgument(
        f"Input validation failed for blueprint {blueprint.name!r}: {first.field} {first.reason}",
        code="INPUT_INVALID",
        details=violations,
    )
