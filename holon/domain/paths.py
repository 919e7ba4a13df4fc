"""The paths of a node's own that its clients call by HTTP, in whose place no blueprint may stand."""

from __future__ import annotations

API = "/api"
OWN = f"{API}/v1"
JOBS = f"{OWN}/jobs"
# The first variable that a path may have, as OpenAPI writes it.
JOB = f"{JOBS}/{{job_id}}"
JOB_HISTORY = f"{JOB}/history"
JOB_TREE = f"{JOB}/tree"
JOB_CANCEL = f"{JOB}/cancel"
JOB_SIGNALS = f"{JOB}/signals"
JOB_FILES = f"{JOB}/files"
JOB_FILES_UPLOAD = f"{JOB_FILES}/upload"
# A second variable is the last, and is all that follows: the name of a file may have parts.
JOB_FILES_CONTENT = f"{JOB_FILES}/content/{{filename}}"
JOB_FILES_DOWNLOAD = f"{JOB_FILES}/download/{{filename}}"
BLUEPRINTS = f"{OWN}/blueprints"
BLUEPRINT_GRAPH = f"{BLUEPRINTS}/{{name}}/graph"
WORKERS = f"{OWN}/workers"
CATALOG = f"{WORKERS}/catalog"
DASHBOARD = f"{OWN}/dashboard"
# Who decides need be no client: no blueprint has a path there.
JOB_APPROVAL = "/_public/webhooks/approval/{job_id}"
RELOAD = f"{OWN}/admin/reload"
RELOAD_WORKERS = f"{OWN}/admin/reload-workers"

# Without a job's own: where one is looked at, a blueprint may be posted to (`/api/v1/jobs/my_flow`: no id looks so).
_CLOSED = frozenset(
    (
        JOBS, JOB_HISTORY, JOB_TREE, JOB_CANCEL, JOB_SIGNALS, JOB_FILES, JOB_FILES_UPLOAD, BLUEPRINTS,
        BLUEPRINT_GRAPH, WORKERS, CATALOG, DASHBOARD, RELOAD, RELOAD_WORKERS,
    )
)  # fmt: skip
_OPEN_ENDED = tuple(path.partition("{filename}")[0] for path in (JOB_FILES_CONTENT, JOB_FILES_DOWNLOAD))
_VARIABLES = {f"{JOBS}/": "{job_id}", f"{BLUEPRINTS}/": "{name}"}


def of_own_version(path: str) -> tuple[str, ...]:
    """The paths of the node's own that one with another version, or with none, may be meant for; most are none."""
    if not path.startswith(f"{API}/") or path.startswith(f"{OWN}/"):
        return ()
    rest = path.removeprefix(f"{API}/")
    return f"{OWN}/{rest.partition('/')[2]}", f"{OWN}/{rest}"


def is_nodes_own(path: str) -> bool:
    """Whether no blueprint may have this path, whichever doors the node opens."""
    for start, variable in _VARIABLES.items():
        if path.startswith(start):
            _, slash, what = path.removeprefix(start).partition("/")
            shape = f"{start}{variable}{slash}{what}"
            return shape in _CLOSED or shape.startswith(_OPEN_ENDED)
    return path in _CLOSED
