"""The worker door: a holon below is asked for trees, and what it tells of its jobs is kept."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable

from holon.domain.holarchy import HolonIdentity
from holon.domain.tree import MAX_NODES, Asked, TreePage
from holon.engine.below import Below
from holon.engine.kept import MOST_OF_ONE
from holon.engine.ways_down import PassedDown
from holon.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.transports.grpc.child_decisions import ChildDecisions
from holon.wire.trees import kept_summary, page_of
from holon.wire.values import time_limit

log = logging.getLogger(__name__)

# A holon is asked so many things at a time.
MAX_QUESTIONS = 200
_ERRORS = {"NOT_DISCLOSED": PermissionDenied, "JOB_NOT_FOUND": NotFound}


class ChildTree:
    """A linked holon, as trees know it: `Subtree`. Nothing that it says ends its session.

    Arguments:
        identity: what it says of itself.
        above: the holons that cannot be below it: this node's own, and those above that.
        send: queues a question for it.
        decisions: takes people's decisions to it.
        answers: whether it says that it answers questions.
        before: the same holon on its stream before, if that is there still: what it was asked there it answers here.

    Attributes:
        asked: who waits for which answer.
        decisions: as above.
    """

    def __init__(
        self,
        below: Below,
        identity: HolonIdentity,
        above: Callable[[], frozenset[str]],
        send: Callable[[worker_pb2.TreeRequest], None],
        decisions: ChildDecisions,
        *,
        answers: bool,
        before: ChildTree | None = None,
    ) -> None:
        self._below = below
        self.identity = identity
        self._above = above
        self._send = send
        self.decisions = decisions
        self._answers = answers
        self.asked: dict[str, asyncio.Future[worker_pb2.TreePage]] = {}
        if before is not None:
            self.asked = before.asked

    def __repr__(self) -> str:
        return f"ChildTree({self.identity.holon_id}, asked={len(self.asked)})"

    async def ask(self, task_id: str, lease_id: str, job_id: str, asked: Asked, seconds: float) -> TreePage:
        """As `Subtree.ask`; on cancel an answer that still comes is passed over."""
        if not self._answers or len(self.asked) >= MAX_QUESTIONS:
            raise Unavailable(f"holon {self.identity.holon_id} cannot be queried now")
        size = asked.size or MAX_NODES
        request = worker_pb2.TreeRequest(
            request_id=secrets.token_hex(12),
            task_id=task_id,
            lease_id=lease_id,
            job_id=job_id,
            max_depth=asked.depth,
            page_size=size,
            page_token=asked.token,
            digests_wanted=asked.digests,
            time_left=time_limit(round(seconds * 1000)),
        )
        answer = self.asked[request.request_id] = asyncio.get_running_loop().create_future()
        try:
            self._send(request)
            async with asyncio.timeout(seconds):
                page = await answer
        except TimeoutError:
            raise Unavailable(
                f"holon {self.identity.holon_id} did not answer within {seconds:.1f} s", code="SILENT"
            ) from None
        finally:
            del self.asked[request.request_id]
        if page.HasField("error"):
            refused = _ERRORS.get(page.error.reason, Unavailable)
            raise refused(f"holon {self.identity.holon_id} refused the query: {page.error.message[:512]}")
        told = page_of(page, Asked(asked.depth, size, asked.token), self.identity.holon_id, self._above())
        if job_id and told.nodes and not asked.token and told.nodes[0].job_id != job_id:
            raise InvalidArgument(f"holon {self.identity.holon_id} answered for another job")
        return told

    async def decide(self, passed: PassedDown, seconds: float) -> None:
        """As `Subtree.decide`."""
        await self.decisions.decide(passed, seconds)

    def awaits(self, page: worker_pb2.TreePage) -> bool:
        """Whether this is an answer that somebody waits for."""
        answer = self.asked.get(page.request_id)
        return answer is not None and not answer.done()

    def answered(self, page: worker_pb2.TreePage) -> None:
        """An answer has come; one that nobody waits for, perhaps any more, is passed over."""
        answer = self.asked.get(page.request_id)
        if answer is not None and not answer.done():
            answer.set_result(page)

    def told(self, task_id: str, lease_id: str, message: types_pb2.JobSummary, generation: int) -> None:
        """Something was told of the job of a task that runs."""
        summary = self.summary(message)
        if summary is not None:
            self._below.later(task_id, lease_id, summary, generation)

    def summary(self, message: types_pb2.JobSummary) -> bytes | None:
        """What was told of a job, to be kept; None where it cannot be used, which harms nothing else."""
        if message.holon_id != self.identity.holon_id:
            return None
        try:
            return kept_summary(message, MOST_OF_ONE)
        except InvalidArgument as error:
            log.info("holon %s: %s", self.identity.holon_id, error.message)
            return None

    async def ended(self, told: Iterable[tuple[str, str, bytes, int]]) -> None:
        """Something was told with the results of tasks, which were used; see `Below.ended`."""
        await self._below.ended(told)
