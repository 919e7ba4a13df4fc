"""What jobs end with, checked by what the handlers of their ends say that they return."""

from __future__ import annotations

from typing import Any

import orjson

from holon.domain.states import Function
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.errors import Violation
from holon.json_in import parse


class Outputs:
    """Checks the results of jobs.

    Arguments:
        blueprints: which handlers say what they return.
        contracts: where the schemas of that were compiled.
    """

    def __init__(self, blueprints: Blueprints, contracts: Contracts) -> None:
        self._blueprints = blueprints
        self._contracts = contracts

    def __repr__(self) -> str:
        return f"Outputs({self._contracts!r})"

    def violations(self, handler: Function, result: Any) -> tuple[Violation, ...]:
        """What the result of a job that ends well with a handler breaks of what that says; none of what is no JSON.

        Raises:
            Unavailable: there is no memory for it.
        """
        contract = self._blueprints.result(handler)
        if not contract:
            return ()
        try:
            # As readers find it: it may be an instance of what the handler says.
            told = parse(orjson.dumps(result))
        except (TypeError, ValueError):
            # Whoever stores it says what is wrong with it.
            return ()
        return self._contracts.violations(contract, told, "result")
