"""How many tasks a child says that its parent may give it."""

from __future__ import annotations

import asyncio

from tests.integration.a_child import Child, Leaf, answer, offered
from tests.integration.scripted_node import GUARD, Stream


async def credits_of(stream: Stream, skill: str = "") -> int:
    """How many tasks the child says that it may hold, in all or of a skill, once it says nothing else for a while."""
    granted = -1
    while True:
        try:
            async with asyncio.timeout(0.3):
                said = (await stream.message("heartbeat")).heartbeat
        except TimeoutError:
            return granted
        if skill:
            granted = {one.skill: one.credits for one in said.offering_credits}.get(skill, granted)
        else:
            granted = said.credits


async def grants(stream: Stream, number: int, skill: str = "") -> None:
    """The child comes to say that it may hold so many tasks, in all or of a skill."""
    async with asyncio.timeout(GUARD):
        while await credits_of(stream, skill) != number:
            pass


async def hold(child: Child, stream: Stream, leaf: Leaf, number: int) -> None:
    """The parent gives so many tasks, and the leaf has them."""
    for _ in range(number):
        n = len(await child.jobs())
        await offered(stream, f"t{n}", "work", {})
        assert (await answer(stream)).HasField("accepted")
        await leaf.given()
