"""Contracts: JSON schemas (draft 2020-12) compiled once each, under the digest of their canonical text.

A schema comes from whoever offers a skill or writes a blueprint, so nothing in it is fetched, and its size, its
references and its patterns are bounded before it checks anything.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import orjson

from holon.errors import InvalidArgument, NotFound, Violation

MAX_SCHEMA_BYTES = 64 * 1024
# A few milliseconds of work: references can make a short schema expand without end.
MAX_EXPANDED = 100_000
MAX_VIOLATIONS = 20
MAX_REASON_LENGTH = 300
# Characters of a regular expression's search, not of its subject.
_BACKTRACK_LIMIT = 10_000

_SAYS_NOTHING = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated"}
)
_HOLDS_DATA = frozenset({"const", "enum", "default", "examples"})
_UNEXPECTED = (
    jsonschema_rs.ValidationErrorKind.AdditionalProperties,
    jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
)
_MOVES_REFERENCES = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef")


class Contracts:
    """Compiled schemas by contract id. Those that somebody holds are kept; of others, the last ones used.

    Arguments:
        limit: how many are kept that nobody holds.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._held: dict[str, tuple[jsonschema_rs.Draft202012Validator, int]] = {}
        self._idle: OrderedDict[str, jsonschema_rs.Draft202012Validator] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Contracts held={len(self._held)} idle={len(self._idle)} of {self._limit}>"

    def contract_id(self, schema: dict[str, Any] | None) -> str:
        """The digest of a schema's canonical text: 32 hexadecimal digits, the same in every process.

        Returns:
            `""` for a schema that accepts everything.
        Raises:
            InvalidArgument: (SCHEMA_INVALID) it is no JSON object, or over 64 KiB.
        """
        if schema is None:
            return ""
        if not isinstance(schema, dict):
            raise _invalid(f"it is a {type(schema).__name__}, not an object")
        if schema.keys() <= _SAYS_NOTHING:
            return ""
        try:
            text = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise _invalid(f"it is no JSON: {error}") from error
        if len(text) > MAX_SCHEMA_BYTES:
            raise _invalid(f"it has {len(text)} bytes, over the limit of {MAX_SCHEMA_BYTES}")
        return hashlib.sha256(text).hexdigest()[:32]

    def add(self, schema: dict[str, Any] | None) -> str:
        """Compile a schema, unless it is known, and return its contract id; `hold` it before anything else is added.

        Raises:
            InvalidArgument: (SCHEMA_INVALID) it is no usable schema; the message says why.
        """
        contract_id = self.contract_id(schema)
        if not contract_id or schema is None:
            return ""
        if contract_id not in self._held:
            known = contract_id in self._idle
            self._rest(contract_id, self._idle.pop(contract_id) if known else _compile(schema))
        return contract_id

    def hold(self, contract_id: str) -> None:
        """Keep a contract that was added, until `release` was called as often."""
        if contract_id:
            validator, holders = self._held.get(contract_id) or (self._idle.pop(contract_id), 0)
            self._held[contract_id] = (validator, holders + 1)

    def release(self, contract_id: str) -> None:
        """A holder needs it no more."""
        if contract_id:
            validator, holders = self._held.pop(contract_id)
            if holders > 1:
                self._held[contract_id] = (validator, holders - 1)
            else:
                self._rest(contract_id, validator)

    def _rest(self, contract_id: str, validator: jsonschema_rs.Draft202012Validator) -> None:
        self._idle[contract_id] = validator
        if len(self._idle) > self._limit:
            self._idle.popitem(last=False)

    def accepts(self, contract_id: str, value: Any) -> bool:
        """Whether the contract allows a JSON value. The id `""` allows every one.

        Raises:
            NotFound: (CONTRACT_UNKNOWN) nobody holds it, and it was forgotten or never added: add its schema again.
        """
        if not contract_id:
            return True
        try:
            return self._validator(contract_id).is_valid(value)
        except ValueError:
            return False

    def violations(self, contract_id: str, value: Any, prefix: str = "") -> tuple[Violation, ...]:
        """What a JSON value violates, at most 20 of them; no value is repeated in them.

        Arguments:
            contract_id: from `add`.
            value: JSON as Python holds it.
            prefix: where the value stands, such as `initial_data`; fields are dotted paths under it.
        Raises:
            NotFound: (CONTRACT_UNKNOWN) as `accepts`.
        """
        if not contract_id:
            return ()
        validator = self._validator(contract_id)
        found: list[Violation] = []
        try:
            for error in validator.iter_errors(value):
                found.extend(_explain(error, prefix))
                if len(found) >= MAX_VIOLATIONS:
                    break
        except ValueError as error:
            return (Violation(prefix, f"is no JSON: {error}"),)
        return tuple(found[:MAX_VIOLATIONS])

    def _validator(self, contract_id: str) -> jsonschema_rs.Draft202012Validator:
        held = self._held.get(contract_id)
        if held is not None:
            return held[0]
        try:
            self._idle.move_to_end(contract_id)
        except KeyError:
            raise NotFound(
                f"contract {contract_id} is not known here; add its schema again", code="CONTRACT_UNKNOWN"
            ) from None
        return self._idle[contract_id]


def _invalid(why: str) -> InvalidArgument:
    return InvalidArgument(f"the schema cannot be used: {why}"[:1000], code="SCHEMA_INVALID")


def _compile(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    try:
        size = _expanded(schema, schema, {})
    except RecursionError as error:
        raise _invalid("its references go too deep") from error
    if size > MAX_EXPANDED:
        raise _invalid(f"its references expand to over {MAX_EXPANDED} parts")
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            retriever=_refuse,
            mask="value",
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT),
        )
    except jsonschema_rs.ValidationError as error:
        where = _dotted(error.instance_path, "")
        raise _invalid(f"{error.message} (at {where})" if where else error.message) from error
    except ValueError as error:
        raise _invalid(str(error)) from error


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is never fetched")


def _expanded(part: Any, root: dict[str, Any], known: dict[str, int]) -> int:
    """How many parts a schema has when each reference is replaced by what it names; recursion counts once."""
    if isinstance(part, list):
        return sum(_expanded(one, root, known) for one in part)
    if not isinstance(part, dict):
        return 0
    size = 1
    for key, value in part.items():
        if isinstance(value, str) and (key in _MOVES_REFERENCES or (key == "$id" and part is not root)):
            raise _invalid(f"{key} is not supported; refer to parts as #/$defs/name")
        if key == "$ref" and isinstance(value, str):
            if value not in known:
                known[value] = 0
                known[value] = _expanded(_part(value, root), root, known)
            size += known[value]
        elif key not in _HOLDS_DATA and key not in ("$defs", "definitions"):
            size += _expanded(value, root, known)
    return size


def _part(reference: str, root: dict[str, Any]) -> Any:
    if reference != "#" and not reference.startswith("#/"):
        raise _invalid(f"the reference {reference} is never fetched; put its target under $defs")
    part: Any = root
    try:
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            part = part[int(name)] if isinstance(part, list) else part[name]
    except (LookupError, TypeError, ValueError) as error:
        raise _invalid(f"the reference {reference} leads nowhere") from error
    return part


def _explain(error: jsonschema_rs.ValidationError, prefix: str) -> Iterator[Violation]:
    """One violation for each field at fault."""
    kind, where = error.kind, _dotted(error.instance_path, prefix)
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield Violation(_join(where, kind.property), "is required")
    elif isinstance(kind, _UNEXPECTED):
        for name in kind.unexpected[:MAX_VIOLATIONS]:
            yield Violation(_join(where, name), "is not allowed")
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf) and (branch := _meant(error, kind.context)):
        for one in branch:
            yield from _explain(one, prefix)
    else:
        yield Violation(where, error.message[:MAX_REASON_LENGTH])


def _meant(
    error: jsonschema_rs.ValidationError, context: list[list[jsonschema_rs.ValidationError]]
) -> list[jsonschema_rs.ValidationError] | None:
    """The one branch of a union that the value is of the right type for, if there is just one."""
    depth = len(error.instance_path)
    fitting = [
        branch
        for branch in context
        if not any(
            isinstance(one.kind, jsonschema_rs.ValidationErrorKind.Type) and len(one.instance_path) <= depth
            for one in branch
        )
    ]
    return fitting[0] if len(fitting) == 1 else None


def _dotted(path: list[str | int], prefix: str) -> str:
    for step in path:
        prefix = _join(prefix, str(step))
    return prefix


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}"[:MAX_REASON_LENGTH].removeprefix(".")
