"""The messages that the nodes of one store send each other, as bytes.

A message is a value, or a container of values. The type hints of its class are its format: a value is a MessagePack
array of its fields in order. A later release appends fields with defaults. An older release ignores them, and a field
that is missing gets its default.

Fields of users' data (their hints contain `Any`) are JSON text within, as in the store: the sender refuses data that
is not JSON. msgspec packs and reads all other classes directly. For a class with such fields this module makes a second
class, which has text in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, overload

from msgspec import NODEFAULT, UNSET, Struct, UnsetType, defstruct, field
from msgspec.json import Decoder as JsonDecoder
from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import FieldInfo, astuple, fields

from holon.domain.value import Value
from holon.stores.json_text import to_json

T = TypeVar("T")
_Change = Callable[[Any], Any]
# Users' data in one field: JSON text, or the place of an earlier field of the value that holds the same object.
_TEXT = bytes | int


class MalformedMessage(ValueError):
    """Expected: the bytes are no message of the expected kind. The receiver logs this and drops the message."""


def pack(message: object) -> bytes:
    """A message as bytes.

    Raises:
        InvalidArgument: (NOT_JSON) users' data in it is not JSON.
    """
    return _encode(_lower(message))


@overload
def unpack(kind: type[T], data: bytes) -> T: ...
@overload
def unpack(kind: Any, data: bytes) -> Any: ...
def unpack(kind: Any, data: bytes) -> Any:
    """A message from its bytes.

    Arguments:
        kind: its type, or a type expression such as `tuple[Appended, Sequence[Claim]]`.
    Raises:
        MalformedMessage: the bytes are no message of this kind.
    """
    decode, lift = _reader(kind)
    try:
        wire = decode(data)
        return wire if lift is None else lift(wire)
    except (ValueError, RecursionError) as error:
        name = kind.__name__ if isinstance(kind, type(Value)) else kind
        raise MalformedMessage(f"{len(data)} bytes are no message of kind {name}: {error}") from error


def _plain(value: object) -> object:
    """Converts a mapping that is no dict, such as a read-only view, for msgspec."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a message cannot hold a {type(value).__name__}")


_encode = Encoder(enc_hook=_plain).encode


def _lower(value: Any) -> Any:
    """The object that msgspec packs in place of a value."""
    lower = _lowering(value.__class__)
    return value if lower is None else lower(value)


@cache
def _lowering(cls: Any) -> _Change | None:
    if issubclass(cls, list | tuple):
        return lambda items: [_lower(one) for one in items]
    if issubclass(cls, Mapping):
        return lambda values: {key: _lower(one) for key, one in values.items()}
    form = _form(cls) if Value in cls.__mro__ else None
    return None if form is None else form.lower


@cache
def _reader(kind: Any) -> tuple[Callable[[bytes], Any], _Change | None]:
    wire, lift = _wire(kind)
    return Decoder(wire).decode, lift


@cache
def _wire(kind: Any) -> tuple[Any, _Change | None]:
    """The type that msgspec reads for a kind, and the function that makes the value from it. None: it is the value.

    Raises:
        TypeError: this module cannot read users' data in such a container.
    """
    if isinstance(kind, type) and issubclass(kind, Value):
        form = _form(kind)
        return (kind, None) if form is None else (form.wire, form.lift)
    origin, args = get_origin(kind), get_args(kind)
    wires, lifts = [_wire(one)[0] for one in args], [_wire(one)[1] for one in args]
    if not any(lifts):
        return kind, None
    lift = next(filter(None, lifts))
    if origin in (Union, UnionType) and len(args) == 2 and NoneType in args:
        return reduce(or_, wires), lambda one: None if one is None else lift(one)
    if origin is tuple and args[1:] == (...,):
        return origin[tuple(wires)], lambda items: tuple(map(lift, items))
    if origin is tuple:
        pairs = partial(zip, lifts, strict=True)
        return origin[tuple(wires)], lambda items: tuple([up(one) if up else one for up, one in pairs(items)])
    if origin in (list, Sequence):
        return origin[tuple(wires)], lambda items: list(map(lift, items))
    if origin in (dict, Mapping):
        return origin[tuple(wires)], lambda values: {key: lift(one) for key, one in values.items()}
    raise TypeError(f"{kind} cannot be read from a message: a class with users' data is in it")


@cache
def _form(kind: Any) -> _Form | None:
    """The form of a class that holds users' data, in its own fields or in those of its parts. None: it holds none."""
    known = [
        (one, _TEXT, JsonDecoder(one.type).decode) if _has_any(one.type) else (one, *_wire(one.type))
        for one in fields(kind)
    ]
    return _Form(kind, known) if any(lift for _, _, lift in known) else None


def _has_any(hint: Any) -> bool:
    return hint is Any or any(map(_has_any, get_args(hint)))


class _Form:
    """Packs and reads the values of a class with users' data.

    Attributes:
        wire: a class with the same fields, which msgspec packs and reads. It holds texts in place of users' data.
    """

    def __init__(self, kind: type[Value], known: Sequence[tuple[FieldInfo, Any, _Change | None]]) -> None:
        self._kind = kind
        self._texts = {place: one.name for place, (one, wire, _) in enumerate(known) if wire is _TEXT}
        self._lifts = [(place, lift) for place, (_, _, lift) in enumerate(known) if lift is not None]
        config = kind.__struct_config__
        tags: dict[str, Any] = {"tag": config.tag, "tag_field": config.tag_field}
        defined = [_defined(*one) for one in known]
        self.wire: type[Struct] = defstruct(kind.__name__, defined, array_like=True, gc=False, **tags)

    def lower(self, value: Value) -> Struct:
        """The object that msgspec packs in place of a value."""
        parts: list[Any] = list(astuple(value))
        first: dict[int, int] = {}
        for place, _ in self._lifts:
            one = parts[place]
            if place not in self._texts:
                parts[place] = _lower(one)
            elif (earlier := first.setdefault(id(one), place)) != place:
                parts[place] = earlier
            else:
                parts[place] = to_json(one, self._texts[place])
        return self.wire(*parts)

    def lift(self, wire: Struct) -> Value:
        """The value, from the object that msgspec read."""
        parts: list[Any] = list(astuple(wire))
        for place, lift in self._lifts:
            one = parts[place]
            if one is UNSET:
                # The message ends here.
                return self._kind(*parts[:place])
            if type(one) is not int:
                parts[place] = lift(one)
            elif one in self._texts and one < place:
                parts[place] = parts[one]
            else:
                raise ValueError(f"{self._kind.__name__} has no text in place {one} before place {place}")
        return self._kind(*parts)


def _defined(one: FieldInfo, wire: Any, lift: _Change | None) -> tuple[Any, ...]:
    """A field as `defstruct` takes it. If a field with a `lift` is missing, the class of the value sets its default."""
    if one.required:
        return one.name, wire
    if lift is not None:
        return one.name, wire | UnsetType, UNSET
    return one.name, wire, one.default if one.default is not NODEFAULT else field(default_factory=one.default_factory)
