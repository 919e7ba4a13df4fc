"""What handlers write in their logs: in order, before the final word, the newest where it is too much."""

from __future__ import annotations

import threading
from dataclasses import replace

import orjson
import pytest

from holon.rxon.v1 import types_pb2
from holon.worker import Log
from holon.worker.log import MOST_WAITING
from tests.unit.worker_runner.bench import TIMING, Bench, Make


async def lines(made: Bench) -> list[types_pb2.LogLine]:
    """All that is written until the final word."""
    written: list[types_pb2.LogLine] = []
    while (update := await made.updates.next()).WhichOneof("update") != "result":
        written += update.logs.lines
    return written


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_all_lines_are_told_in_order_before_the_final_word(bench: Make, is_async: bool, fails: bool) -> None:
    def work(log: Log) -> None:
        log("begun")
        log.debug("one", n=1)
        log.warning("two", level="high", message="own", at={3})
        log.error("three")
        if fails:
            raise RuntimeError

    async def work_async(log: Log) -> None:
        work(log)

    work_async.__name__ = "work"
    # What is written is not told before the end: nothing but that makes it.
    made = bench(work_async if is_async else work, timing=replace(TIMING, log_every=3_600))
    made.offer("work")
    told = await lines(made)
    assert [(types_pb2.LogLevel.Name(one.level), one.text) for one in told] == [
        ("LOG_LEVEL_INFO", "begun"),
        ("LOG_LEVEL_DEBUG", "one"),
        ("LOG_LEVEL_WARNING", "two"),
        ("LOG_LEVEL_ERROR", "three"),
    ]
    fields = [orjson.loads(one.fields.data) if one.HasField("fields") else None for one in told]
    assert fields == [None, {"n": 1}, {"level": "high", "message": "own", "at": "{3}"}, None]
    assert all(one.time.seconds > 1_700_000_000 for one in told)


async def test_lines_are_told_while_the_task_runs_and_its_lease_is_accepted_first(bench: Make) -> None:
    go_on = threading.Event()

    def work(log: Log) -> None:
        log("under way")
        assert go_on.wait(60)

    made = bench(work)
    made.offer("work")
    while not (update := await made.updates.next()).HasField("logs"):
        pass
    assert [one.text for one in update.logs.lines] == ["under way"]
    assert made.updates.all[0].HasField("accepted")
    go_on.set()
    await made.updates.final()


async def test_of_more_than_can_wait_the_newest_are_told_and_how_many_are_not(bench: Make) -> None:
    def work(log: Log) -> None:
        for number in range(MOST_WAITING + 10):
            log(number)

    made = bench(work, timing=replace(TIMING, log_every=3_600))
    made.offer("work", task_id="t2")
    told = [one.text for one in await lines(made)]
    # The first may have been told at once, or some of them.
    before, after = told[:-MOST_WAITING], told[-MOST_WAITING:]
    assert after == [str(number) for number in range(10, MOST_WAITING + 10)]
    assert len(before) in range(1, 11)


async def test_what_is_too_long_is_cut_and_what_is_no_json_or_too_much_is_left_out_and_that_is_said(
    bench: Make,
) -> None:
    def work(log: Log) -> None:
        log("caf\udce9" + "x" * 10_000, text="y" * 10_000)
        log("deep", n=1 << 80)

    made = bench(work, timing=replace(TIMING, log_every=3_600))
    made.offer("work")
    long, deep = await lines(made)
    assert len(long.text) == 8_192
    assert long.text.startswith(r"caf\udce9xx")
    assert "10011 bytes of JSON" in orjson.loads(long.fields.data)["fields_left_out"]
    assert "64-bit" in orjson.loads(deep.fields.data)["fields_left_out"]


async def test_after_its_end_a_handler_that_goes_on_writes_to_nobody(bench: Make) -> None:
    kept: list[Log] = []

    def work(log: Log) -> None:
        kept.append(log)

    made = bench(work, timing=replace(TIMING, log_every=0))
    made.offer("work")
    await made.updates.final()
    kept[0]("too late")
    assert not any(one.HasField("logs") for one in made.updates.all)


async def test_what_is_told_together_is_counted_in_bytes_and_not_in_letters(bench: Make) -> None:
    def work(log: Log) -> None:
        for _ in range(40):
            log("\N{EURO SIGN}" * 2_800)

    made = bench(work, timing=replace(TIMING, log_every=3_600))
    made.offer("work")
    sizes = []
    while (update := await made.updates.next()).WhichOneof("update") != "result":
        sizes.append(update.ByteSize())
    assert len(sizes) > 1
    assert max(sizes) < 150_000
