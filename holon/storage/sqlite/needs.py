"""The SQLite file: what tasks need, once for all that need the same. It goes after the last of their jobs."""

from __future__ import annotations

from functools import lru_cache

from holon.storage.records import decode_need

# By how much the number of a need's newest job may be too small: it is not written for each job anew.
LAG = 10_000
# Of so many it is remembered at most that they are in the file; others are written once more.
MOST = 10_000

INSERT = """
    INSERT INTO needs (key, need, job) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET job = excluded.job WHERE job < excluded.job
"""
# The number of the oldest job. No task can have a need any more whose newest job is older.
OLDEST = f"SELECT coalesce((SELECT n FROM jobs ORDER BY n LIMIT 1), {2**62})"  # noqa: S608  a constant
PURGE = f"DELETE FROM needs WHERE job + {LAG} < ?"  # noqa: S608  a constant
SELECT = "SELECT key, need FROM needs"
SELECT_ONE = "SELECT need FROM needs WHERE key = ?"

# Many tasks need the same: they share one object.
need_of = lru_cache(maxsize=1024)(decode_need)


class Needs:
    """Which needs this process has written, each with the number of the newest job that it was written for."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        # The number of the job that was the oldest when needs were deleted last.
        self._oldest = 0

    def may_go(self, oldest: int) -> bool:
        """Whether some may be of no use any more, as this is the oldest job now: all of them are looked at for that."""
        return oldest >= self._oldest + LAG

    def purged(self, oldest: int) -> None:
        """Those that were of no use are gone, with this as the oldest job."""
        # Where no job was left, the next one begins anew.
        self._oldest = oldest if oldest < 2**62 else 0
        self.forget()

    def lacks(self, key: str, job: int) -> bool:
        """Whether a need is to be written for the task of a job, by its number."""
        newest = self._newest.get(key)
        return newest is None or newest + LAG < job

    def add(self, key: str, job: int) -> None:
        """It is in the file, written for this job."""
        if len(self._newest) >= MOST:
            self.forget()
        self._newest[key] = job

    def forget(self) -> None:
        """Any of them may be gone from the file: each is written once more."""
        self._newest.clear()
