"""The worker SDK against a scripted node over real mTLS: its promises through losses, stops, limits and farewells."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import worker_pb2
from holon.worker import Cancelled, Progress, Replaced, Result, Worker
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    ScriptedNode,
    keep,
    make_certificates,
    serving,
    worker_for,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def node(certificates: Certificates) -> AsyncIterator[ScriptedNode]:
    async with ScriptedNode(certificates) as node:
        yield node


class Gate:
    """What holds a handler until the test lets it go on; counts how often it was entered."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.open = threading.Event()
        self.runs = 0
        self._loop = asyncio.get_running_loop()

    def pass_through(self) -> None:
        self.runs += 1
        self._loop.call_soon_threadsafe(self.entered.release)
        assert self.open.wait(GUARD)

    async def enter(self) -> None:
        async with asyncio.timeout(GUARD):
            await self.entered.acquire()


class LogWatch(logging.Handler):
    """Sets `seen` once the worker logs a line with this text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen = asyncio.Event()
        self._text = text
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self._loop.call_soon_threadsafe(self.seen.set)

    def __enter__(self) -> Self:
        logging.getLogger("holon.worker").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("holon.worker").removeHandler(self)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def worker(certificates: Certificates, node: ScriptedNode, gate: Gate) -> Worker:
    worker = worker_for(certificates, node, max_concurrent=3)

    @worker.skill
    def double(n: int) -> dict[str, int]:
        return {"n": 2 * n}

    @worker.skill
    def held(n: int = 0) -> dict[str, int]:
        gate.pass_through()
        return {"n": n}

    @worker.skill
    async def endless() -> None:
        await asyncio.Event().wait()

    @worker.skill
    def big(size: int) -> dict[str, str]:
        return {"text": "x" * size}

    return worker


async def test_a_worker_proves_itself_by_its_certificate_and_its_task_ends_with_its_result(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.session()
        assert stream.hello.worker_id == ""
        assert stream.hello.credits == 3
        assert not stream.hello.HasField("resume")
        assert [one.skill for one in stream.hello.catalog.offerings] == ["double", "held", "endless", "big"]
        await stream.welcome()
        await stream.offer("t1", "double", {"n": 21})
        update = await stream.update()
        assert (update.task_id, update.lease_id, update.resent) == ("t1", "t1-lease", False)
        assert (update.result.status, update.result.data.data) == ("success", b'{"n":42}')


async def test_a_token_goes_with_every_session(certificates: Certificates, node: ScriptedNode) -> None:
    worker = worker_for(certificates, node, token="secret", worker_id="w7")
    worker.skill(_nothing)
    async with serving(worker):
        stream = await node.session()
        assert stream.metadata["x-worker-token"] == "secret"
        assert stream.hello.worker_id == "w7"


async def test_a_task_that_takes_a_while_is_accepted_and_then_ended(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t1", "held", {"n": 1})
        assert (await stream.update()).HasField("accepted")
        gate.open.set()
        assert (await stream.update()).result.status == "success"


async def test_a_skill_it_lacks_and_a_task_beyond_its_slots_are_rejected(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t0", "flight")
        assert (await stream.update()).rejected.reason == "UNKNOWN_SKILL"
        for number in range(1, 5):
            await stream.offer(f"t{number}", "held")
        while (update := await stream.update()).HasField("accepted"):
            pass
        assert (update.task_id, update.rejected.reason) == ("t4", "BUSY")


async def test_progress_comes_after_acceptance_and_ends_with_the_newest(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    @worker.skill
    def count(progress: Progress) -> None:
        for number in range(1000):
            progress(number / 10, f"{number} done")
        gate.pass_through()

    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t1", "count")
        seen = []
        while not seen or seen[-1].message != "999 done":
            update = await stream.update()
            if update.HasField("progress"):
                seen.append(update.progress)
            else:
                assert update.HasField("accepted")
                assert not seen
        assert seen[-1].percent == pytest.approx(99.9)
        assert len(seen) < 100


async def test_after_a_loss_running_work_goes_on_and_unacknowledged_results_are_sent_again(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        first = await node.welcomed("first")
        await first.offer("t1", "double", {"n": 1})
        await first.offer("t2", "double", {"n": 2})
        await first.offer("t3", "held", {"n": 3})
        results = [await first.result(), await first.result()]
        assert not any(update.resent for update in results)
        await first.ack("t1")
        await gate.enter()
        await first.offer("t4", "flight")
        while not (await first.update()).HasField("rejected"):
            pass
        first.end(grpc.StatusCode.UNAVAILABLE, "a crash")

        second = await node.session()
        assert second.hello.instance_id == first.hello.instance_id
        assert second.hello.resume.session_id == "first"
        assert {one.task_id for one in second.hello.resume.leases} == {"t2", "t3"}
        await second.welcome("second", leases=keep("t3"))
        again = await second.result()
        assert (again.task_id, again.resent, again.result.data.data) == ("t2", True, b'{"n":4}')
        gate.open.set()
        later = await second.result()
        assert (later.task_id, later.resent) == ("t3", False)
        assert gate.runs == 1


async def test_an_end_with_ok_that_the_worker_did_not_begin_is_a_loss(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        (await node.welcomed("first")).end()
        assert (await node.session()).hello.resume.session_id == "first"


async def test_a_lease_that_the_node_dropped_is_stopped_and_still_gets_its_final_word(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        first = await node.welcomed("first")
        await first.offer("t1", "endless")
        assert (await first.update()).HasField("accepted")
        first.end(grpc.StatusCode.UNAVAILABLE)
        second = await node.welcomed("second")
        assert (await second.result()).result.status == "cancelled"


async def test_a_silent_node_is_left_and_found_again(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        first = await node.welcomed("first", silence_timeout=Duration(nanos=200_000_000))
        await first.wait(first.half_closed)
        assert (await node.session()).hello.resume.session_id == "first"


async def test_a_node_that_does_not_welcome_is_tried_again_over_a_fresh_connection(
    certificates: Certificates, node: ScriptedNode
) -> None:
    timing = FAST.__class__(welcome=0.2, reconnect_first=0.02)
    worker = worker_for(certificates, node, timing=timing)
    worker.skill(_nothing)
    async with serving(worker):
        first, second = await node.session(), await node.session()
        assert first.peer != second.peer


async def test_heartbeats_keep_the_pace_that_the_node_sets(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        stream = await node.welcomed(heartbeat_interval=Duration(nanos=60_000_000))
        began = time.monotonic()
        numbers = [(await stream.message("heartbeat")).heartbeat.sequence for _ in range(5)]
        assert numbers == [1, 2, 3, 4, 5]
        assert time.monotonic() - began >= 4 * 0.9 * 0.06
        await stream.send(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=5, next_interval=Duration(seconds=3600)))
        await stream.message("heartbeat")


async def test_a_handler_that_burns_the_processor_does_not_stop_the_heartbeats(
    node: ScriptedNode, worker: Worker
) -> None:
    go_on = threading.Event()

    @worker.skill
    def burn() -> None:
        while not go_on.is_set():
            sum(range(1000))

    async with serving(worker):
        stream = await node.welcomed(heartbeat_interval=Duration(nanos=50_000_000))
        await stream.offer("t1", "burn")
        assert (await stream.update()).HasField("accepted")
        first = (await stream.message("heartbeat")).heartbeat.sequence
        while (await stream.message("heartbeat")).heartbeat.sequence < first + 4:
            pass
        go_on.set()
        assert (await stream.result()).result.status == "success"


async def test_an_async_handler_that_blocks_its_loop_does_not_stop_the_heartbeats(
    node: ScriptedNode, certificates: Certificates
) -> None:
    worker = worker_for(certificates, node)
    go_on, began = threading.Event(), threading.Event()

    @worker.skill
    async def block() -> None:
        began.set()
        go_on.wait(GUARD)

    # On a loop of its own, for the scripted node lives on this one.
    thread = threading.Thread(target=_serve_in_thread, args=(worker,))
    thread.start()
    try:
        stream = await node.welcomed(heartbeat_interval=Duration(nanos=50_000_000))
        await stream.offer("t1", "block")
        assert (await stream.update()).HasField("accepted")
        assert began.is_set()
        first = (await stream.message("heartbeat")).heartbeat.sequence
        while (await stream.message("heartbeat")).heartbeat.sequence < first + 4:
            pass
        go_on.set()
        assert (await stream.result()).result.status == "success"
        await stream.ack("t1")
        worker.drain()
        await stream.wait(stream.half_closed)
        stream.end()
    finally:
        go_on.set()
        worker.drain()
        await asyncio.to_thread(thread.join)


async def test_a_stop_cancels_an_async_handler_and_one_for_an_unknown_lease_is_ignored(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.stop("nothing")
        await stream.offer("t1", "endless")
        await stream.stop("t1")
        update = await stream.result()
        assert (update.task_id, update.result.status) == ("t1", "cancelled")
        await stream.stop("t1")
        await stream.offer("t2", "double", {"n": 1})
        assert (await stream.update()).task_id == "t2"


async def test_a_stop_before_the_handler_began_ends_the_task_without_it(node: ScriptedNode, worker: Worker) -> None:
    ran = []

    @worker.skill
    async def note() -> None:
        ran.append(True)
        await asyncio.Event().wait()

    async with serving(worker):
        stream = await node.welcomed()
        offer = worker_pb2.TaskOffer(task_id="t1", lease_id="t1-lease", skill="note", time_left=Duration())
        await stream.send(task_offers=worker_pb2.TaskOffers(offers=[offer]))
        update = await stream.result()
        assert update.result.error.code == "TIMEOUT_ERROR"


async def test_within_its_grace_a_handler_still_has_the_word(node: ScriptedNode, worker: Worker) -> None:
    @worker.skill
    async def tidy(cancelled: Cancelled) -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
        return Result("cancelled", {"why": cancelled.reason})

    @worker.skill
    def tidy_thread(cancelled: Cancelled) -> Result:
        assert cancelled.sleep(GUARD)
        return Result("cancelled", {"why": cancelled.reason})

    async with serving(worker):
        stream = await node.welcomed()
        for task, skill in (("t1", "tidy"), ("t2", "tidy_thread")):
            await stream.offer(task, skill)
            assert (await stream.update()).HasField("accepted")
            await stream.stop(task, grace=GUARD)
            update = await stream.result()
            assert (update.result.status, update.result.data.data) == ("cancelled", b'{"why":"CANCELLED"}')


async def test_a_handler_that_outlives_its_stop_keeps_its_slot_and_the_credits_say_so(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.message("heartbeat")
        await stream.offer("t1", "held")
        await gate.enter()
        await stream.stop("t1")
        assert (await stream.result()).result.status == "cancelled"
        assert (await stream.message("heartbeat")).heartbeat.credits == 2
        assert stream.order[-2:] == ["heartbeat", "task_updates"]
        gate.open.set()
        assert (await stream.message("heartbeat")).heartbeat.credits == 3
        await stream.offer("t2", "double", {"n": 1})
        assert (await stream.update()).task_id == "t2"


@pytest.mark.parametrize("skill", ["endless", "held"])
async def test_a_task_whose_time_is_over_fails_with_a_timeout(node: ScriptedNode, worker: Worker, skill: str) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        await stream.offer("t1", skill, time_left=Duration(nanos=50_000_000))
        result = (await stream.result()).result
        assert (result.status, result.error.code) == ("failure", "TIMEOUT_ERROR")


async def test_a_node_that_rotates_gets_the_new_stream_before_the_old_one_is_closed(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.offer("t1", "held", {"n": 1})
        await gate.enter()
        await old.offer("t2", "double", {"n": 2})
        assert (await old.result()).task_id == "t2"
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        new = await node.session()
        assert not old.half_closed.is_set()
        assert {one.task_id for one in new.hello.resume.leases} == {"t1", "t2"}
        await new.welcome("new", leases=keep("t1", "t2"))
        await old.wait(old.half_closed)
        old.end()
        again = await new.result()
        assert (again.task_id, again.resent) == ("t2", True)
        gate.open.set()
        assert (await new.result()).task_id == "t1"
        assert gate.runs == 1


async def test_while_no_other_stream_is_to_be_had_the_old_one_still_takes_results(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.offer("t1", "held")
        await gate.enter()
        await old.send(go_away=worker_pb2.GoAway(reason="DRAINING", time_left=Duration(seconds=5)))
        (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        gate.open.set()
        assert (await old.result()).task_id == "t1"


async def test_the_address_that_a_leaving_node_names_is_tried_first(
    certificates: Certificates, node: ScriptedNode, worker: Worker
) -> None:
    async with ScriptedNode(certificates) as other, serving(worker):
        stream = await node.welcomed()
        urls = ["http://nonsense", "grpc://127.0.0.1:1", other.url]
        await stream.send(go_away=worker_pb2.GoAway(reason="DRAINING", try_urls=urls))
        assert (await other.session()).hello.resume.session_id == "s1"


async def test_a_replaced_worker_stops_for_good(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker) as task:
        stream = await node.welcomed()
        await stream.send(go_away=worker_pb2.GoAway(reason="REPLACED", message="host b is newer"))
        with pytest.raises(Replaced, match="host b is newer"):
            await asyncio.wait_for(task, GUARD)
        assert node.waiting == 0


async def test_a_stream_aborted_as_replaced_is_as_final(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker) as task:
        (await node.welcomed()).end(grpc.StatusCode.ABORTED, "SESSION_REPLACED: a newer process")
        with pytest.raises(Replaced):
            await asyncio.wait_for(task, GUARD)
        assert node.waiting == 0


async def test_a_drain_finishes_what_runs_takes_nothing_new_and_ends_when_all_is_acknowledged(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker) as task:
        stream = await node.welcomed()
        await stream.offer("t1", "held")
        await gate.enter()
        worker.drain("shift is over")
        assert (await stream.message("drain")).drain.reason == "shift is over"
        await stream.offer("t2", "double", {"n": 1})
        while (update := await stream.update()).HasField("accepted"):
            pass
        assert (update.task_id, update.rejected.reason) == ("t2", "DRAINING")
        gate.open.set()
        assert (await stream.result()).task_id == "t1"
        assert not stream.half_closed.is_set()
        await stream.ack("t1")
        await stream.wait(stream.half_closed)
        assert not task.done()
        stream.end()
        await asyncio.wait_for(task, GUARD)


async def test_a_drain_hands_back_what_does_not_end_within_the_grace(
    certificates: Certificates, node: ScriptedNode
) -> None:
    worker = worker_for(certificates, node, drain_grace=0.05)
    stopped = asyncio.Event()

    @worker.skill
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with serving(worker) as task:
        stream = await node.welcomed()
        await stream.offer("t1", "endless")
        assert (await stream.update()).HasField("accepted")
        worker.drain()
        update = await stream.update()
        assert (update.task_id, update.rejected.reason) == ("t1", "DRAINING")
        await stream.wait(stopped)
        await stream.wait(stream.half_closed)
        stream.end()
        await asyncio.wait_for(task, GUARD)


async def test_a_drain_during_an_outage_delivers_its_results_before_it_ends(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker) as task:
        first = await node.welcomed("first")
        await first.offer("t1", "held")
        await gate.enter()
        first.end(grpc.StatusCode.UNAVAILABLE)
        second = await node.session()
        worker.drain("leaving")
        gate.open.set()
        await second.welcome("second", leases=keep("t1"))
        assert (await second.message("drain")).drain.reason == "leaving"
        assert (await second.result()).task_id == "t1"
        await second.ack("t1")
        await second.wait(second.half_closed)
        second.end()
        await asyncio.wait_for(task, GUARD)


async def test_a_worker_that_owes_nothing_leaves_without_a_node(certificates: Certificates) -> None:
    worker = Worker("grpcs://127.0.0.1:1", worker_id="w1", token="t", ca_path=certificates.ca, timing=FAST)
    worker.skill(_nothing)
    async with serving(worker) as task:
        await asyncio.sleep(0)
        worker.drain()
        await asyncio.wait_for(task, GUARD)


async def test_a_result_that_the_node_cannot_take_now_is_sent_again_and_the_others_are_forgotten(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.welcomed("first")
        for number in range(1, 5):
            await stream.offer(f"t{number}", "double", {"n": number})
            assert (await stream.result()).task_id == f"t{number}"
        await stream.ack("t1", verdict=worker_pb2.VERDICT_RETRY, retry_after=0.05)
        again = await stream.result()
        assert (again.task_id, again.resent, again.result.data.data) == ("t1", True, b'{"n":2}')
        await stream.ack("t2", verdict=worker_pb2.VERDICT_SUPERSEDED)
        await stream.ack("t3", verdict=worker_pb2.VERDICT_INVALID)
        await stream.ack("t4", verdict=99)
        await stream.offer("t5", "double", {"n": 5})
        assert (await stream.result()).task_id == "t5"
        stream.end(grpc.StatusCode.UNAVAILABLE)
        assert {one.task_id for one in (await node.session()).hello.resume.leases} == {"t1", "t5"}


async def test_a_result_above_the_nodes_payload_limit_becomes_a_failure_that_says_so(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.welcomed(max_payload_bytes=1000)
        await stream.offer("t1", "big", {"size": 2000})
        result = (await stream.result()).result
        assert (result.status, result.error.code) == ("failure", "LIMIT_EXCEEDED")
        assert "1000" in result.error.message


async def test_a_result_above_the_nodes_message_limit_is_not_sent(
    certificates: Certificates, worker: Worker, node: ScriptedNode
) -> None:
    async with serving(worker):
        stream = await node.welcomed(max_message_bytes=10_000, max_payload_bytes=1_000_000)
        await stream.offer("t1", "big", {"size": 20_000})
        assert (await stream.result()).result.error.code == "LIMIT_EXCEEDED"


async def test_a_result_that_broke_the_stream_is_replaced_and_the_others_stay(
    certificates: Certificates,
) -> None:
    async with ScriptedNode(certificates, max_message_bytes=100_000) as node:
        worker = worker_for(certificates, node)

        @worker.skill
        def big(size: int) -> dict[str, str]:
            return {"text": "x" * size}

        async with serving(worker):
            first = await node.welcomed("first")
            await first.offer("small", "big", {"size": 10})
            assert (await first.result()).task_id == "small"
            await first.offer("large", "big", {"size": 200_000})
            second = await node.welcomed("second", leases=keep("small", "large"))
            results = {update.task_id: update.result for update in (await second.result(), await second.result())}
            assert results["small"].status == "success"
            assert results["large"].error.code == "LIMIT_EXCEEDED"


async def test_what_it_does_not_know_is_ignored_and_logged_once(
    node: ScriptedNode, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(worker):
        stream = await node.welcomed()
        # Member 2000 of the frame, a message of two bytes.
        await stream.send_bytes(b"\x82\x7d\x02ab")
        await stream.send_bytes(b"\x82\x7d\x02ab")
        await stream.send(command=worker_pb2.Command(command_id="c1", name="dance"))
        await stream.send(session_error=worker_pb2.SessionError(frame=7))
        await stream.offer("t1", "double", {"n": 1})
        assert (await stream.result()).task_id == "t1"
    assert sum("a newer kind" in record.message for record in caplog.records) == 1
    assert sum("(command)" in record.message for record in caplog.records) == 1


async def test_a_refusal_is_an_error_in_the_log_with_a_hint_and_is_tried_again(
    node: ScriptedNode, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(worker):
        (await node.session()).end(grpc.StatusCode.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
        await node.welcomed()
    refusals = [one for one in caplog.records if one.levelno == logging.ERROR and "WORKER_ID" in one.message]
    assert len(refusals) == 1
    assert "check that WORKER_ID" in refusals[0].message


async def test_a_node_of_another_authority_is_not_trusted_and_the_log_says_what_to_check(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path)
    worker = worker_for(Certificates(other.ca, certificates.server, certificates.worker), node)
    worker.skill(_nothing)
    with LogWatch("TLS_CA_PATH") as watch:
        async with serving(worker):
            await asyncio.wait_for(watch.seen.wait(), GUARD)
    assert node.waiting == 0


async def test_the_next_address_is_tried_when_the_first_does_not_answer(
    certificates: Certificates, node: ScriptedNode
) -> None:
    async with ScriptedNode(certificates) as gone:
        pass
    worker = worker_for(certificates, gone, node)
    worker.skill(_nothing)
    async with serving(worker):
        assert (await node.session()).hello.instance_id


async def test_a_node_that_asks_for_the_catalog_gets_it_again(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        stream = await node.welcomed(catalog_needed=True)
        assert len((await stream.message("catalog")).catalog.offerings) == 4


async def test_left_as_a_context_a_worker_drains(node: ScriptedNode, worker: Worker) -> None:
    async def play() -> None:
        stream = await node.welcomed()
        await stream.message("drain")
        await stream.wait(stream.half_closed)
        stream.end()

    async with asyncio.TaskGroup() as group:
        group.create_task(play())
        async with worker:
            await asyncio.wait_for(worker.ready(), GUARD)


def _nothing() -> None:
    """A skill that does nothing."""


def _serve_in_thread(worker: Worker) -> None:
    asyncio.run(worker.serve())
