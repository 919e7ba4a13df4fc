"""The uplink: what the parent asks about the jobs that do its tasks, and what it is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from holon.domain.tree import MAX_NODES, MAX_TREE_BYTES, TREE_S, Asked, Disclose, TreePage
from holon.domain.value import replace
from holon.engine.trees import Trees
from holon.errors import HolonError, NotFound, PermissionDenied, ResourceExhausted
from holon.rxon.v1 import worker_pb2
from holon.uplink.delegation import owner_of
from holon.wire.grpc_status import error_of, told
from holon.wire.trees import node_message
from holon.wire.values import MAX_ID, seconds, timestamp
from holon.worker.reports import Reports

log = logging.getLogger(__name__)

# So many questions are answered at the same time.
MOST = 64
# What is left of the parent's patience once the answer is made.
_SHARE = 0.85
# Beside what the parent reads of one message.
_AROUND = 4 * 1024


class Answering:
    """Answers the parent, as far as this holon discloses how its jobs are done.

    Arguments:
        job_of: the job that does a task of the parent's, if one is known to.
        parent: who the parent is.
        now: the store's clock.
        start: has something done beside.
    """

    def __init__(
        self,
        trees: Trees,
        job_of: Callable[[str], Awaitable[str]],
        parent: Callable[[], str],
        now: Callable[[], int],
        disclose: Disclose,
        reports: Reports,
        start: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self._trees = trees
        self._job_of = job_of
        self._parent = parent
        self._now = now
        self._disclose = disclose
        self._reports = reports
        self._start = start
        self._under_way = 0

    def __repr__(self) -> str:
        return f"Answering({self._disclose}, under_way={self._under_way})"

    def asked(self, request: worker_pb2.TreeRequest) -> None:
        """The parent asks for a page of a tree."""
        if self._under_way >= MOST:
            full = ResourceExhausted(f"{MOST} queries are being answered; retry later", retry_after=1.0)
            self._say(request, worker_pb2.TreePage(error=error_of(full)))
            return
        self._under_way += 1
        self._start(self._answer(request), "tree-answer")

    async def _answer(self, request: worker_pb2.TreeRequest) -> None:
        try:
            page = await self._page(request)
        except HolonError as error:
            page = worker_pb2.TreePage(error=error_of(error))
        except Exception as error:  # noqa: BLE001  the outermost frame of an answer; it is logged
            page = worker_pb2.TreePage(error=error_of(told(error, "a tree for the parent")))
        finally:
            self._under_way -= 1
        self._say(request, page)

    async def _page(self, request: worker_pb2.TreeRequest) -> worker_pb2.TreePage:
        if self._disclose is Disclose.NONE:
            raise PermissionDenied("this holon does not disclose how its jobs are executed", code="NOT_DISCLOSED")
        until = asyncio.get_running_loop().time() + _SHARE * _patience(request)
        job_id = request.job_id or await self._job_of(request.task_id)
        if not job_id:
            raise NotFound(f"no job of task {request.task_id[:MAX_ID]!r} is known", code="JOB_NOT_FOUND")
        asked = Asked(
            request.max_depth if request.HasField("max_depth") else None,
            request.page_size or MAX_NODES,
            request.page_token,
            request.digests_wanted,
        )
        most = min(MAX_TREE_BYTES, self._reports.max_message_bytes - _AROUND)
        while True:
            # Only what is the parent's: the job's owner is.
            left = until - asyncio.get_running_loop().time()
            page = self._message(await self._trees.page(owner_of(self._parent()), job_id, asked, left))
            if page.ByteSize() <= most or asked.size <= 1:
                return page
            asked = replace(asked, size=asked.size // 2)

    def _message(self, page: TreePage) -> worker_pb2.TreePage:
        nodes = page.nodes
        if self._disclose is not Disclose.FULL:
            nodes = tuple(replace(node, worker_id="") for node in nodes)
        return worker_pb2.TreePage(
            nodes=map(node_message, nodes), next_page_token=page.token, as_of=timestamp(self._now())
        )

    def _say(self, request: worker_pb2.TreeRequest, page: worker_pb2.TreePage) -> None:
        page.request_id = request.request_id[:MAX_ID]
        self._reports.tree(page)


def _patience(request: worker_pb2.TreeRequest) -> float:
    """How many seconds the parent waits."""
    return min(TREE_S, max(0.0, seconds(request.time_left))) if request.HasField("time_left") else TREE_S
