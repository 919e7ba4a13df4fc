"""The ledger: what every row can do: be put back as it was, and say what of it has changed."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter, itemgetter
from typing import Any, ClassVar


class Row:
    """A row that a transaction can put back as it was. What its slots hold is replaced, never changed in place.

    `job_id` is the job that it is, or belongs to; empty: to none. What is `FIXED` of its slots stays as it was made.
    """

    __slots__: tuple[str, ...] = ()
    FIXED: ClassVar[frozenset[str]] = frozenset()
    job_id = ""
    changing: ClassVar[tuple[str, ...]]
    read_changing: ClassVar[Callable[[Any], tuple[Any, ...]]]

    def __init_subclass__(cls) -> None:
        first, *others = cls.changing = tuple(name for name in cls.__slots__ if name not in cls.FIXED)
        cls.read_changing = attrgetter(first, *others)

    def snapshot(self) -> tuple[Any, ...]:
        """All that `restore` needs to put the row back."""
        return type(self).read_changing(self)

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Put the row back as it was."""
        for name, value in zip(type(self).changing, snapshot, strict=True):
            setattr(self, name, value)

    @classmethod
    def then(cls, *names: str) -> Callable[[tuple[Any, ...]], Any]:
        """A function that finds what these slots held in a snapshot of a row."""
        return itemgetter(*map(cls.changing.index, names))

    @classmethod
    def untouched(cls, *names: str) -> Callable[[Any, tuple[Any, ...]], bool]:
        """A function of a row and a snapshot of it: whether these slots hold the very objects that they held then."""
        same = " and ".join(f"row.{name} is then[{cls.changing.index(name)}]" for name in names)
        made: Callable[[Any, tuple[Any, ...]], bool] = eval(f"lambda row, then: {same}")  # noqa: S307  names of slots
        return made
