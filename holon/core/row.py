"""The base class of all rows in memory."""

from __future__ import annotations

from msgspec import Struct

# Of the number of a shard in an id.
MAX_DIGITS = 4


class Row(Struct, eq=False, gc=False):
    """A row. Its fields hold values that are replaced, never changed in place.

    The garbage collector skips rows: it would stop the process while it walks hundreds of thousands of them. Therefore
    no field of a row may refer back to the row.

    `job_id` is the id of the row's job; empty if the row belongs to no job.
    """

    job_id = ""

    def __repr__(self) -> str:
        # Leave the fields out: they may hold a job's data, or a key that signs tokens.
        return f"{type(self).__name__}({self.job_id})"


def shard_of(item_id: str) -> int:
    """The number of the shard that has a job or a task, from its id; 0 if the id does not begin with a number."""
    digits = item_id.partition("-")[0]
    return int(digits) if digits.isdecimal() and len(digits) <= MAX_DIGITS else 0
