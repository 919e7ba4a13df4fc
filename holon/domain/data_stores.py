"""Data stores: what the handlers of a blueprint share in one process, such as a cache or a pool of connections."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any

from holon.errors import BlueprintError


class DictStore:
    """A dict that is read and written as what waits for an answer is, so that another kind of store can take its place.

    Arguments:
        values: what it has at first; it keeps its own copy.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __repr__(self) -> str:
        return f"<DictStore keys={len(self._values)}>"

    async def get(self, key: str) -> Any:
        """What was set last under a key; None where nothing was."""
        return self._values.get(key)

    async def set(self, key: str, value: Any) -> None:
        """Keep a value under a key, in the place of what was there; for as long as the process lives."""
        self._values[key] = value


class DataStores:
    """The data stores of a blueprint, each as an attribute.

    Arguments:
        whose: the blueprint's name.
        stores: by name; a live view.
    """

    __slots__ = ("_stores", "_whose")

    def __init__(self, whose: str, stores: Mapping[str, Any]) -> None:
        # Nothing else is ever set: what is no store has no name here.
        object.__setattr__(self, "_whose", whose)
        object.__setattr__(self, "_stores", stores)

    def __repr__(self) -> str:
        return f"<DataStores of {self._whose}: {', '.join(self._stores) or 'none'}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # Python's own names are asked for before there is anything here, as when it is copied.
            raise AttributeError(name, name=name, obj=self)
        if name in self._stores:
            return self._stores[name]
        known = ", ".join(self._stores) or "none"
        text = f"blueprint {self._whose!r} has no data store {name!r}; it has {known}"
        raise AttributeError(text, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        text = f"a handler cannot set data_stores.{name}; declare it with add_data_store of the blueprint"
        raise AttributeError(text, name=name, obj=self)


def store_of(name: Any, value: Any, known: Mapping[str, Any]) -> Any:
    """What handlers are given as the store of this name: a dict as a `DictStore`, everything else as it is.

    Arguments:
        known: those that there are already.
    Raises:
        BlueprintError: it can have no such name, or another has it.
    """
    if not (isinstance(name, str) and name.isidentifier()) or name.startswith("_") or keyword.iskeyword(name):
        raise BlueprintError(
            f"data store {name!r} has an invalid name; handlers write data_stores.NAME, so use a name such as cache"
        )
    if name in known:
        raise BlueprintError(f"data store {name!r} already exists; use another name")
    return DictStore(value) if isinstance(value, dict) else value
