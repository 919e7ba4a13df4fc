"""Events of a job are told above in order, and its end waits for no database of history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from holon.domain.events import Occurred
from holon.engine import history_reader, told_above
from holon.engine.told_above import EventsOfJob, Extent
from tests.unit.histories import Histories, lines, reader

# Two events, of which the second may have moved before it was told.
WHOLE = lines("job_created", "worker_event:a", "state_started", "worker_event:b", "job_completed")
FIRST, ALL = Extent(2, 1), Extent(5, 2)


class Place:
    """Where a job's first event is told and the second is not, and has moved."""

    def __init__(self) -> None:
        self.store = Histories({"j": {number: WHOLE[number] for number in (1, 2)}})
        self.database = Histories({"j": {number: WHOLE[number] for number in (1, 2, 3, 4)}})
        self.told: list[str] = []
        self._events = EventsOfJob(reader(self.store, self.database), "j")

    async def tell(self, upto: Extent, lease_id: str = "l", *, last: bool = False) -> None:
        await self._events.tell("t", lease_id, upto, self._put, last=last)

    async def _put(self, events: Sequence[Occurred]) -> None:
        self.told += [one.type for one in events]

    def moves(self) -> None:
        self.store.jobs = {"j": {5: WHOLE[5]}}


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(history_reader, "AGAIN_S", 0.0)
    monkeypatch.setattr(told_above, "AGAIN_S", 0.001)
    place = Place()
    await place.tell(FIRST)
    place.moves()
    assert place.told == ["a"]
    return place


async def test_what_moved_untold_is_told_once_the_database_is_back(place: Place) -> None:
    place.database.failures = 3
    await place.tell(ALL)
    assert place.told == ["a", "b"]
    await place.tell(ALL, last=True)
    assert place.told == ["a", "b"]


async def test_an_end_does_not_wait_for_it_nor_for_who_does(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_above, "AGAIN_S", 60.0)
    place.database.failures = -1
    going_on = asyncio.create_task(place.tell(ALL))
    await place.database.called.wait()
    await place.tell(ALL, last=True)
    await going_on
    assert place.told == ["a"]


async def test_what_has_moved_counts_as_told_where_it_is_told_anew(place: Place) -> None:
    place.database.failures = -1
    await place.tell(ALL, "newer")
    assert place.told == ["a"]
    place.store.jobs["j"] = {6: WHOLE[4]}
    await place.tell(Extent(6, 3), "newer")
    assert place.told == ["a", "b"]
