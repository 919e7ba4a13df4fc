"""The command line: the tree of a job as text, and its history compared with a digest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holon.cli.exits import ExitCode
from holon.cli.job_ids import JobId, with_job
from holon.cli.output import Json, local_time, one_line, safe, show_json
from holon.errors import InvalidArgument

if TYPE_CHECKING:
    from holon.client import Client, HistoryDigest, TreeNode

MAX_SHOWN = 10_000
_DIGEST = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")


def tree(
    job: JobId,
    depth: Annotated[int | None, typer.Option(min=0, help="Most levels below the job.", show_default="all")] = None,
    digests: Annotated[
        bool, typer.Option("--digests", help="Show the digest of each job's history, for `jobs verify`.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=MAX_SHOWN, help="Most lines of the tree to read.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Show the tasks of a job and the jobs in child holons that do them, with status and progress.

    A job of a holon that is offline is shown as last reported, with the time.
    """

    async def go(client: Client, job_id: str) -> tuple[list[TreeNode], str]:
        nodes: list[TreeNode] = []
        token = ""
        while True:
            size = min(1_000, limit - len(nodes))
            page = await client.tree_page(job_id, max_depth=depth, digests=digests, page_size=size, page_token=token)
            nodes += page.nodes
            token = page.next_page_token
            if not token or len(nodes) >= limit:
                return nodes, token

    nodes, token = with_job(job, go)
    if as_json:
        show_json({"nodes": [_json(node) for node in nodes], "next_page_token": token})
        return
    for line in drawn(nodes):
        print(line)
    if token:
        print(f"… and more: these are the first {len(nodes)}; a larger --limit shows the rest")


def verify(
    job: JobId,
    digest: Annotated[
        str,
        typer.Argument(metavar="LINES:SHA256", help="The digest that `jobs tree --digests` shows at a holon above."),
    ],
    as_json: Json = False,
) -> None:
    """Compare a job's history with a digest that a holon above has of it. Exits 1 if they differ.

    Run it at the holon of the job.
    """
    found = _DIGEST.fullmatch(digest.lower())
    if found is None:
        raise InvalidArgument(f"{digest[:80]!r} is not a digest; give LINES:SHA256, as `jobs tree --digests` shows it")
    events, sha256 = int(found[1]), found[2]

    async def go(client: Client, job_id: str) -> tuple[str, HistoryDigest]:
        return job_id, await client.fingerprint(job_id, events)

    job_id, own = with_job(job, go)
    same = (own.event_count, own.sha256) == (events, sha256)
    if as_json:
        show_json({"same": same, "event_count": own.event_count, "sha256": own.sha256})
    elif same:
        print(f"job {safe(job_id)}: the first {events} lines of its history match the digest")
    else:
        print(f"job {safe(job_id)}: its history does NOT match the digest; here the digest is {_digest(own)}")
    if not same:
        raise typer.Exit(ExitCode.FAILED)


def drawn(nodes: Sequence[TreeNode]) -> Iterator[str]:
    """The lines of a tree: each node behind the branch that it hangs on."""
    below: dict[str, list[TreeNode]] = {}
    known: set[str] = set()
    roots: list[TreeNode] = []
    for node in nodes:
        if node.node_id in known:
            continue
        # One above that was not shown leaves its own below without a branch.
        (below.setdefault(node.parent_node_id, []) if node.parent_node_id in known else roots).append(node)
        known.add(node.node_id)
    own = nodes[0].holon_id if nodes else ""
    tasks = {node.node_id for node in nodes if node.kind == "task"}
    waiting = [(node, "", "", own) for node in reversed(roots)]
    while waiting:
        node, branch, trunk, holon = waiting.pop()
        # A task below a task is an earlier generation of it.
        first, *more = _lines(node, holon, is_earlier=node.parent_node_id in tasks and node.kind == "task")
        yield branch + first
        children = below.get(node.node_id, [])
        for line in more:
            yield trunk + ("│  " if children else "   ") + line
        last = len(children) - 1
        waiting += [
            (child, trunk + ("└─ " if at == last else "├─ "), trunk + ("   " if at == last else "│  "), node.holon_id)
            for at, child in reversed(list(enumerate(children)))
        ]


def _lines(node: TreeNode, holon: str, *, is_earlier: bool) -> Iterator[str]:
    """What is said of a node; the first line says all but what went wrong."""
    parts = [f"{node.kind} {node.name or '?'}", node.job_id if node.kind == "job" else f"#{_number(node)}", node.status]
    if node.current_state:
        parts.append(f"in {node.current_state}")
    if node.progress is not None and node.finished_at is None:
        parts.append(f"{node.progress:g}%")
    if node.generation > 1 or is_earlier:
        parts.append(f"generation {node.generation}")
    if node.attempt > 1:
        parts.append(f"attempt {node.attempt}")
    if node.worker_id:
        parts.append(f"by {node.worker_id}")
    if node.cost is not None:
        parts.append(f"cost {node.cost}")
    if node.kind == "job" and node.holon_id != holon:
        parts.append(f"at holon {node.holon_id}")
    if node.offline:
        parts.append(f"(offline, as of {local_time(node.as_of)})")
    yield one_line("  ".join(parts))
    if node.summary is not None:
        told = [f"{count} {status}" for status, count in node.summary.task_counts.items()]
        jobs = [f"{count} {status}" for status, count in node.summary.job_counts.items()]
        if told:
            yield one_line(f"tasks: {', '.join(told)}" + (f"; jobs below: {', '.join(jobs)}" if jobs else ""))
    if node.error is not None:
        yield one_line(f"{node.error.code}: {node.error.message}")
    if node.digest is not None:
        yield one_line(f"history {_digest(node.digest)}")


def _number(node: TreeNode) -> str:
    """What tells a task from others of its job."""
    return "-".join(node.task_id.rsplit("-", 2)[1:]) or node.task_id


def _digest(digest: HistoryDigest) -> str:
    return f"{digest.event_count}:{digest.sha256}"


def _json(node: TreeNode) -> dict[str, Any]:
    """A node in the shape that it has over HTTP."""
    from dataclasses import asdict

    return asdict(node)
