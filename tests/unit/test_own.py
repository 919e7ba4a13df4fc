"""The node's own session: what it has done when the node ends."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, Mock

from holon.domain.children import RUN_BLUEPRINT
from holon.domain.task import RetryPolicy
from holon.engine.children.own import Own, OwnSettings
from holon.engine.dispatcher import Dispatcher
from holon.engine.results import Results
from holon.engine.session import Session
from holon.engine.touches import Touches
from holon.ports import Offer, StoreSettings
from holon.storage import MemoryStorage


async def test_work_that_was_to_begin_when_the_node_ends_leaves_nothing_behind() -> None:
    """A task of a group that ends is cancelled before its first step: what it was to await is not made yet."""
    opened: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
    dispatcher, results = Mock(spec=Dispatcher), AsyncMock(spec=Results)
    dispatcher.add_own.side_effect = opened.set_result
    async with MemoryStorage(StoreSettings("node")) as store:
        settings, touches, no = OwnSettings("node", lease=5_000, cleanup=1), Mock(spec=Touches), Mock()
        own = Own(store, dispatcher, touches, results, no, no, no, no, no, no, settings)
        running = asyncio.create_task(own.run())
        async with asyncio.timeout(20):
            session = await opened
        running.cancel()
        own.offer([_unreadable(session)])
        await asyncio.wait((running,))
        assert running.cancelled()
        results.complete.assert_not_called()


def _unreadable(session: Session) -> Offer:
    where = (session.worker_id, session.session_id, "task", "lease", "job")
    return Offer(*where, RUN_BLUEPRINT, "", "", b"no params", 0, 1, 1, None, None, RetryPolicy())
