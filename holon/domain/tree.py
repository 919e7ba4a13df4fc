"""The domain: the tree of a job: the job, its tasks, and the jobs by which other holons did them, to any depth."""

from __future__ import annotations

from enum import StrEnum

from holon.domain.costs import Cost
from holon.domain.digest import Digest
from holon.domain.value import Value, replace

# A page has so many nodes at most, and so many bytes.
MAX_NODES = 1_000
MAX_TREE_BYTES = 2**20
MAX_SUMMARY_BYTES = 64 * 1024
MAX_ERRORS = 10
# Of so many statuses it is told how many tasks, or jobs, have each: workers and holons below name their own.
MAX_COUNTS = 100
# How long the holons below are waited for, in seconds, all of them together.
TREE_S = 2.0


class Kind(StrEnum):
    """What a node of a tree is."""

    JOB = "job"
    TASK = "task"


class Disclose(StrEnum):
    """What a holon tells its parent of how its jobs are done.

    SUMMARY is all but params, results and the names of workers; FULL has those names too.
    """

    NONE = "none"
    SUMMARY = "summary"
    FULL = "full"


class Trouble(Value):
    """What went wrong, and where: the holon, and the blueprint or skill."""

    code: str
    message: str
    holon_id: str = ""
    name: str = ""


class Visit(Value):
    """A stay in a state, from when to when (epoch milliseconds); `left` is None while it lasts."""

    state: str
    entered: int
    left: int | None = None


class Summary(Value):
    """What a holon tells of a job and of all below it. Times are epoch milliseconds of its own store's clock.

    `tasks` and `jobs` are how many there are of each status; `truncated` says that something was left out. `cost` is
    what it was charged so far; None: nothing, or that is not known.
    """

    holon_id: str
    job_id: str
    status: str
    state: str
    as_of: int
    created_at: int
    finished_at: int | None = None
    tasks: tuple[tuple[str, int], ...] = ()
    jobs: tuple[tuple[str, int], ...] = ()
    errors: tuple[Trouble, ...] = ()
    states: tuple[Visit, ...] = ()
    digest: Digest | None = None
    truncated: bool = False
    cost: Cost = None


class TreeNode(Value):
    """One job or task. `id` names it within the tree, `parent` the one above it (empty: none). Times as in `Summary`.

    `generation` is that of a task, from 1: it grows with each failure that is tried again. A task stands for the newest
    one; each one before it is a task too, below that.
    `offline` says that its holon could not be asked now: it is as of `as_of`, and `summary` is what was told last.
    `reported` says that another holon told it. `cost` is what a job was charged so far, or what the attempts of a
    task cost.
    """

    id: str
    parent: str
    kind: Kind
    holon_id: str
    job_id: str
    name: str
    status: str
    task_id: str = ""
    state: str = ""
    progress: float | None = None
    attempt: int = 0
    worker_id: str = ""
    error: Trouble | None = None
    created_at: int | None = None
    finished_at: int | None = None
    offline: bool = False
    as_of: int | None = None
    reported: bool = False
    digest: Digest | None = None
    summary: Summary | None = None
    cost: Cost = None
    generation: int = 0


class Asked(Value):
    """What is wanted of a tree: how many levels below its root (None: all), and which page of how many nodes.

    `digests`: whether each job's fingerprint is wanted.
    """

    depth: int | None = None
    size: int = MAX_NODES
    token: str = ""
    digests: bool = False


class TreePage(Value):
    """Nodes, each after the one above it, and where the next page begins (empty: that was all)."""

    nodes: tuple[TreeNode, ...]
    token: str = ""


def shorter(summary: Summary) -> Summary:
    """The same with less in it: half of the states, and where there are none, without the digests and errors below.

    Where there are none of those either, half of the counts.
    """
    if summary.states:
        return replace(summary, states=summary.states[len(summary.states) // 2 + 1 :], truncated=True)
    if summary.digest is not None and summary.digest.children:
        return replace(summary, digest=replace(summary.digest, children=()), truncated=True)
    if summary.errors:
        return replace(summary, errors=summary.errors[:-1], truncated=True)
    tasks, jobs = summary.tasks[: len(summary.tasks) // 2], summary.jobs[: len(summary.jobs) // 2]
    return replace(summary, tasks=tasks, jobs=jobs, truncated=True)


def weight(node: TreeNode) -> int:
    """About how many bytes a node takes on its way, and not less."""
    text = (node.id, node.parent, node.holon_id, node.job_id, node.name, node.status, node.task_id, node.state)
    size = 160 + sum(len(one.encode()) for one in (*text, node.worker_id))
    if node.error is not None:
        size += _of_trouble(node.error)
    return size + _of_digest(node.digest) + (0 if node.summary is None else weight_of(node.summary))


def weight_of(summary: Summary) -> int:
    """The same of what is told of a job."""
    size = 320 + _of_digest(summary.digest) + sum(map(_of_trouble, summary.errors))
    size += sum(40 + len(visit.state.encode()) for visit in summary.states)
    return size + sum(24 + len(status.encode()) for status, _ in (*summary.tasks, *summary.jobs))


def _of_trouble(one: Trouble) -> int:
    return 24 + sum(len(text.encode()) for text in (one.code, one.message, one.holon_id, one.name))


def _of_digest(digest: Digest | None) -> int:
    return 0 if digest is None else 80 + 320 * len(digest.children)
