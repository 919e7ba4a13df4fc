"""Survey: has a child holon take a census. To the node it is a task like any other; to the child it is a job.

The node loads this folder alone. The child offers `blueprints/census.py`, and its own workers count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

bp = Blueprint("survey", api_version="v1", api_endpoint="/jobs/survey")


@dataclass
class Request:
    """What a client sends: the absolute path of a folder, as the child and its workers see it."""

    folder: str


@bp.handler(is_start=True)
async def start(initial_data: Request, actions: ActionFactory) -> None:
    """Ask for the census."""
    actions.dispatch_task("census", {"folder": initial_data.folder}, {"success": "done"})


@bp.handler(is_end=True)
async def done(
    totals: dict[str, Any],
    longest_functions: list[Any],
    most_imported: list[Any],
    broken_files: list[Any],
) -> dict[str, Any]:
    """The child's report is the job's result."""
    return {
        "totals": totals,
        "longest_functions": longest_functions,
        "most_imported": most_imported,
        "broken_files": broken_files,
    }
