"""The paths of a node's own that its clients call by HTTP, in whose place no blueprint may stand."""

from __future__ import annotations

JOBS = "/api/v1/jobs"
# The one variable of a path, as OpenAPI writes it.
JOB = f"{JOBS}/{{job_id}}"
JOB_HISTORY = f"{JOB}/history"
JOB_TREE = f"{JOB}/tree"
JOB_CANCEL = f"{JOB}/cancel"
RELOAD = "/api/v1/admin/reload"
RELOAD_WORKERS = "/api/v1/admin/reload-workers"

# Without a job's own: where one is looked at, a blueprint may be posted to (`/api/v1/jobs/my_flow`: no id looks so).
_CLOSED = frozenset((JOBS, JOB_HISTORY, JOB_TREE, JOB_CANCEL, RELOAD, RELOAD_WORKERS))


def is_nodes_own(path: str) -> bool:
    """Whether no blueprint may have this path, whichever doors the node opens."""
    if path.startswith(f"{JOBS}/"):
        _, slash, what = path.removeprefix(f"{JOBS}/").partition("/")
        path = f"{JOB}{slash}{what}"
    return path in _CLOSED
