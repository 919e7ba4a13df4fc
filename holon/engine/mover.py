"""The mover: takes history out of the store, into the database where it is kept. It slows no job, and loses no line.

A batch is settled when it is safe there; what is repeated after a crash or a lost reply is there already.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

from holon.errors import StoreUnavailable
from holon.ports import HistoryStorage, Notice, Outbox
from holon.telemetry.metrics import MoverMetrics

log = logging.getLogger(__name__)

BATCH = 250
# What was told is gathered for so long: the store shows it meanwhile, and few large batches cost less than many.
LINGER_S = 0.2
# A hint can be lost; this is how long history can then wait.
LOOK_EVERY_S = 10.0
# And so long a node that ends waits for the database to take one batch.
LAST_BATCH_S = 5.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
LEFT = "the rest of the history stays in the store until a node moves it: %s"


class Mover:
    """Moves history while it runs.

    Arguments:
        store: where it is taken.
        history: where it goes.
    Attributes:
        metrics: what it has done.
    """

    def __init__(self, store: Outbox, history: HistoryStorage) -> None:
        self._store = store
        self._history = history
        self.metrics = MoverMetrics()
        self._some = asyncio.Event()
        self._moving = asyncio.Lock()
        self._batch: Sequence[Notice] = ()
        self._failures = 0

    def __repr__(self) -> str:
        return f"Mover(in hand={len(self._batch)}, failures={self._failures})"

    def wake(self) -> None:
        """There is history to be moved."""
        self._some.set()

    async def run(self) -> None:
        """Move what is there and what comes, until cancelled; a batch in hand is taken again by whoever comes next."""
        self._some.set()
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._some.wait()
            except TimeoutError:
                pass
            self._some.clear()
            try:
                moved = await self._move()
            except Exception as error:  # noqa: BLE001 -- whatever a database does, the node goes on without it
                await asyncio.sleep(self._failed(error))
                self._some.set()
                continue
            if self._failures:
                log.info("history is moved again after %d failures", self._failures)
                self._failures = 0
            if moved:
                self._some.set()
            if moved < BATCH:
                await asyncio.sleep(LINGER_S)

    async def flush(self) -> None:
        """Move all that is there, or as far as the database takes it without delay.

        When it is cancelled, what is left stays in the store too.
        """
        log.info("moving the history that is left")
        try:
            moved = 1
            while moved:
                async with asyncio.timeout(LAST_BATCH_S):
                    moved = await self._move()
        except TimeoutError:
            log.warning(LEFT, f"the database did not accept it within {LAST_BATCH_S:g} s")
        except asyncio.CancelledError:
            log.warning(LEFT, "there was no time left to move it")
            raise
        except Exception as error:
            log.warning(LEFT, error, exc_info=_unexpected(error))

    async def _move(self) -> int:
        """Move a batch; how many notices it had. One that failed stays in hand, and is the next."""
        async with self._moving:
            if not self._batch:
                self._batch = await self._store.take(BATCH)
            batch = self._batch
            if batch:
                await self._history.add(batch)
                await self._store.settle([notice.id for notice in batch])
                self.metrics.batches.observe(len(batch))
                self.metrics.moved.add(by=sum(len(notice.events) for notice in batch))
                self._batch = ()
            return len(batch)

    def _failed(self, error: Exception) -> float:
        """Note that a batch could not be moved; how many seconds to wait."""
        self.metrics.failures.add()
        pause: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        log.warning("history cannot be moved: %s; next try within %g s", error, pause, exc_info=_unexpected(error))
        return pause * random.uniform(0.5, 1)  # noqa: S311  jitter


def _unexpected(error: Exception) -> Exception | None:
    """An error that is to be told with where it came from: it says nothing that an operator could do."""
    return None if isinstance(error, StoreUnavailable) else error
