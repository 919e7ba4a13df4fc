"""The uplink: where the jobs of the parent's run: what of this holon they are given."""

from __future__ import annotations

from dataclasses import dataclass

from holon.domain.policy import Allowed
from holon.engine.following import Following
from holon.engine.history_reader import HistoryReader
from holon.engine.jobs import Jobs
from holon.ports import Storage
from holon.uplink.offerings import Offerings


@dataclass(frozen=True, slots=True)
class Place:
    """Where the parent's jobs run. `holon_id` is this holon's; times are milliseconds, but `cleanup`: seconds.

    `in_words`: whether the parent is told what workers say of the work, and why it waits. `names`: and their names.
    """

    store: Storage
    jobs: Jobs
    following: Following
    reader: HistoryReader
    offerings: Offerings
    holon_id: str
    max_jobs: int
    result_timeout: int
    max_priority: float = 100.0
    cleanup: float = 30.0
    allowed_skills: Allowed = None
    in_words: bool = True
    names: bool = False
