"""The health of a door: whoever watches hears of every change."""

from __future__ import annotations

from holon.transports.grpc.health import Health, Request, Response


async def test_a_watcher_hears_of_a_drain_that_begins_while_it_is_told_that_all_is_well() -> None:
    health = Health()
    watching = health._watch(Request())
    first = await anext(watching)
    health.drain()
    second = await anext(watching)
    await watching.aclose()
    assert [Response.FromString(one).status for one in (first, second)] == [
        Response.SERVING,
        Response.NOT_SERVING,
    ]
