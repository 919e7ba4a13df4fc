"""The worker door: a session whose worker is a holon: let in by its pin and its chain, and told of the chain above."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from holon.domain.holarchy import HolonIdentity
from holon.engine.below import Below
from holon.engine.holarchy import Holarchy
from holon.engine.trees import Subtree
from holon.errors import FailedPrecondition, HolonError
from holon.rxon.v1 import worker_pb2
from holon.transports.grpc.child_decisions import ChildDecisions
from holon.transports.grpc.child_tree import ChildTree


class ChildHolon:
    """The holon that a session serves, while it is entered by `linked`.

    Arguments:
        holarchy: the place of this node's own holon.
        identity: what the child says of itself.
    """

    def __init__(self, holarchy: Holarchy, worker_id: str, identity: HolonIdentity) -> None:
        self._holarchy = holarchy
        self._worker_id = worker_id
        self.identity = identity
        self._told = _place(holarchy)

    def __repr__(self) -> str:
        return f"ChildHolon({self.identity.holon_id}, worker_id={self._worker_id})"

    @asynccontextmanager
    async def linked(self) -> AsyncGenerator[None, None]:
        """Let it in, until this is left; raises as `Holarchy.admit`."""
        await self._holarchy.admit(self._worker_id, self.identity)
        try:
            yield
        finally:
            await self._holarchy.left(self._worker_id, self.identity)

    def tell(self, welcome: worker_pb2.Welcome) -> None:
        """Say in the Welcome who is above, and how deep work may still go."""
        holarchy = self._holarchy
        self._told = _place(holarchy)
        welcome.holon_ids_above.extend(holarchy.above)
        welcome.max_holarchy_depth = holarchy.max_depth - len(holarchy.above) - 1

    def tree(
        self,
        below: Below,
        ask: Callable[[worker_pb2.TreeRequest], None],
        resolve: Callable[[worker_pb2.ResolveRequest], None],
        *,
        answers: bool,
        before: Subtree | None,
    ) -> ChildTree:
        """What it is to those who ask about its jobs.

        Arguments:
            answers: whether it says that it answers.
            before: who was linked as this worker until now.
        """
        holarchy, holon_id = self._holarchy, self.identity.holon_id
        known = before if isinstance(before, ChildTree) and before.identity.holon_id == holon_id else None
        decisions = known.decisions if known is not None else None
        return ChildTree(
            below,
            self.identity,
            lambda: frozenset((*holarchy.above, holarchy.own_id)),
            ask,
            ChildDecisions(holon_id, resolve, takes=answers, before=decisions),
            answers=answers,
            before=known,
        )

    def chain_changed(self, end: Callable[[HolonError, bool], None], move: Callable[[], None]) -> None:
        """The chain has become another: a child that has no place in it goes, others get a new Welcome."""
        try:
            self._holarchy.check_child(self.identity)
        except FailedPrecondition as error:
            end(error, False)
            return
        if self._told != _place(self._holarchy):
            move()


def _place(holarchy: Holarchy) -> tuple[tuple[str, ...], int]:
    return holarchy.above, holarchy.max_depth
