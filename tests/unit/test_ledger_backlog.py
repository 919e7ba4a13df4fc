"""The ledger's backlog, where many of its tasks are taken at a time."""

from __future__ import annotations

from typing import Any

from holon.core.backlog import LOOK_PAST
from holon.core.rows import HARD, JobRow, TaskRow, TaskState
from holon.core.tables import Tables
from holon.domain.matching import Need
from holon.domain.task import RetryPolicy
from holon.ports import NewTask, StoreSettings

NEED = Need("echo")
OTHER = Need("other")


def tables_with(*needs: Need) -> tuple[Tables, list[TaskRow]]:
    """Tables with a queued task for each need."""
    tables = Tables(StoreSettings(node_id="n"))
    tables.add_job(JobRow(tables.number("0-a"), "0-a", "ann", "bp", "running", b"", 0, 0))
    rows = []
    for index, need in enumerate(needs):
        new = NewTask(f"0-a-0-{index}", index, need, b"{}", 0.0, 0, None, None, RetryPolicy())
        rows.append(TaskRow.made(tables.number("0-a"), "0-a", 0, new, True, 0))
        tables.add_task(rows[-1])
    tables.backlog.enqueue(*rows)
    return tables, rows


def taken(tables: Tables, most: int, *keys: str) -> list[list[int]]:
    """The places of the tasks that are taken by calls one after the other, until there are none."""
    calls = []
    while rows := tables.backlog.take(keys or (NEED.key,), "w", frozenset(), 0, most):
        for row in rows:
            row.state = TaskState.OFFERED
        calls.append([row.index for row in rows])
    return calls


def test_as_many_are_taken_as_there_is_room_for() -> None:
    tables, _ = tables_with(*[NEED] * 5)
    assert taken(tables, 2) == [[0, 1], [2, 3], [4]]
    assert not tables.backlog.waiting


def test_one_that_came_back_is_taken_once_though_its_old_entry_is_left() -> None:
    tables, rows = tables_with(*[NEED] * 3)
    tables.backlog.dequeued(rows[1])
    tables.backlog.enqueue(rows[1])
    assert tables.backlog.entries == 4
    assert taken(tables, 5) == [[0, 1, 2]]
    assert not tables.backlog.waiting


def test_one_that_avoids_the_worker_is_passed_and_stays() -> None:
    tables, rows = tables_with(*[NEED] * 4)
    rows[1].avoid = (("w", 1, HARD),)
    assert taken(tables, 5) == [[0], [2], [3]]
    assert tables.backlog.waiting == {NEED.key: 1}


def test_one_that_came_back_again_and_again_is_passed_once() -> None:
    tables, rows = tables_with(*[NEED] * 2)
    rows[0].avoid = (("w", 1, HARD),)
    for _ in range(2 * LOOK_PAST):
        tables.backlog.dequeued(rows[0])
        tables.backlog.enqueue(rows[0])
    assert taken(tables, 5) == [[1]]
    assert tables.backlog.waiting == {NEED.key: 1}


def test_of_several_queues_the_first_to_come_goes_first() -> None:
    tables, _ = tables_with(NEED, OTHER, NEED, OTHER)
    assert tables.backlog.waiting == {NEED.key: 2, OTHER.key: 2}
    assert taken(tables, 5, OTHER.key, NEED.key) == [[0], [1], [2], [3]]


def test_a_queue_is_read_in_its_order_a_page_after_another() -> None:
    tables, rows = tables_with(*[NEED] * 7)
    # One that came back, and has left its old entry behind; and one that waits elsewhere.
    tables.backlog.dequeued(rows[4])
    tables.backlog.enqueue(rows[4])
    tables.backlog.dequeued(rows[1])
    rows[1].key = OTHER.key
    seen: list[TaskRow] = []
    while page := tables.backlog.page(NEED.key, seen[-1] if seen else None, 2):
        seen += page
    assert [row.index for row in seen] == [0, 2, 3, 4, 5, 6]
    assert tables.backlog.page(OTHER.key, None, 2) == []


def test_a_queue_is_gone_through_once_while_all_that_is_seen_of_it_moves_to_another() -> None:
    count = 2_000
    tables, rows = tables_with(*[NEED] * count)
    looked_at = 0

    class Counted(dict[str, TaskRow]):
        def get(self, key: str, default: Any = None) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().get(key, default)

    backlog = tables.backlog
    backlog._tasks = Counted(tables.tasks)
    seen, last = 0, None
    while page := backlog.page(NEED.key, last, 50):
        for row in page:
            backlog.dequeued(row)
            row.need, row.key = OTHER, OTHER.key
            backlog.enqueue(row)
        seen, last = seen + len(page), page[-1]
    assert (seen, backlog.waiting) == (len(rows), {OTHER.key: count})
    assert looked_at < 4 * count
