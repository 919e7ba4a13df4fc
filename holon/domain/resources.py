"""The domain: hardware: what a task requires of the machine that does it, and whether a machine has that.

A requirement travels, and is stored, as the text of a JSON object: the same for the same requirement, empty for none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from holon.domain.fleet import MAX_DEVICES, MAX_NAME, Device, Machine
from holon.domain.json_words import kind, quoted
from holon.domain.plain import obstacle
from holon.errors import InvalidArgument, Violation

# Each match key has one of its own, and it is tried on every machine of every worker that comes.
MAX_REQUIREMENT_BYTES = 4 * 1024
# Of devices: each is tried on each that a machine has.
MAX_REQUIRED = 16
# What is said of a device beside its properties.
_NAMES = ("type", "model", "id")
# What the wire calls those; whoever says so here means what is in it.
_WRAPPED = "properties"
_SHOWN = 64
_WORDS_SHOWN = 300

# Each with what it has to be: a value, or one of several.
_Properties: TypeAlias = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Required:
    """A requirement as it is compared. A device has a type, a model and an id; empty: any."""

    properties: _Properties
    devices: tuple[tuple[Mapping[str, str], _Properties], ...]


# What is said ----------------------------------------------------------------------------------------------------


def requirement(field: str, resources: Any) -> str:
    """What a machine must have, such as `{"ram_gb": 16, "devices": [{"type": "gpu", "vram_gb": 24}]}`, as text.

    Arguments:
        field: whose value it is, for the message.
        resources: as somebody gave it.
    Raises:
        InvalidArgument: no machine could be asked for that, or it is too much.
    """
    properties, devices = _parted(field, resources)
    for name, value in properties.items():
        _check_required(f"{field}.{name}", value)
    for index, (_, its) in enumerate(devices):
        for name, value in its.items():
            _check_required(f"{field}.devices[{index}].{name}", value)
    if len(devices) > MAX_REQUIRED:
        raise _wrong(f"{field}.devices", f"has {len(devices)}, over the limit of {MAX_REQUIRED}")
    asked = {**properties, "devices": resources["devices"]} if devices else properties
    text = json.dumps(asked, sort_keys=True, separators=(",", ":")) if asked else ""
    if len(text) > MAX_REQUIREMENT_BYTES:
        raise _wrong(field, f"has {len(text)} bytes, over the limit of {MAX_REQUIREMENT_BYTES}")
    return text


def machine(field: str, resources: Any) -> Machine:
    """The machine that has these, said as for `requirement`; its properties may be anything that JSON can hold.

    Raises:
        InvalidArgument: it can be none.
    """
    properties, devices = _parted(field, resources)
    told = [Device(**{name: names.get(name, "") for name in _NAMES}, properties=its) for names, its in devices]
    return Machine(tuple(told), properties)


def doubts(field: str, machines: Sequence[Machine]) -> tuple[str, ...]:
    """What is odd about machines that others have described: as it was said, no task can require it.

    Arguments:
        field: where they are said, for the message; each by its place in that.
    Returns:
        one sentence at most, of at most 300 characters and `field`, however much there is of it.
    """
    places = [place for index, one in enumerate(machines) for place in _wrapped(f"{field}.{index}.resources", one)]
    if not places:
        return ()
    more = f" and {len(places) - 1} others" if places[1:] else ""
    what = (
        f"an object {_WRAPPED!r} in it{more}. No task can require what is in such an object; move its properties out "
        "of it"
    )
    return (f"{places[0]} has {what}",)


def _wrapped(field: str, one: Machine) -> list[str]:
    described = [
        (f"{field}.{_WRAPPED}", one.properties),
        *((f"{field}.devices.{index}.{_WRAPPED}", device.properties) for index, device in enumerate(one.devices)),
    ]
    return [place for place, properties in described if isinstance(properties.get(_WRAPPED), Mapping)]


def _parted(field: str, resources: Any) -> tuple[dict[str, Any], list[tuple[dict[str, str], dict[str, Any]]]]:
    """The properties of a machine, and its devices: of each its names, and its properties."""
    if not isinstance(resources, dict):
        raise _wrong(field, f"is {kind(resources)}; give a dict, such as {{'ram_gb': 16}}")
    if found := obstacle(resources, field):
        raise InvalidArgument(found, details=[Violation(field, found)])
    given = resources.get("devices", [])
    if not isinstance(given, list | tuple):
        raise _wrong(f"{field}.devices", f"is {kind(given)}; give a list of dicts")
    if len(given) > MAX_DEVICES:
        raise _wrong(f"{field}.devices", f"has {len(given)}, over the limit of {MAX_DEVICES}")
    devices = [_device(f"{field}.devices[{index}]", one) for index, one in enumerate(given)]
    return _named(field, resources, but=("devices",)), devices


def _device(field: str, given: Any) -> tuple[dict[str, str], dict[str, Any]]:
    if not isinstance(given, dict):
        raise _wrong(field, f"is {kind(given)}; give a dict, such as {{'type': 'gpu'}}")
    names = {name: given[name] for name in _NAMES if name in given}
    for name, text in names.items():
        if not isinstance(text, str) or not 0 < len(text) <= MAX_NAME or not text.isprintable():
            reason = f"is {quoted(text, _SHOWN)}; give text of 1 to {MAX_NAME} printable characters"
            raise _wrong(f"{field}.{name}", reason)
    return names, _named(field, given, but=_NAMES)


def _named(field: str, given: Mapping[str, Any], but: Sequence[str]) -> dict[str, Any]:
    if _WRAPPED in given:
        inside = given[_WRAPPED] if isinstance(given[_WRAPPED], dict) else {"vram_gb": 24}
        meant = {**{name: given[name] for name in but if name in given and name != "devices"}, **inside}
        raise _wrong(
            f"{field}.{_WRAPPED}", f"is not a property; name each property directly, as in {quoted(meant, _SHOWN)}"
        )
    properties = {name: value for name, value in given.items() if name not in but}
    for name in properties:
        if not 0 < len(name) <= MAX_NAME or not name.isprintable():
            reason = f"has the key {quoted(name, _SHOWN)}; a name has 1 to {MAX_NAME} printable characters"
            raise _wrong(field, reason)
    return properties


def _check_required(field: str, value: Any) -> None:
    one_of = value if isinstance(value, list | tuple) else (value,)
    if not one_of or not all(_is_scalar(one) for one in one_of):
        reason = f"is {quoted(value, _SHOWN)}; give a number, printable text, True or False, or a list of such"
        raise _wrong(field, reason)


def _is_scalar(value: Any) -> bool:
    return value.isprintable() if isinstance(value, str) else isinstance(value, int | float)


def _wrong(field: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])


# What is compared ------------------------------------------------------------------------------------------------


def has_all(machines: Iterable[Machine], required: str) -> bool:
    """Whether one of these machines alone has all that is required.

    A number must be at least as large, other values equal; of a list one is enough, at either side. Any part of a
    device's model will do, in upper or lower case. One device serves one requirement.
    """
    of = _read(required)
    return any(not _missing(one, of) for one in machines)


def missing(machines: Sequence[Machine], required: str) -> str:
    """What the machine lacks that comes nearest, in words; empty where there are no machines."""
    of = _read(required)
    lacks = min((_missing(one, of) for one in machines), key=len, default=[])
    return ", ".join(lacks)[:_WORDS_SHOWN]


@lru_cache(maxsize=1024)
def _read(required: str) -> _Required:
    asked = json.loads(required or "{}")
    devices = [
        (
            {name: text for name, text in one.items() if name in _NAMES},
            _compared({name: value for name, value in one.items() if name not in _NAMES}),
        )
        for one in asked.pop("devices", ())
    ]
    return _Required(_compared(asked), tuple(devices))


def _compared(properties: Mapping[str, Any]) -> _Properties:
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value) for name, value in sorted(properties.items())
    )


def _missing(one: Machine, required: _Required) -> list[str]:
    """What a machine lacks, in words."""
    lacks = [_said(name, value) for name, value in required.properties if not _meets(one.properties.get(name), value)]
    served = _served(one.devices, required)
    for index, (names, properties) in enumerate(required.devices):
        if index not in served:
            words = [*(f"{name} {text!r}" for name, text in names.items()), *(_said(*its) for its in properties)]
            lacks.append(f"a device with {' and '.join(words)}" if words else "a device")
    return lacks


def _said(name: str, value: Any) -> str:
    return f"{name} {quoted(value, _SHOWN)}"


def _served(devices: Sequence[Device], required: _Required) -> set[int]:
    """Which of the devices that are required a machine can give at the same time: as many as can be."""
    fitting = [
        [n for n, device in enumerate(devices) if _is(device, names, properties)]
        for names, properties in required.devices
    ]
    given: dict[int, int] = {}

    def serve(index: int, tried: set[int]) -> bool:
        for n in fitting[index]:
            if n not in tried:
                tried.add(n)
                # Who has it may do with another.
                if n not in given or serve(given[n], tried):
                    given[n] = index
                    return True
        return False

    for index in range(len(fitting)):
        serve(index, set())
    return set(given.values())


def _is(device: Device, names: Mapping[str, str], properties: _Properties) -> bool:
    return (
        names.get("type", device.type) == device.type
        and names.get("id", device.id) == device.id
        and names.get("model", "").casefold() in device.model.casefold()
        and all(_meets(device.properties.get(name), value) for name, value in properties)
    )


def _meets(has: Any, wanted: Any) -> bool:
    """Whether what a machine has is what is wanted."""
    if _is_number(wanted) and not isinstance(has, list | tuple):
        return _is_number(has) and bool(has >= wanted)
    # A worker may list thousands.
    return not _told_apart(has).isdisjoint(_told_apart(wanted))


def _told_apart(value: Any) -> frozenset[tuple[bool, Any]]:
    """A value, or those of a list, as JSON has them, where true is no number."""
    some = value if isinstance(value, list | tuple) else (value,)
    return frozenset([(isinstance(one, bool), one) for one in some if isinstance(one, str | int | float)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
