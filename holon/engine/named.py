"""Seats that a store call names: promised from when they are found until it is known what was leased to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from holon.ports import Leased, Seat


class Named:
    """The seats of one store call, which is made while this is entered (`with`); made by `Dispatcher.naming`.

    Attributes:
        seats: what the call may lease to.
        leased: what it has leased, set by who calls; None: it failed, or was not made.
    """

    __slots__ = ("_settle", "leased", "seats")

    def __init__(self, seats: Sequence[Seat], settle: Callable[[Sequence[Seat], Leased | None], None]) -> None:
        self.seats = seats
        self.leased: Leased | None = None
        self._settle = settle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._settle(self.seats, self.leased)
