"""The worker SDK: the machine that the worker runs on, and what is loaded there, as its user says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from holon.domain.fleet import MAX_LOADED, MAX_MACHINE_BYTES
from holon.domain.json_words import quoted
from holon.domain.resources import machine
from holon.errors import InvalidArgument
from holon.rxon.v1 import worker_pb2
from holon.wire.resources import resources_message


def profile_of(resources: Mapping[str, Any]) -> worker_pb2.Profile:
    """The profile of a machine with these resources.

    Raises:
        InvalidArgument: no machine can have them, or there are too many; the message says what is wrong.
    """
    told = resources_message(machine("resources", resources))
    if (size := told.ByteSize()) > MAX_MACHINE_BYTES:
        raise InvalidArgument(
            f"resources has {size} bytes, over the limit of {MAX_MACHINE_BYTES}; report fewer properties"
        )
    return worker_pb2.Profile(profile_id="machine", resources=told)


def loaded(field: str, names: Iterable[Any], longest: int) -> tuple[str, ...]:
    """The names of what is loaded, each once; raises InvalidArgument for what is none, or too many."""
    if isinstance(names, str):
        raise InvalidArgument(f"{field} is text; give a list of names")
    some = tuple(dict.fromkeys(names))
    if len(some) > MAX_LOADED:
        raise InvalidArgument(f"{field} has {len(some)} names, over the limit of {MAX_LOADED}")
    for one in some:
        if not isinstance(one, str) or not 0 < len(one) <= longest or not one.isprintable():
            shown = quoted(one, 64)
            raise InvalidArgument(f"{field} has {shown}; a name has 1 to {longest} printable characters")
    return some
