"""The uplink: what a holon offers its parent: its blueprints as skills, with the contracts of their jobs."""

from __future__ import annotations

import orjson

from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError, InvalidArgument
from holon.rxon.v1 import types_pb2, worker_pb2


class Offerings:
    """The blueprints that a parent may have done.

    Arguments:
        contracts: where their outputs are checked before they leave.
    Raises:
        BlueprintError: what one says that it returns cannot be used.
    """

    def __init__(self, blueprints: Blueprints, contracts: Contracts) -> None:
        self._outputs: dict[str, str] = {}
        self._contracts = contracts
        self._offerings: list[worker_pb2.Offering] = []
        for blueprint in sorted(blueprints, key=lambda one: one.name):
            if blueprint.internal:
                continue
            try:
                output = contracts.add(blueprint.output_schema)
            except InvalidArgument as error:
                raise BlueprintError(f"blueprint {blueprint.name!r}: output: {error.message}") from error
            contracts.hold(output)
            self._outputs[blueprint.name] = output
            offering = worker_pb2.Offering(skill=blueprint.name)
            if blueprint.input_schema is not None:
                offering.input_schema.CopyFrom(_payload(blueprint.input_schema))
            if blueprint.output_schema is not None:
                offering.output_schema.CopyFrom(_payload(blueprint.output_schema))
            self._offerings.append(offering)

    def __repr__(self) -> str:
        return f"Offerings({', '.join(self._outputs)})"

    def __len__(self) -> int:
        return len(self._offerings)

    def catalog(self) -> worker_pb2.Catalog:
        """All of it, as the parent is told."""
        return worker_pb2.Catalog(sequence=1, offerings=self._offerings)

    def violation(self, blueprint: str, result: object) -> str:
        """What a result breaks of what its blueprint says that it returns; empty when it keeps it."""
        found = self._contracts.violations(self._outputs.get(blueprint, ""), result, "result")
        return f"{found[0].field} {found[0].reason}" if found else ""


def _payload(schema: dict[str, object]) -> types_pb2.Payload:
    return types_pb2.Payload(data=orjson.dumps(schema))
