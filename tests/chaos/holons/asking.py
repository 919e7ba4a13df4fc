"""Chaos of holons: a client of the root, which asks for jobs, cancels some, and repeats what it is not sure of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from holon.client import Client
from holon.errors import FailedPrecondition
from tests.chaos.client import AGAIN_S, AWAY
from tests.chaos.holons.fate import Errand
from tests.chaos.notes import Notebook

T = TypeVar("T")


class Asking:
    """Asks for all errands, each at its time."""

    def __init__(self, root: Client, errands: tuple[Errand, ...], folder: Path) -> None:
        self._root = root
        self._errands = errands
        self._notes = Notebook(folder, "client")

    async def run(self) -> None:
        """Return once each is accepted, and cancelled if it was to be."""
        async with asyncio.TaskGroup() as group:
            for one in self._errands:
                group.create_task(self._ask(one), name=one.unit)

    async def _ask(self, one: Errand) -> None:
        await asyncio.sleep(one.at)
        data = {"unit": one.unit, "seconds": one.seconds}
        self._notes.write("asked", request=one.unit, unit=one.unit, blueprint=one.blueprint)
        made = await _sure(lambda: self._root.create_job(one.blueprint, data, request_id=one.unit))
        self._notes.write("accepted", request=one.unit, unit=one.unit, job=made.job_id, existing=made.existing)
        if one.cancel_after is not None:
            await asyncio.sleep(one.cancel_after)
            with suppress(FailedPrecondition):
                await _sure(lambda: self._root.cancel_job(made.job_id))
            # By now the root has it.
            self._notes.write("cancelled", unit=one.unit, job=made.job_id)


async def _sure(call: Callable[[], Awaitable[T]]) -> T:
    """Call until it answers."""
    while True:
        try:
            return await call()
        except AWAY:
            await asyncio.sleep(random.random() * AGAIN_S)
