"""The application service of operators: who this node is, what it runs, who works for it, its reload and drain."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from holon.domain.blueprint import Blueprint
from holon.domain.fleet import SkillView, WorkerView
from holon.domain.texts import meant
from holon.engine.blueprints import Blueprints
from holon.engine.core import Engine
from holon.engine.holarchy import Holarchy
from holon.engine.paging import page_of, page_of_sorted, size_of_page
from holon.engine.shared_reloading import Reload
from holon.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from holon.ports import Counts, WorkerEvent
from holon.telemetry.audit import By

MAX_GRACE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class NodeView:
    """Who and how a node is. Times are epoch milliseconds of the store's clock.

    `holon_id` is its holon's, `above` the holons above that, root first.
    """

    node_id: str
    version: str
    started_at: int
    draining: bool
    now: int
    holon_id: str
    above: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of `as_of`; `uptime` is milliseconds."""

    counts: Counts
    workers: int
    uptime: int
    as_of: int


class Overview:
    """Shows, reloads and drains one node.

    Arguments:
        version: of its software.
        drain: begins the end of this node: within so many seconds (None: its own grace), and why. Safe to repeat.
        reload: reads files again, here and on the other nodes.
        holarchy: the place of the node's holon.
        webhook_secret: the store's own secret that signs webhooks; empty: none does.
    """

    def __init__(
        self,
        engine: Engine,
        node_id: str,
        version: str,
        drain: Callable[[float | None, str], None],
        reload: Reload,
        holarchy: Holarchy,
        webhook_secret: bytes = b"",
    ) -> None:
        self._store = engine.store
        self._blueprints: Blueprints = engine.blueprints
        self._workers = engine.workers
        self._fleet = engine.fleet
        self._whole = engine.whole_fleet
        self._pages = engine.pages
        self._records = engine.records
        self._node_id = node_id
        self._version = version
        self._drain = drain
        self._reload = reload
        self._holarchy = holarchy
        self._webhook_secret = webhook_secret
        self._started_at = engine.store.now()

    def __repr__(self) -> str:
        return f"Overview({self._node_id})"

    def node(self) -> NodeView:
        """Who and how this node is."""
        return NodeView(
            self._node_id,
            self._version,
            self._started_at,
            self._workers.draining,
            self._store.now(),
            self._holarchy.own_id,
            self._holarchy.above,
        )

    def blueprints(self, page_size: int, page_token: str) -> tuple[list[Blueprint], str]:
        """A page of the blueprints, by name, and the token of the next."""
        return page_of(
            self._blueprints, lambda one: (one.name,), _weight, page_size, page_token, self._pages.of("blueprints")
        )

    def blueprint(self, name: str) -> Blueprint:
        """One blueprint.

        Raises:
            NotFound: (BLUEPRINT_NOT_FOUND) there is none of this name.
        """
        found = self._blueprints.get(name)
        if found is None:
            hint = meant(name, (one.name for one in self._blueprints))
            raise NotFound(f"this node has no blueprint named {name[:128]!r}{hint}", code="BLUEPRINT_NOT_FOUND")
        return found

    def workers(
        self, page_size: int, page_token: str, skill: str = "", connected: bool | None = None
    ) -> tuple[list[WorkerView], str]:
        """A page of the workers with a live session at any node, by id, and the token of the next; no others are known.

        Arguments:
            skill: only those that offer it; empty means all.
            connected: False asks for those without a live session.
        """
        found = [] if connected is False else self._whole.workers(skill)
        key, weight = (lambda one: (one.worker_id,)), (lambda one: one.weight)
        page, more = page_of_sorted(found, key, weight, page_size, page_token, self._pages.of("workers"))
        return [one.view() for one in page], more

    async def worker_history(
        self, owner: str, worker_id: str, page_size: int, page_token: str
    ) -> tuple[Sequence[WorkerEvent], str]:
        """A page of what a worker had part in among an owner's jobs, newest first; see `Records.of_worker`."""
        return await self._records.of_worker(owner, worker_id, page_token, size_of_page(page_size))

    def skills(self, page_size: int, page_token: str) -> tuple[list[SkillView], str]:
        """A page of what is offered now at all nodes, by name, type and version, and the token of the next."""
        key, weight = (lambda one: one.key), (lambda one: one.weight)
        return page_of_sorted(self._whole.skills(), key, weight, page_size, page_token, self._pages.of("skills"))

    async def stats(self) -> Stats:
        """The figures of now."""
        counts = await self._store.counts()
        now = self._store.now()
        return Stats(counts, len(self._fleet), now - self._started_at, now)

    def webhook_secret(self) -> str:
        """The secret that the store keeps for signing webhooks, as WEBHOOK_SECRET would have it.

        Raises:
            FailedPrecondition: (WEBHOOK_SECRET_SET) webhooks are signed with that setting, or not sent.
        """
        if not self._webhook_secret:
            raise FailedPrecondition(
                "the store's secret is not in use: WEBHOOK_SECRET is set, and no node shows it (`holon serve --dev` "
                "writes its own into .holon/dev.toml), or the node serves no clients",
                code="WEBHOOK_SECRET_SET",
            )
        return f"whsec_{b64encode(self._webhook_secret).decode()}"

    async def reload(self, targets: Sequence[str], by: By) -> tuple[str, ...]:
        """Read files again on every node; see `SharedReloading.reload`."""
        return await self._reload(targets, by)

    def drain_node(self, grace: float | None, reason: str) -> None:
        """Begin to drain this node, as SIGTERM does; a repeat changes nothing.

        Arguments:
            grace: how many seconds it may take; None is the node's own.
        Raises:
            InvalidArgument: the grace is below 0 or over an hour.
        """
        if grace is not None and not 0 <= grace <= MAX_GRACE_S:
            why = f"must be between 0 and {MAX_GRACE_S:.0f} seconds"
            raise InvalidArgument(f"grace {why}", details=[Violation("grace", why)])
        self._drain(grace, reason)

    async def accept_holon(self, worker_id: str) -> str:
        """Let another holon come in the place of a child or, without a worker's id, of the parent.

        Returns:
            the holon that was known so far.
        Raises:
            NotFound: (HOLON_UNKNOWN) none is known there.
        """
        return await self._holarchy.accept(worker_id)

    async def drain_worker(self, worker_id: str, *, undo: bool, reason: str) -> WorkerView:
        """Give a worker no more tasks, or take that back, at whichever node it is; see `WholeFleet.drain`."""
        return await self._whole.drain(worker_id, undo=undo, reason=reason)


def _weight(blueprint: Blueprint) -> int:
    """About how many bytes a blueprint takes in a list."""
    schemas = blueprint.input_schema, blueprint.output_schema
    return len(orjson.dumps((schemas, blueprint.name, blueprint.path, blueprint.api_version))) + 64
