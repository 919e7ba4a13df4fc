"""The domain: lines of a task's log, which go to whoever follows its job, and are kept nowhere."""

from __future__ import annotations

from holon.domain.value import Value

# How many are taken of all that is said at once.
MAX_LINES = 1_000
LEVELS = ("debug", "info", "warning", "error")
# Of a line that holons below passed on, the fields that say where it is from: the holons that it passed, the lowest
# first, and the job and the task in the lowest of them.
PASSED = "holon_ids"
FROM_JOB = "job_id"
FROM_TASK = "task_id"


class LogLine(Value):
    """One line. `time` is epoch milliseconds of the worker's clock; `fields` a JSON object, or empty."""

    time: int
    level: str
    text: str
    fields: bytes = b""


class Logged(Value):
    """Lines of one attempt of a task, in the order written."""

    task_id: str
    attempt: int
    lines: tuple[LogLine, ...]
