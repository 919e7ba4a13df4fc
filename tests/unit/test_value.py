"""Values: plain data, frozen, compared by what they have."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import holon
from holon.domain.costs import Cost
from holon.domain.events import HistoryEvent
from holon.domain.matching import Need
from holon.domain.value import Value, replace
from holon.ports import Document

# What a value is made of beside other values: none of these leads back to what has it.
PLAIN = (bool, int, float, str, bytes, NoneType, Enum, Value)


def all_values() -> Iterator[type[Value]]:
    """Every class of values."""
    for module in pkgutil.walk_packages(holon.__path__, "holon."):
        if not module.name.startswith(("holon.rxon", "holon.cli", "holon.client")):
            importlib.import_module(module.name)
    yield from Value.__subclasses__()


def types_in(hint: Any) -> Iterator[type]:
    """The classes that a type is put together from."""
    if get_origin(hint) is None:
        yield hint
    for one in get_args(hint):
        if one is not Ellipsis and not isinstance(one, str):
            yield from types_in(one)


@pytest.mark.parametrize("cls", list(all_values()), ids=lambda cls: cls.__qualname__)
def test_the_garbage_collector_overlooks_only_values_that_are_plain_data(cls: type[Value]) -> None:
    if cls.__struct_config__.gc:
        return
    for name, hint in get_type_hints(cls).items():
        for one in types_in(hint):
            plain = one is not Any and issubclass(one, PLAIN)
            if plain and issubclass(one, Value):
                # What it has may lead back to this one, through it.
                plain = not one.__struct_config__.gc
            assert plain, f"{cls.__name__}.{name} may lead back to it"


def test_a_value_is_frozen_and_equal_to_another_of_the_same_fields() -> None:
    cost: Cost = 3
    one = Need("t", max_cost=cost)
    with pytest.raises(AttributeError):
        one.skill = "u"  # type: ignore[misc]
    assert one == Need("t", max_cost=3)
    assert len({one, Need("t", max_cost=3), Need("u")}) == 2
    assert one != replace(one, skill="u")


def test_a_replaced_value_has_what_is_made_of_its_fields_anew() -> None:
    assert replace(Need("t"), version="2").key == Need("t", version="2").key != Need("t").key


def test_what_one_value_has_by_default_no_other_has() -> None:
    one, other = (HistoryEvent("state_started", 1) for _ in range(2))
    one.details["only"] = "here"
    assert other.details == {}


def test_what_a_document_has_is_not_in_its_text() -> None:
    assert "secret" not in repr(Document("keys", "k", 1, b"secret"))
    assert repr(Document("keys", "k", 1, b"secret")) == "Document(kind='keys', key='k', version=1, expires_at=None)"
