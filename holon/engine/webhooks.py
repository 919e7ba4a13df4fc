"""Webhooks: whoever is to be told of a job is, of its events as they come, and of its end once it is over."""

from __future__ import annotations

import asyncio

from holon.engine.records import Records
from holon.engine.tellers import Room, Teller
from holon.engine.to_tell import Ends, Events
from holon.ports import Delivery, Storage
from holon.telemetry.metrics import WebhookMetrics

FOR_ENDS = Room(in_all=256, of_client=64, at_host=16)
# There may be any number of events: they have places of their own, so that no end waits for one.
FOR_EVENTS = Room(in_all=128, of_client=32, at_host=8)


class Webhooks:
    """Tells, while it runs.

    Arguments:
        store: where what is to be told is taken, and where it is said what became of it.
        records: where the histories of jobs are read.
        delivery: what carries messages; None: nothing is to be sent here, and what is in the store all the same counts
            as not taken.
        give_up: for how many milliseconds after a job's end, or an event, it is tried at most.
    Attributes:
        metrics: what it has done.
    """

    def __init__(self, store: Storage, records: Records, delivery: Delivery | None, give_up: int) -> None:
        self.metrics = WebhookMetrics()
        ends, events = Ends(store, self.metrics), Events(store, records, self.metrics)
        self._ends = Teller("webhooks", store, ends, delivery, give_up, FOR_ENDS, self.metrics)
        self._events = Teller("webhooks-events", store, events, delivery, give_up, FOR_EVENTS, self.metrics)

    def __repr__(self) -> str:
        return f"Webhooks({self._ends!r}, {self._events!r})"

    @property
    def telling(self) -> int:
        """How many receivers are told at this moment."""
        return self._ends.telling + self._events.telling

    async def run(self) -> None:
        """Tell what is to be told, and what comes, until cancelled; what is in hand then is handed back."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ends.run(), name="webhooks")
            group.create_task(self._events.run(), name="webhooks-events")

    def look_again(self) -> None:
        """The time has jumped: tell what is due now."""
        self._ends.look_again()
        self._events.look_again()

    async def drain(self) -> None:
        """Take no more, and wait until what is told now is, or is not, and the store knows."""
        await asyncio.gather(self._ends.drain(), self._events.drain())
