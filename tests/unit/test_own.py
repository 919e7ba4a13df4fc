"""The node's own session: what it says while the store is away, and what it has done when the node ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock, Mock

import pytest

from holon.domain.children import RUN_BLUEPRINT
from holon.domain.task import RetryPolicy
from holon.engine.children.own import Own, OwnSettings
from holon.engine.dispatcher import Dispatcher
from holon.engine.results import Answer, Results
from holon.engine.session import Session
from holon.engine.touches import Touches
from holon.ports import Offer, StoreSettings
from holon.storage import MemoryStorage


@asynccontextmanager
async def own_session(results: Results) -> AsyncIterator[tuple[Own, Session, asyncio.Task[None]]]:
    """One that runs, of a node on a store in memory."""
    opened: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
    dispatcher, touches, no = Mock(spec=Dispatcher), AsyncMock(spec=Touches), Mock()
    dispatcher.add_own.side_effect = opened.set_result
    async with MemoryStorage(StoreSettings("node")) as store, asyncio.timeout(20):
        settings = OwnSettings("node", lease=5_000, cleanup=1)
        own = Own(store, dispatcher, touches, results, no, no, no, no, no, no, settings)
        running = asyncio.create_task(own.run())
        try:
            yield own, await opened, running
        finally:
            running.cancel()
            await asyncio.wait((running,))


async def test_work_that_was_to_begin_when_the_node_ends_leaves_nothing_behind() -> None:
    """A task of a group that ends is cancelled before its first step: what it was to await is not made yet."""
    results = AsyncMock(spec=Results)
    async with own_session(results) as (own, session, running):
        running.cancel()
        own.offer([_unreadable(session)])
        await asyncio.wait((running,))
        assert running.cancelled()
        results.complete.assert_not_called()


async def test_an_end_that_the_store_does_not_take_is_told_again_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results, taken = AsyncMock(spec=Results), asyncio.Event()
    answers = [Answer("task", "lease", again_after=0.001), Answer("task", "lease")]

    async def complete(*_: object) -> list[Answer]:
        answer = answers.pop(0)
        if not answers:
            taken.set()
        return [answer]

    results.complete.side_effect = complete
    async with own_session(results) as (own, session, _):
        own.offer([_unreadable(session)])
        await taken.wait()
    assert "job job learns later how a child job ended: the store did not accept it" in caplog.text


def _unreadable(session: Session) -> Offer:
    where = (session.worker_id, session.session_id, "task", "lease", "job")
    return Offer(*where, RUN_BLUEPRINT, "", "", b"no params", 0, 1, 1, None, None, RetryPolicy())
