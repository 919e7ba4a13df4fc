"""The ledger: what every row can do: be put back as it was, and say what of it has changed."""

from __future__ import annotations

from typing import Self

from msgspec import Struct
from msgspec.structs import replace


class Row(Struct, eq=False, gc=False):
    """A row that a transaction can put back as it was. What its fields hold is replaced, never changed in place.

    The garbage collector does not look at rows, for nothing that one has leads back to it: it would walk all that live
    every time, hundreds of thousands, and nobody else runs meanwhile.

    `job_id` is the job that it is, or belongs to; empty: to none.
    """

    job_id = ""

    def __repr__(self) -> str:
        # Not of what it holds: a job's data, or a key that signs tokens.
        return f"{type(self).__name__}({self.job_id})"

    def snapshot(self) -> Self:
        """The row as it is now, which changes no more."""
        return replace(self)

    def restore(self, snapshot: Self) -> None:
        """Put the row back as it was."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(snapshot, name))
