"""Which shapes may be the items of a set."""

from __future__ import annotations

from typing import Any

from holon.domain.shapes import Array, Either, Model, Record, Row, Shape, Table, Written


def hashable(shape: Shape) -> bool:
    """Whether what a shape builds has a hash, as far as its hint says: of `Any` some values have one."""
    match shape:
        case Table():
            return False
        case Array():
            return shape.make in (tuple, frozenset) and hashable(shape.item)
        case Row():
            return all(map(hashable, shape.items))
        case Either():
            return all(map(hashable, shape.options))
        case Record():
            return _has_hash(shape.make)
        case Model():
            return _has_hash(shape.cls)
        case Written():
            return "type" not in shape.text or not (shape.accepts({}) or shape.accepts([]))
        case _:
            return True


def _has_hash(cls: Any) -> bool:
    return cls.__hash__ is not None
