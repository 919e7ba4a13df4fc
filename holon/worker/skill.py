"""The worker SDK: a skill is a handler, the contract that its hints promise, and how its arguments are filled."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from holon.domain.costs import Cost, costing
from holon.domain.fleet import MAX_DESCRIPTION, MAX_NAME, MAX_STATUS, MAX_STATUSES, is_name
from holon.domain.schema import arguments_schema, build, fits, hint_of, schema_of
from holon.errors import InvalidArgument
from holon.rxon.v1 import worker_pb2
from holon.worker.absent import ARGUMENTS
from holon.worker.declared import DeclaredEvents
from holon.worker.outcome import Result

RESERVED = frozenset(
    {"params", "task_id", "job_id", "attempt", "deadline", "progress", "log", "send_event", "cancelled", "files"},
)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a handler that is a key of the params. `typed` says that its hint asks for something."""

    name: str
    hint: Any
    required: bool
    typed: bool


@dataclass(frozen=True, slots=True)
class Skill:
    """What a worker can do: a handler and its contract. Made by `skill_of`.

    Attributes:
        injected: the reserved names that the handler asks for.
        arguments: the others, which are keys of the params.
        takes_rest: whether it has a `**` argument, which gets the other keys.
        params_hint: the type of `params`; `Any` when it asks for nothing particular.
        input_schema: JSON schema of the params.
        output_schema: JSON schema of the data of a success; None promises nothing.
        price: what a task of it costs, in millionths of the cost unit; None does not say.
        events: those that it may send.
    """

    name: str
    version: str
    type: str
    description: str
    statuses: frozenset[str]
    handler: Callable[..., Any]
    is_async: bool
    injected: frozenset[str]
    arguments: tuple[Argument, ...]
    takes_rest: bool
    params_hint: Any
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    price: Cost = None
    events: DeclaredEvents = field(default_factory=lambda: DeclaredEvents({}))

    def __repr__(self) -> str:
        return f"Skill({self.name}{' ' + self.version if self.version else ''})"

    def answers(self, offer: worker_pb2.TaskOffer) -> bool:
        """Whether the offer asks for this skill."""
        return offer.skill == self.name and offer.version in ("", self.version) and (offer.type in ("", self.type))

    def offering(self) -> worker_pb2.Offering:
        """The skill as an entry of the catalog."""
        offering = worker_pb2.Offering(
            skill=self.name,
            type=self.type,
            version=self.version,
            description=self.description,
            statuses=sorted(self.statuses),
            price=self.price,
            events=self.events.offered(),
        )
        offering.input_schema.data = orjson.dumps(self.input_schema)
        if self.output_schema is not None:
            offering.output_schema.data = orjson.dumps(self.output_schema)
        return offering

    def bind(self, params: Any, injected: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments of one call.

        Arguments:
            params: the task's params, as parsed JSON.
            injected: a value for each name in `self.injected` but `params`.
        Raises:
            InvalidArgument: (INPUT_INVALID) the params are not what the hints ask for.
        """
        if not isinstance(params, dict):
            raise _invalid(f"the params of {self.name} must be a JSON object, not {type(params).__name__}")
        arguments = dict(injected)
        if "params" in self.injected:
            arguments["params"] = _typed(self.name, "params", self.params_hint, params)
        for one in self.arguments:
            if one.name in params:
                value = params[one.name]
                arguments[one.name] = _typed(self.name, one.name, one.hint, value) if one.typed else value
            elif one.required:
                raise _invalid(f"the params of {self.name} lack {one.name!r}")
        if self.takes_rest:
            arguments.update({name: value for name, value in params.items() if name not in RESERVED | arguments.keys()})
        return arguments


def skill_of(
    handler: Callable[..., Any],
    *,
    name: str = "",
    version: str = "",
    type: str = "",  # noqa: A002  # the contract's own word for it
    description: str = "",
    statuses: Sequence[str] = (),
    price: int | None = None,
    events: Mapping[str, Any] = MappingProxyType({}),
) -> Skill:
    """Read a handler's signature.

    Arguments:
        handler: a function or a bound method, `async` or not.
        name: what tasks ask for; the function's name by default.
        version: its version, for people; empty when it has none.
        type: a wider word for what it does; empty when it has none.
        description: for people; the first line of the docstring by default.
        statuses: the statuses that it may end with besides success, failure and cancelled.
        price: what a task of it costs, in millionths of the cost unit; None does not say.
        events: those that it may send, by type, each with the schema or the hint of its payload; none: any.
    Raises:
        InvalidArgument: the handler cannot be a skill; the message says why.
    """
    shown = getattr(handler, "__qualname__", repr(handler))
    if not (inspect.isfunction(handler) or inspect.ismethod(handler)):
        raise _unusable(shown, "it is not a function")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise _unusable(shown, "it is a generator; return one dict instead")
    for option, value in (("name", name), ("version", version), ("type", type), ("description", description)):
        if not isinstance(value, str):
            raise _unusable(shown, f"its {option} is {value!r}; use text, such as {str(value)!r}")
    for option, value in (("name", name or handler.__name__), ("version", version), ("type", type)):
        if not is_name(value):
            raise _unusable(shown, f"the {option} may have at most {MAX_NAME} printable characters")
    if isinstance(statuses, str) or not all(isinstance(status, str) for status in statuses):
        raise _unusable(shown, f"its statuses are {statuses!r}; use a list of text")
    if len(set(statuses)) > MAX_STATUSES or not all(0 < len(status) <= MAX_STATUS for status in statuses):
        why = f"a skill may have at most {MAX_STATUSES} statuses, each of 1 to {MAX_STATUS} characters"
        raise _unusable(shown, f"{why}; put finer distinctions into the result")
    parameters = inspect.signature(handler).parameters
    _check_absent(handler, shown, parameters)
    keys = arguments_schema(handler, RESERVED)
    # A `**` argument takes what is left, whatever it is called.
    named = {one.name: one for one in parameters.values() if one.kind in _NAMED}
    params_hint = hint_of(handler, "params") if "params" in named else Any
    description = description or (inspect.getdoc(handler) or "").partition("\n")[0]
    if len(description) > MAX_DESCRIPTION:
        why = f"its description has {len(description)} characters, over the limit of {MAX_DESCRIPTION}"
        raise _unusable(shown, f"{why}; shorten it")
    try:
        costing("price", price)
    except InvalidArgument as error:
        raise _unusable(shown, f"its {error.message}") from error
    try:
        declared = DeclaredEvents(events)
    except InvalidArgument as error:
        raise _unusable(shown, error.message) from error
    return Skill(
        name=name or handler.__name__,
        version=version,
        type=type,
        description=description,
        statuses=frozenset(statuses),
        handler=handler,
        is_async=inspect.iscoroutinefunction(handler),
        injected=RESERVED & named.keys(),
        arguments=tuple(_argument(handler, one) for one in named.values() if one.name not in RESERVED),
        takes_rest=any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()),
        params_hint=params_hint,
        input_schema=_input_schema(shown, params_hint, keys),
        output_schema=_output_schema(shown, hint_of(handler, "return")),
        price=price,
        events=declared,
    )


def _check_absent(handler: Callable[..., Any], shown: str, parameters: Mapping[str, inspect.Parameter]) -> None:
    for name, why in ARGUMENTS.items():
        if name in parameters and not _is_key(handler, parameters[name]):
            key = f"if it is a key of the params, give it a default, or a hint of its type (`{name}: int`)"
            raise _unusable(shown, f"its argument {name!r} does not exist here: {why}; {key}")


def _is_key(handler: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    """Whether an argument that is called as a helper of another SDK is a key of the params all the same.

    A task without such a key would wait for ever for who needs none. A dict, of whatever, is what such helpers are too.
    """
    if parameter.default is not parameter.empty or parameter.kind not in _NAMED:
        return True
    try:
        schema = schema_of(hint_of(handler, parameter.name))
    except InvalidArgument:
        return False
    return schema is not None and (schema.get("type") != "object" or "properties" in schema)


def _argument(handler: Callable[..., Any], parameter: inspect.Parameter) -> Argument:
    hint = hint_of(handler, parameter.name)
    return Argument(parameter.name, hint, parameter.default is parameter.empty, schema_of(hint) is not None)


def _input_schema(shown: str, params_hint: Any, keys: dict[str, Any]) -> dict[str, Any]:
    schema = schema_of(params_hint)
    if schema is None or schema == {"type": "object"}:
        return keys
    if schema.get("type", "object") != "object":
        raise _unusable(shown, f"params must be a JSON object, but the hint {params_hint!r} is not one")
    if "properties" in keys:
        raise _unusable(
            shown, f"the argument `params: {params_hint!r}` and other arguments both declare params; use one of the two"
        )
    # What a skill takes stays open, unless its author wrote that out: keys that it does not know are no error.
    if isinstance(params_hint, dict):
        return schema
    return {key: value for key, value in schema.items() if key != "additionalProperties" or value is not False}


def _output_schema(shown: str, hint: Any) -> dict[str, Any] | None:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if any(one in (None, types.NoneType, Result) for one in options):
        return None
    schema = schema_of(hint)
    if schema is not None and schema.get("type", "object") != "object":
        raise _unusable(
            shown, f"a handler returns a JSON object, but the hint {hint!r} is not one; return a dict or a dataclass"
        )
    return schema


def _typed(skill: str, name: str, hint: Any, value: Any) -> Any:
    if not fits(hint, value):
        raise _invalid(f"{name!r} in the params of {skill} is not {getattr(hint, '__name__', hint)}")
    return build(hint, value)


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, code="INPUT_INVALID")


def _unusable(shown: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{shown} cannot be a skill: {reason}", code="SKILL_INVALID")
