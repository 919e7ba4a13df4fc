"""The domain: jobs that are parts of others. A job waits for its part as for a task, which a node does by itself.

No worker can offer the skill of such tasks, and no blueprint ask for it but by the name of another.
"""

from __future__ import annotations

from typing import Any

from holon.domain.decisions import AskedPart
from holon.domain.value import Value

# It has a space that is not printable, as every skill of a worker must be.
RUN_BLUEPRINT = "run\u00a0blueprint"
# What people are shown of it: what a handler has called.
_SHOWN = "run_blueprint"
# What the ids of sessions begin with that are a node's own, and those of no worker.
NODES_OWN = "@"
# Who asks for the end of a part, in words that follow a `the`.
JOB_ABOVE = "job above it"


class Part(Value, gc=True):
    """What a task says of the job that is to do it. Timeouts are seconds."""

    job_id: str
    blueprint: str
    initial_data: dict[str, Any]
    dispatch_timeout: float | None = None
    result_timeout: float | None = None


def params_of(asked: AskedPart) -> dict[str, Any]:
    """The params of the task that a handler asks for."""
    return {
        "job_id": asked.child_job_id,
        "blueprint": asked.blueprint,
        "initial_data": asked.initial_data,
        "dispatch_timeout": asked.dispatch_timeout,
        "result_timeout": asked.result_timeout,
    }


def part_of(params: Any) -> Part:
    """The same, back."""
    return Part(**params)


def request_of(task_id: str) -> str:
    """The request id of the job that does a task: whoever creates it again finds it."""
    return f"part:{task_id}"


def shown_skill(skill: str) -> str:
    """A skill, or what asked for a part, for people."""
    return _SHOWN if skill == RUN_BLUEPRINT else skill


def is_nodes_own(worker_id: str) -> bool:
    """Whether a session of this id is a node's own, and no worker's."""
    return worker_id.startswith(NODES_OWN)
