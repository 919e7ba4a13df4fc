"""Histories are read for those who must not wait for the database of history, nor for what cannot be opened."""

from __future__ import annotations

import asyncio

import pytest

from holon.engine import history_reader
from holon.engine.history_reader import Page
from tests.unit.histories import Histories, lines, reader

WHOLE = lines("job_created", "state_started", "worker_event:a", "state_started", "worker_event:b", "job_completed")


def only(*numbers: int) -> Histories:
    """What has these lines of the one history."""
    return Histories({"j": {number: WHOLE[number] for number in numbers}})


def numbers(page: Page) -> list[int]:
    return [number for number, _ in page.lines]


async def test_the_database_is_asked_where_lines_that_are_wanted_have_moved_and_only_there() -> None:
    store, database = only(5, 6), only(1, 2, 3, 4)
    histories = reader(store, database)
    page = await histories.page("j", 0, 6, events=1)
    assert (numbers(page), page.reached, page.whole, database.asked) == ([5, 6], 6, True, [])
    page = await histories.page("j", 0, 6, events=2)
    assert (numbers(page), page.whole) == ([1, 2, 3, 4, 5, 6], True)


async def test_a_database_that_does_not_answer_is_waited_for_a_moment_and_then_not_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history_reader, "PATIENCE_S", 0.01)
    store, database = only(5, 6), only(1, 2, 3, 4)
    database.gate.clear()
    histories = reader(store, database)
    pages = await asyncio.gather(*(histories.page("j", 0, 6) for _ in range(20)))
    assert {(*numbers(page), page.whole) for page in pages} == {(5, 6, False)}
    assert len(database.asked) <= history_reader.ASKED_AT_ONCE
    assert [record.message for record in caplog.records] == [
        "the moved history of job j is left out: the history database did not answer within 0.01 s"
    ]


async def test_lines_that_cannot_be_opened_are_passed_over_and_no_others() -> None:
    store = only(*WHOLE)
    store.broken = (2, 3, 5)
    page = await reader(store).page("j", 0, 6)
    assert (numbers(page), page.reached, page.whole) == ([1, 4, 6], 6, True)


async def test_who_waits_for_the_store_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    store = only(*WHOLE)
    store.failures = 5
    assert numbers(await reader(store).page("j", 0, 6)) == [*WHOLE]
    assert [record.message for record in caplog.records] == ["the history of job j is read later: it is away"]
