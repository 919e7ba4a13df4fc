"""A link with the parent that was lost is tried again at once; one that is lost again soon, after a random wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest

from holon.uplink.settings import TIMING
from tests.integration.a_child import a_child
from tests.integration.scripted_node import GUARD, Certificates
from tests.log_watch import LogWatch

# Nobody waits for an attempt that comes after a wait.
NEVER = replace(TIMING, reconnect_first=1e9, reconnect_longest=1e9)


async def test_a_link_that_was_lost_is_tried_again_at_once_and_not_so_when_it_is_lost_soon_after(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_child(certificates, [], timing=NEVER) as child:
        (await child.linked()).end(grpc.StatusCode.UNAVAILABLE, "it restarts")
        again = await child.linked()
        with LogWatch("trying again") as watch:
            again.end(grpc.StatusCode.UNAVAILABLE, "it restarts")
            await asyncio.wait_for(watch.seen.wait(), GUARD)
    waits = [float(one.getMessage().split()[-2]) for one in caplog.records if "trying again" in one.getMessage()]
    assert len(waits) == 2
    assert waits[0] == 0.0 < waits[1]


async def test_a_parent_that_is_not_there_yet_is_tried_after_a_wait(certificates: Certificates) -> None:
    with LogWatch("trying again") as watch:
        async with a_child(certificates, [], timing=NEVER) as child:
            (await child.parent.session()).end(grpc.StatusCode.UNAVAILABLE, "it starts")
            await asyncio.wait_for(watch.seen.wait(), GUARD)
            assert not child.uplink.linked
