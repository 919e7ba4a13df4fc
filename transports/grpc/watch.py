"""The worker door: how long a stream may go on: its worker is heard, reads, is let in; and it is not too old."""

from __future__ import annotations

import asyncio
import random

from holon.engine.members import Member
from holon.engine.workers import Workers
from holon.errors import ResourceExhausted, Unavailable
from holon.transports.grpc.frames import Frames
from holon.transports.grpc.settings import WorkerDoorSettings
from holon.transports.grpc.standing import Standing

_PAST_S = 0.001
# A timer this late says that this process stood still, not that the worker did.
_LATE_S = 1.0


async def watch(
    member: Member, frames: Frames, standing: Standing, workers: Workers, settings: WorkerDoorSettings
) -> None:
    """Send the worker to another stream when this one has become old.

    Raises:
        HolonError: the worker has been silent, has not read, or has not moved for too long, or is not let in any more.
    """
    loop, silence = asyncio.get_running_loop(), settings.silence
    # Spread, for a fleet may have connected at once.
    old = loop.time() + settings.rotation * random.uniform(0.9, 1)  # noqa: S311
    moving = False
    while True:
        began = loop.time()
        until = standing.check()
        silent_in = frames.heard + silence - began
        if silent_in <= 0:
            raise Unavailable(f"no message arrived within {silence:g} s", code="SILENT", retry_after=1.0)
        if frames.writing + silence <= began:
            raise ResourceExhausted(f"the worker read nothing for {silence:g} s", code="STREAM_FULL")
        if old <= began:
            if moving:
                raise Unavailable(
                    "this stream reached its maximum age; open another", code="STREAM_OLD", retry_after=1.0
                )
            moving, old = True, began + settings.moving
            workers.rotate(member, round(settings.moving * 1000))
        # Past the end and not short of it: what is asked a moment too early would be asked once more.
        wait = min(until.left_ms / 1000 + _PAST_S, silent_in, old - began)
        try:
            async with asyncio.timeout(wait):
                await standing.renewed.heard(gathers=False)
            continue
        except TimeoutError:
            pass
        if loop.time() - began - wait > _LATE_S:
            frames.forgive(loop.time() - silence + _LATE_S)
