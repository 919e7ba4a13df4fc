"""What every row in memory has in common."""

from __future__ import annotations

from msgspec import Struct


class Row(Struct, eq=False, gc=False):
    """A row. Its fields hold values that are replaced, never changed in place.

    The garbage collector does not look at rows, for nothing that one has leads back to it: else it would walk hundreds
    of thousands each time, and everybody would wait.

    `job_id` is the job that it is, or belongs to; empty: to none.
    """

    job_id = ""

    def __repr__(self) -> str:
        # Not what it holds: a job's data, or a key that signs tokens.
        return f"{type(self).__name__}({self.job_id})"
