"""Contracts: JSON schemas (draft 2020-12) compiled once each, under the digest of their canonical text.

A schema comes from whoever offers a skill or writes a blueprint, so nothing in it is fetched, and its size, its
references and its patterns are bounded before it checks anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from holon.domain.json_words import kind
from holon.engine.schema_work import Found, Work, found_in, unusable
from holon.engine.unused import Unused
from holon.errors import NotFound, Violation

MAX_SCHEMA_BYTES = 64 * 1024
MAX_PATTERNS = 64
MAX_PATTERN_BYTES = 1024 * 1024
MAX_VIOLATIONS = 20
MAX_REASON_LENGTH = 300
# In steps of `Work`. Checking takes some ten nanoseconds for each, looking for the first thing that is wrong a third of
# a microsecond, and saying all of them fifteen: none takes longer than some tenths of a second.
MAX_TO_CHECK = 20_000_000
MAX_TO_FIND_ONE = 1_000_000
MAX_TO_FIND_ALL = 20_000
# No value has so many parts, or so much text, that a schema that takes less of each could be too much.
_LIGHT = 40
# So many light ones for one value are not counted either.
_FEW = 4

_SAYS_NOTHING = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated"}
)
_UNEXPECTED = (
    jsonschema_rs.ValidationErrorKind.AdditionalProperties,
    jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
)


@dataclass(frozen=True, slots=True)
class _Contract:
    validator: jsonschema_rs.Draft202012Validator
    work: Work


class Contracts:
    """Compiled schemas by contract id. Those that somebody holds are kept; of others, the last ones used.

    Arguments:
        limit: how many are kept that nobody holds.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._held: dict[str, tuple[_Contract, int]] = {}
        self._unused: Unused[str, _Contract] = Unused(limit)

    def __repr__(self) -> str:
        return f"<Contracts held={len(self._held)} {self._unused!r}>"

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
            raise unusable(f"it is {kind(schema)}, not an object")
        try:
            text = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise unusable(f"it is not valid JSON: {error}") from error
        if len(text) > MAX_SCHEMA_BYTES:
            raise unusable(f"it has {len(text)} bytes, over the limit of {MAX_SCHEMA_BYTES}")
        if schema.keys() <= _SAYS_NOTHING:
            return ""
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
            known = contract_id in self._unused
            self._rest(contract_id, self._unused.take(contract_id) if known else _compile(schema))
        return contract_id

    def hold(self, contract_id: str) -> None:
        """Keep a contract that was added, until `release` was called as often."""
        if contract_id:
            contract, holders = self._held.get(contract_id) or (self._unused.take(contract_id), 0)
            self._held[contract_id] = (contract, holders + 1)

    def release(self, contract_id: str) -> None:
        """A holder needs it no more."""
        if contract_id:
            contract, holders = self._held.pop(contract_id)
            if holders > 1:
                self._held[contract_id] = (contract, holders - 1)
            else:
                self._rest(contract_id, contract)

    def patterns(self, contract_id: str) -> int:
        """How many regular expressions a known contract has."""
        return self._known(contract_id).work.patterns if contract_id else 0

    def _rest(self, contract_id: str, contract: _Contract) -> None:
        self._unused.put(contract_id, contract, contract.work.patterns)

    def accepts(self, contract_id: str, value: Any) -> bool:
        """Whether the contract allows a JSON value, and can check it. The id `""` allows every one.

        Raises:
            NotFound: (CONTRACT_UNKNOWN) nobody holds it, and it was forgotten or never added: add its schema again.
        """
        if not contract_id:
            return True
        contract = self._known(contract_id)
        if contract.work.most > _LIGHT and contract.work.to_check(found_in(value)) > MAX_TO_CHECK:
            return False
        return _fits(contract, value)

    def accepting(self, contract_ids: Collection[str], value: Any) -> set[str]:
        """Which of several contracts allow a JSON value, and can check it.

        Strangers can bring hundreds of contracts for one value. All of them together take no longer than one may: those
        that take least are asked, and the others are taken to refuse it.

        Raises:
            NotFound: (CONTRACT_UNKNOWN) as `accepts`.
        """
        if len(contract_ids) == 1:
            return {one for one in contract_ids if self.accepts(one, value)}
        if len(contract_ids) <= _FEW:
            few = [(one, self._known(one)) for one in contract_ids]
            if all(contract.work.most <= _LIGHT for _, contract in few):
                return {one for one, contract in few if _fits(contract, value)}
        found = found_in(value)
        contracts = ((one, self._known(one)) for one in contract_ids)
        by_steps = sorted((contract.work.to_check(found), one, contract) for one, contract in contracts)
        accepted: set[str] = set()
        left = MAX_TO_CHECK
        for steps, one, contract in by_steps:
            left -= steps
            if left < 0:
                break
            if _fits(contract, value):
                accepted.add(one)
        return accepted

    def violations(self, contract_id: str, value: Any, prefix: str = "") -> tuple[Violation, ...]:
        """What a JSON value violates: at most 20 of them, of a large value the first; no value is repeated in them.

        Arguments:
            contract_id: from `add`.
            value: JSON as Python holds it.
            prefix: where the value stands, such as `initial_data`; fields are dotted paths under it.
        Raises:
            NotFound: (CONTRACT_UNKNOWN) as `accepts`.
        """
        if not contract_id:
            return ()
        contract = self._known(contract_id)
        found = found_in(value) if contract.work.most > _LIGHT else None
        if found is not None and contract.work.to_check(found) > MAX_TO_CHECK:
            return (Violation(prefix, "is too large for its schema; checking it would take too long"),)
        try:
            if contract.validator.is_valid(value):
                return ()
            wrong = _wrong(contract, value, found_in(value) if found is None else found)
            violations = [one for error in wrong for one in _explain(error, prefix)]
        except ValueError as error:
            return (Violation(prefix, f"is not valid JSON: {error}"),)
        return tuple(violations[:MAX_VIOLATIONS]) or (
            Violation(prefix, "violates its schema, and is too large to say where"),
        )

    def _known(self, contract_id: str) -> _Contract:
        held = self._held.get(contract_id)
        if held is not None:
            return held[0]
        try:
            return self._unused.look_up(contract_id)
        except KeyError:
            raise NotFound(
                f"contract {contract_id} is not known here; send its schema again", code="CONTRACT_UNKNOWN"
            ) from None


def _fits(contract: _Contract, value: Any) -> bool:
    try:
        return contract.validator.is_valid(value)
    except ValueError:
        return False


def _wrong(contract: _Contract, value: Any, found: Sequence[Found]) -> Sequence[jsonschema_rs.ValidationError]:
    """What is wrong with a value that is not valid: all of it, or where that could take long the first, or nothing.

    Where there are alternatives, the first thing can be that none fits, and that has all that is wrong with each in it.
    """
    steps = contract.work.to_explain(found)
    if steps <= MAX_TO_FIND_ALL:
        return list(islice(contract.validator.iter_errors(value), MAX_VIOLATIONS))
    if steps <= MAX_TO_FIND_ONE and not contract.work.alternatives:
        try:
            contract.validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return [error]
    return []


def _compile(schema: dict[str, Any]) -> _Contract:
    work = Work(schema)
    if work.patterns > MAX_PATTERNS:
        raise unusable(f"it has {work.patterns} patterns, over the limit of {MAX_PATTERNS}")
    try:
        validator = jsonschema_rs.Draft202012Validator(
            schema,
            retriever=_refuse,
            mask="value",
            # The engine that cannot backtrack; what it takes is bounded by these.
            pattern_options=jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=MAX_PATTERN_BYTES),
        )
    except jsonschema_rs.ValidationError as error:
        where = _dotted(error.instance_path, "")
        said = error.message
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Format):
            said += ". A pattern cannot have look-arounds or back-references, and may take at most 1 MiB when compiled"
        raise unusable(f"{said} (at {where})" if where else said) from error
    except ValueError as error:
        raise unusable(str(error)) from error
    return _Contract(validator, work)


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is never fetched")


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
