"""What the parent asks while the link with it ends, as a part of it has failed: nobody answers, and nothing breaks."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from holon.domain.tree import Disclose
from holon.rxon.v1 import worker_pb2
from holon.uplink.answering import Answering
from holon.uplink.resolving import Resolving
from holon.uplink.running import Running
from holon.uplink.tenure import TenureLost


async def test_what_comes_when_a_part_of_the_link_has_failed_does_not_hide_that() -> None:
    async def link() -> None:
        async with asyncio.TaskGroup() as group:
            start = Running(Mock(), Mock(), Mock(), Mock(), group).start
            answering = Answering(Mock(), Mock(), Mock(), Mock(), Disclose.FULL, Mock(), start)
            resolving = Resolving(Mock(), Mock(), Mock(), "child", Mock(), start)
            group.create_task(lost())
            try:
                await asyncio.Event().wait()
            finally:
                answering.asked(worker_pb2.TreeRequest())
                resolving.brought(worker_pb2.ResolveRequest())

    async def lost() -> None:
        raise TenureLost("another node has the link")

    with pytest.raises(ExceptionGroup) as ended:
        await link()
    assert [type(one) for one in ended.value.exceptions] == [TenureLost]
