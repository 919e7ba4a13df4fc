"""The client: what happened to a job, and what is below it, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from holon.client.calls import Calls, request_of
from holon.client.shapes import HistoryEvent, HistoryPage, event_of, line_of
from holon.client.tree_shapes import HistoryDigest, TreeNode, TreePage, node_of
from holon.domain.digest import Fingerprint
from holon.rxon.v1 import job_pb2

if TYPE_CHECKING:
    from holon.rxon.v1.job_pb2_grpc import JobServiceAsyncStub


class Accounts:
    """The calls of a client that tell of jobs at length."""

    _calls: Calls
    _stub: JobServiceAsyncStub

    async def history_page(self, job_id: str, *, page_size: int = 0, page_token: str = "") -> HistoryPage:
        """Read one page of what happened to a job; as for `list_page`."""
        request = request_of(job_pb2.GetJobHistoryRequest, job_id=job_id, page_size=page_size, page_token=page_token)
        answer = await self._calls.call(self._stub.GetJobHistory, request)
        return HistoryPage(tuple(event_of(event) for event in answer.events), answer.next_page_token)

    async def history(self, job_id: str, *, page_size: int = 0) -> AsyncGenerator[HistoryEvent, None]:
        """Go through all that happened to a job, oldest first, page by page."""
        token = ""
        while True:
            page = await self.history_page(job_id, page_size=page_size, page_token=token)
            for event in page.events:
                yield event
            token = page.next_page_token
            if not token:
                return

    async def fingerprint(self, job_id: str, events: int | None = None) -> HistoryDigest:
        """Read a job's history, and say what its fingerprint is: to compare with what a holon above was told of it.

        Arguments:
            events: of how many lines, the oldest first; None takes all.
        """
        fingerprint = Fingerprint()
        async with aclosing(self.history(job_id, page_size=1_000)) as lines:
            async for line in lines:
                if fingerprint.events == events:
                    break
                fingerprint.take(line.sequence, line_of(line))
        digest = fingerprint.digest()
        return HistoryDigest(digest.events, digest.first, digest.last, digest.sha256.hex(), ())

    async def tree_page(
        self,
        job_id: str,
        *,
        max_depth: int | None = None,
        digests: bool = False,
        page_size: int = 0,
        page_token: str = "",
    ) -> TreePage:
        """Read one page of a job's tree: its tasks, and the jobs that do them, here or in other holons, to any depth.

        Arguments:
            max_depth: how many levels below the job; None means all.
            digests: whether the fingerprint of each job's history is wanted.
            page_size: at most 1,000; 0 means 1,000.
            page_token: of the page before, with the same arguments.
        """
        request = request_of(
            job_pb2.GetJobTreeRequest,
            job_id=job_id,
            max_depth=max_depth,
            digests_wanted=digests,
            page_size=page_size,
            page_token=page_token,
        )
        answer = await self._calls.call(self._stub.GetJobTree, request)
        return TreePage(tuple(node_of(node) for node in answer.nodes), answer.next_page_token)

    async def tree(
        self, job_id: str, *, max_depth: int | None = None, digests: bool = False, page_size: int = 0
    ) -> AsyncGenerator[TreeNode, None]:
        """Go through a job's tree page by page, each node after the one above it; as for `tree_page`.

        A holon below may tell of any number of nodes: stop where it is enough.
        """
        token = ""
        while True:
            page = await self.tree_page(
                job_id, max_depth=max_depth, digests=digests, page_size=page_size, page_token=token
            )
            for node in page.nodes:
                yield node
            token = page.next_page_token
            if not token:
                return
