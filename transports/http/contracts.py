"""The HTTP door: a blueprint's contract as components of the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

import orjson

from holon.transports.http.shapes import ANYTHING, Schema

COMPONENTS = "#/components/schemas"
_LIMITS = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_CHOOSES = frozenset({"const", "enum"})
_INT64 = {"minimum": -(2**63), "maximum": 2**64 - 1}

# Where a schema holds schemas under names of its author's, which may look like words of ours.
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_HOLDS_DATA = frozenset({"const", "enum", "default", "examples"})
_HOLDS_SCHEMA = frozenset({"items", "additionalProperties", "contains", "propertyNames", "prefixItems"})
# A title is what generators would call a class, and blueprints share such names. A component's own name is unique.
_OF_ROOT = ("$schema", "$id", "$vocabulary", "title")
_PARTS = "$defs"
# A component may have such a name.
_NAME = "[a-zA-Z0-9._-]+"
_TO_PART = re.compile(rf"#/\$defs/({_NAME})(/.*)?")
# In or beside these, a limit more would not only refuse what the door refuses anyway.
_SUBTLE = re.compile(rb'"(not|if|unevaluatedProperties|unevaluatedItems)":')


def as_components(contract: Schema, name: str) -> dict[str, Schema]:
    """Return the components that a contract is in the document: itself under this name, and each of its `$defs`.

    Generators of clients find no definition inside of a component, so each is a component of its own. References lead
    there. A whole number that the contract does not limit gets the limit of the door's JSON: 64 bits.
    """
    mover = _Mover(f"{COMPONENTS}/{name}", limits=not _SUBTLE.search(orjson.dumps(contract)))
    root = mover.schema(contract)
    inner = root.pop(_PARTS, {})
    parts = {part: schema for part, schema in inner.items() if re.fullmatch(_NAME, part)}
    if left := {part: schema for part, schema in inner.items() if part not in parts}:
        root[_PARTS] = left
    return {name: _untitled(root)} | {f"{name}.{part}": _untitled(schema) for part, schema in parts.items()}


def _untitled(schema: Any) -> Any:
    return {key: value for key, value in schema.items() if key not in _OF_ROOT} if isinstance(schema, dict) else schema


class _Mover:
    def __init__(self, place: str, limits: bool) -> None:
        self._place = place
        self._limits = limits

    def schema(self, part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        moved = {key: self._under(key, value) for key, value in part.items()}
        return self._limited(moved) if self._limits else moved

    def _under(self, key: str, value: Any) -> Any:
        if key == "$ref" and isinstance(value, str):
            return self._moved(value)
        if key in _HOLDS_DATA:
            return value
        if key in _NAMED and isinstance(value, dict):
            return {name: self.schema(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.schema(one) for one in value]
        return self.schema(value) if isinstance(value, dict) or key in _HOLDS_SCHEMA else value

    def _moved(self, reference: str) -> str:
        if to_part := _TO_PART.fullmatch(reference):
            return f"{self._place}.{to_part[1]}{to_part[2] or ''}"
        return self._place + reference.removeprefix("#")

    def _limited(self, schema: Schema) -> Schema:
        kinds = schema.get("type", ())
        if "integer" in kinds and "number" not in kinds and not (schema.keys() & _CHOOSES):
            # An example, because programs that make one up take the least, and JavaScript cannot write that.
            example = {} if schema.keys() & (_LIMITS.keys() | _LIMITS.values()) else {"examples": [0]}
            limits = {word: _INT64[word] for word, other in _LIMITS.items() if other not in schema}
            return example | limits | schema
        if "object" in kinds and "properties" not in schema:
            # Without it, some generators read an object of no fields at all.
            schema.setdefault("additionalProperties", ANYTHING)
        return schema
