"""Data stores: what the handlers of a blueprint share, by name."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.blueprint import Blueprint
from holon.domain.data_stores import DictStore
from holon.errors import BlueprintError


async def test_a_dict_is_copied_and_read_and_written_as_a_store() -> None:
    given = {"a": 1}
    one = Blueprint("one", data_stores={"cache": given})
    cache = one.data_stores.cache
    assert (await cache.get("a"), await cache.get("b")) == (1, None)
    await cache.set("b", 2)
    assert (await one.data_stores.cache.get("b"), given) == (2, {"a": 1})
    assert repr(cache) == "<DictStore keys=2>"


@pytest.mark.parametrize("value", [object(), None, [1], DictStore({})])
def test_anything_else_is_handed_over_as_it_is(value: Any) -> None:
    one = Blueprint("one")
    one.add_data_store("pool", value)
    assert one.data_stores.pool is value


def test_two_blueprints_have_two_stores_of_one_name() -> None:
    first, second = (Blueprint(name, data_stores={"cache": {}}) for name in "ab")
    assert first.data_stores.cache is not second.data_stores.cache


def test_a_second_store_of_a_name_is_refused_and_the_first_stands() -> None:
    first = object()
    one = Blueprint("one", data_stores={"cache": first})
    with pytest.raises(ValueError, match="blueprint 'one': data store 'cache' already exists"):
        one.add_data_store("cache", {})
    assert one.data_stores.cache is first


@pytest.mark.parametrize("name", ["", "a b", "a.b", "1st", "class", "_own", "__class__", 5, None])
def test_a_name_that_no_handler_can_write_is_refused(name: Any) -> None:
    with pytest.raises(BlueprintError, match=r"handlers write data_stores\.NAME"):
        Blueprint("one", data_stores={name: {}})


def test_a_store_that_is_not_there_is_named_with_those_that_are() -> None:
    one = Blueprint("one", data_stores={"cache": {}, "pool": 1})
    with pytest.raises(AttributeError, match="'one' has no data store 'cach'; it has cache, pool"):
        _ = one.data_stores.cach
    with pytest.raises(AttributeError, match="it has none"):
        _ = Blueprint("two").data_stores.cache
    assert repr(one.data_stores) == "<DataStores of one: cache, pool>"


def test_no_handler_puts_a_store_in_the_place_of_another() -> None:
    one = Blueprint("one", data_stores={"cache": {}})
    with pytest.raises(AttributeError, match=r"a handler cannot set data_stores.cache; .* add_data_store"):
        one.data_stores.cache = {}
    assert not hasattr(one.data_stores, "__setstate__")
