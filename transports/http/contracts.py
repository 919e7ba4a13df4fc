"""The HTTP door: a blueprint's contract as a part of the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

import orjson

from transports.http.shapes import Schema

COMPONENTS = "#/components/schemas"
# A number without a fraction is an integer to JSON Schema, so what this cannot say, its description does.
ANYTHING: Schema = {
    "description": "Any JSON; whole numbers have at most 64 bits",
    "type": ["null", "boolean", "number", "string", "array", "object"],
    "items": {"$ref": f"{COMPONENTS}/Anything"},
    "additionalProperties": {"$ref": f"{COMPONENTS}/Anything"},
}
_ANYTHING: Schema = {"$ref": f"{COMPONENTS}/Anything"}
_LIMITS = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_CHOOSES = frozenset({"const", "enum"})
_INT64 = {"minimum": -(2**63), "maximum": 2**64 - 1}

# Where a schema holds schemas under names of its author's, which may look like words of ours.
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_HOLDS_DATA = frozenset({"const", "enum", "default", "examples"})
_HOLDS_SCHEMA = frozenset({"items", "additionalProperties", "contains", "propertyNames", "prefixItems"})
_SAYS_NOTHING = frozenset({"title", "description", "default", "examples", "deprecated", "$comment"})
_OF_ROOT = ("$schema", "$id", "$vocabulary")
# In or beside these, a limit more would not only refuse what the door refuses anyway.
_SUBTLE = re.compile(rb'"(not|if|unevaluatedProperties|unevaluatedItems)":')


def as_component(contract: Schema, name: str) -> Schema:
    """Return a contract as it stands in the document under this name.

    Its references lead to where its parts are now, and the limit of the door's JSON is written out: where the contract
    allows whole numbers, or anything, they have at most 64 bits.
    """
    mover = _Mover(f"{COMPONENTS}/{name}", limits=not _SUBTLE.search(orjson.dumps(contract)))
    return {key: value for key, value in mover.schema(contract).items() if key not in _OF_ROOT}


class _Mover:
    def __init__(self, place: str, limits: bool) -> None:
        self._place = place
        self._limits = limits

    def schema(self, part: Any) -> Any:
        if part is True and self._limits:
            return _ANYTHING
        if not isinstance(part, dict):
            return part
        moved = {key: self._under(key, value) for key, value in part.items()}
        return self._limited(moved) if self._limits else moved

    def _under(self, key: str, value: Any) -> Any:
        if key == "$ref" and isinstance(value, str):
            return self._place + value.removeprefix("#")
        if key in _HOLDS_DATA:
            return value
        if key in _NAMED and isinstance(value, dict):
            return {name: self.schema(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.schema(one) for one in value]
        return self.schema(value) if isinstance(value, dict) or key in _HOLDS_SCHEMA else value

    def _limited(self, schema: Schema) -> Schema:
        if schema.keys() <= _SAYS_NOTHING:
            return schema | _ANYTHING
        kinds = schema.get("type", ())
        if "integer" in kinds and "number" not in kinds and not (schema.keys() & _CHOOSES):
            # An example, because programs that make one up take the least, and JavaScript cannot write that.
            example = {} if schema.keys() & (_LIMITS.keys() | _LIMITS.values()) else {"examples": [0]}
            limits = {word: _INT64[word] for word, other in _LIMITS.items() if other not in schema}
            schema = example | limits | schema
        if "object" in kinds:
            schema.setdefault("additionalProperties", _ANYTHING)
        if "array" in kinds:
            schema.setdefault("items", _ANYTHING)
        return schema
