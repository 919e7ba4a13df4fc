"""Sessions of a worker with a node, over real mTLS: how they open, are lost, resumed, rotated and refused."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import worker_pb2
from holon.security.certificates import KeyPair, issue_worker, open_authority
from holon.wire.address import parse_url
from holon.wire.stream import MOST_MESSAGE_BYTES
from holon.worker import Replaced, Worker
from holon.worker.hearing import Tasks
from holon.worker.leases import Lease
from holon.worker.link import Link
from holon.worker.settings import Credentials
from holon.worker.timing import Timing
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    Gate,
    ScriptedNode,
    Stream,
    is_at_once,
    keep,
    make_certificates,
    serving,
    worker_for,
)
from tests.log_watch import LogWatch


async def test_a_worker_proves_itself_by_its_certificate_and_its_task_ends_with_its_result(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        stream = await node.session()
        assert stream.hello.worker_id == ""
        assert stream.hello.credits == 3
        assert stream.hello.max_message_bytes == MOST_MESSAGE_BYTES
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


async def test_a_lease_that_the_node_dropped_is_stopped_and_nothing_more_is_said_of_it(
    node: ScriptedNode, worker: Worker
) -> None:
    stopped = asyncio.Event()

    @worker.skill
    async def watched() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with serving(worker):
        first = await node.welcomed("first")
        await first.offer("t1", "watched")
        assert (await first.update()).HasField("accepted")
        first.end(grpc.StatusCode.UNAVAILABLE)
        second = await node.welcomed("second")
        await second.wait(stopped)
        await second.offer("t2", "double", {"n": 1})
        assert (await second.update()).task_id == "t2"


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
        assert new.peer != old.peer, "a connection of its own, for the old one may be the trouble"
        assert {one.task_id for one in new.hello.resume.leases} == {"t1", "t2"}
        await new.welcome("new", leases=keep("t1", "t2"))
        await old.wait(old.half_closed)
        old.end()
        again = await new.result()
        assert (again.task_id, again.resent) == ("t2", True)
        gate.open.set()
        assert (await new.result()).task_id == "t1"
        assert gate.runs == 1


async def moving(node: ScriptedNode) -> tuple[Stream, Stream]:
    """A stream on which a task runs, and the one that is to take its place, which has said Hello."""
    old = await node.welcomed("old")
    await old.offer("t1", "endless")
    assert (await old.update()).HasField("accepted")
    await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
    return old, await node.session()


async def test_what_was_given_back_while_a_new_stream_was_opened_is_given_back_on_that_too(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        old, new = await moving(node)
        assert {one.task_id for one in new.hello.resume.leases} == {"t1"}
        await old.stop("t1", "LEASE_LOST")
        while not (await old.update()).HasField("rejected"):
            pass
        await new.welcome("new", leases=keep("t1"))
        update = await new.update()
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t1", "STALE_OFFER", True)


@pytest.mark.parametrize("answered", [True, False])
async def test_what_is_offered_while_a_hello_is_on_its_way_waits_for_its_answer(
    node: ScriptedNode, worker: Worker, gate: Gate, *, answered: bool
) -> None:
    async with serving(worker):
        old, new = await moving(node)
        await old.offer("t2", "held")
        # It is read behind the offer.
        await old.stop("t1", "LEASE_LOST")
        while not (await old.update()).HasField("rejected"):
            pass
        if answered:
            await new.welcome("new")
            await new.offer("t3", "double", {"n": 3})
            assert (await new.result()).task_id == "t3"
            assert gate.runs == 0, "the node has given it to others, for the Hello did not name it"
        else:
            new.end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
            await gate.enter()
            gate.open.set()
            assert (await old.result()).task_id == "t2", "the stream on which it came goes on"


async def test_what_is_stopped_while_it_waits_for_the_answer_to_a_hello_is_given_back_and_never_begun(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    gate.open.set()
    async with serving(worker):
        old = await node.welcomed("old")
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        new = await node.session()
        await old.offer("t1", "held")
        await old.offer("t2", "double", {"n": 2})
        await old.stop("t1")
        update = await old.update()
        assert (update.task_id, update.WhichOneof("update"), is_at_once(update)) == ("t1", "rejected", True)
        new.end(grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert (await old.result()).task_id == "t2"
    assert gate.runs == 0


async def test_who_drains_while_a_hello_is_on_its_way_gives_back_what_waits_for_the_answer(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        await node.session()
        await old.offer("t1", "held")
        await old.offer("t2", "held")
        # It is read behind the offers.
        await old.stop("t2")
        assert (await old.update()).task_id == "t2"
        worker.drain()
        update = await old.update()
        assert (update.task_id, update.rejected.reason, is_at_once(update)) == ("t1", "DRAINING", True)


async def test_no_more_offers_wait_for_the_answer_to_a_hello_than_there_may_be(
    node: ScriptedNode, worker: Worker
) -> None:
    async with serving(worker):
        old, new = await moving(node)
        most = new.hello.credits
        for n in range(most + 1):
            await old.offer(f"w{n}", "double", {"n": n})
        assert (await old.result()).task_id == f"w{most}"


async def test_what_comes_late_on_a_stream_that_was_left_begins_and_stops_nothing(
    node: ScriptedNode, worker: Worker, gate: Gate
) -> None:
    async with serving(worker):
        old = await node.welcomed("old")
        await old.offer("t1", "endless")
        await old.offer("t2", "double", {"n": 2})
        assert (await old.result()).task_id == "t2"
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
        new = await node.session()
        await new.welcome("new", leases=keep("t1"))
        await old.wait(old.half_closed)
        await old.offer("t3", "held")
        await old.stop("t1", "LEASE_LOST")
        await old.ack("t2")
        old.end()
        await old.wait(old.gone)
        assert (await new.result()).task_id == "t2"
        await new.stop("t1")
        update = await new.result()
        assert (update.task_id, update.result.status) == ("t1", "cancelled")
        assert gate.runs == 0


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


class Counting(Timing):
    """Waits as little as can be, and notes after how many losses in a row."""

    __slots__ = ()
    counted: ClassVar[list[int]] = []

    def pause(self, losses: int) -> float:
        self.counted.append(losses)
        return 0.0


async def test_what_was_lost_before_a_session_that_lasted_does_not_slow_down_who_is_sent_away(
    certificates: Certificates, node: ScriptedNode
) -> None:
    Counting.counted.clear()
    worker = worker_for(certificates, node, timing=Counting(settled=0.0))
    worker.skill(_nothing)
    async with serving(worker):
        for _ in range(3):
            (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "no room")
        await (await node.welcomed()).send(go_away=worker_pb2.GoAway(reason="DRAINING"))
        (await node.session()).end(grpc.StatusCode.UNAVAILABLE, "no room")
        await node.session()
    assert Counting.counted == [1, 2, 3, 1]


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


@pytest.mark.parametrize("first", ["refused", "replaced"])
async def test_a_worker_that_is_replaced_while_it_moves_stops_for_good(
    certificates: Certificates, node: ScriptedNode, first: str
) -> None:
    worker = worker_for(certificates, node, timing=replace(FAST, reconnect_first=GUARD, reconnect_longest=GUARD))
    worker.skill(_nothing)
    async with serving(worker) as task:
        old = await node.welcomed()
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE"))
        new = await node.session()
        if first == "refused":
            with LogWatch("trying again") as watch:
                new.end(grpc.StatusCode.UNAVAILABLE, "no room")
                await asyncio.wait_for(watch.seen.wait(), GUARD)
        await old.send(go_away=worker_pb2.GoAway(reason="REPLACED", message="host b is newer"))
        old.end(grpc.StatusCode.ABORTED, "SESSION_REPLACED: host b is newer")
        await old.wait(old.gone)
        new.end(grpc.StatusCode.UNAVAILABLE, "no room")
        with pytest.raises(Replaced, match="host b is newer"):
            await asyncio.wait_for(task, GUARD)
        assert node.waiting == 0


async def test_a_worker_that_has_come_after_who_replaced_it_goes_on(node: ScriptedNode, worker: Worker) -> None:
    async with serving(worker):
        old = await node.welcomed()
        await old.send(go_away=worker_pb2.GoAway(reason="ROTATE"))
        new = await node.session()
        await old.send(go_away=worker_pb2.GoAway(reason="REPLACED"))
        old.end(grpc.StatusCode.ABORTED, "SESSION_REPLACED")
        await old.wait(old.gone)
        await new.welcome("new")
        await new.offer("t1", "double", {"n": 21})
        assert (await new.result()).result.data.data == b'{"n":42}'


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


@pytest.mark.parametrize("code", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED])
async def test_who_has_no_place_where_it_comes_is_refused_but_who_loses_its_session_is_not(
    node: ScriptedNode, worker: Worker, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    async with serving(worker):
        (await node.session()).end(code, "no place")
        (await node.welcomed()).end(code, "no time")
        await node.welcomed()
    levels = {text: one.levelno for one in caplog.records for text in ("no place", "no time") if text in one.message}
    assert levels == {"no place": logging.ERROR, "no time": logging.WARNING}


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


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
async def test_a_file_that_is_empty_for_a_while_is_told_and_tried_again(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path, which: str
) -> None:
    own = own_files(certificates, tmp_path)
    worker = worker_for(own, node)
    worker.skill(_nothing)
    path = {"ca": own.ca, "certificate": own.worker.certificate, "key": own.worker.key}[which]
    whole = path.read_bytes()
    with LogWatch(f"{path} is empty") as watch:
        async with serving(worker):
            stream = await node.welcomed()
            path.write_bytes(b"")
            stream.end(grpc.StatusCode.UNAVAILABLE)
            await asyncio.wait_for(watch.seen.wait(), GUARD)
            path.write_bytes(whole)
            await node.welcomed("s2")


async def test_a_worker_moves_to_a_stream_with_its_new_certificate_before_it_leaves_the_old_one(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path
) -> None:
    own = own_files(certificates, tmp_path)
    worker = worker_for(own, node)
    worker.skill(_nothing)
    async with serving(worker):
        old = await node.welcomed("old", heartbeat_interval=Duration(nanos=50_000_000))
        renewed = renew(own, certificates, tmp_path)
        new = await node.session()
        assert (old.certificate != renewed, new.certificate == renewed) == (True, True)
        assert not old.half_closed.is_set()
        await new.welcome("new")
        await old.wait(old.half_closed)


async def test_a_worker_that_is_refused_for_its_old_certificate_comes_back_with_its_new_one_at_once(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path
) -> None:
    own = own_files(certificates, tmp_path)
    worker = worker_for(own, node, timing=replace(FAST, reconnect_refused=2 * GUARD, refused_first=2 * GUARD))
    worker.skill(_nothing)
    async with serving(worker):
        stream = await node.welcomed()
        await stream.message("heartbeat")
        renewed = renew(own, certificates, tmp_path)
        stream.end(grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
        assert (await node.session()).certificate == renewed


async def test_where_nobody_listens_the_log_says_that_and_nothing_of_certificates(certificates: Certificates) -> None:
    async with ScriptedNode(certificates) as gone:
        pass
    worker = worker_for(certificates, gone)
    worker.skill(_nothing)
    with LogWatch("(nothing listens there") as watch:
        async with serving(worker):
            await asyncio.wait_for(watch.seen.wait(), GUARD)


async def test_who_has_no_certificate_for_a_door_that_asks_for_one_is_told_so(
    node: ScriptedNode, certificates: Certificates
) -> None:
    worker = worker_for(certificates, node, worker_id="w1", cert_path="", key_path="")
    worker.skill(_nothing)
    with LogWatch("asks for a certificate, and TLS_CERT_PATH is not set") as watch:
        async with serving(worker):
            await asyncio.wait_for(watch.seen.wait(), GUARD)


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


def own_files(certificates: Certificates, folder: Path) -> Certificates:
    """The same, in files that a test may write to."""
    ca, pair = certificates.ca, certificates.worker
    copies = [Path(shutil.copy(path, folder)) for path in (ca, pair.certificate, pair.key)]
    return Certificates(copies[0], certificates.server, KeyPair(*copies[1:]))


def renew(own: Certificates, certificates: Certificates, folder: Path) -> bytes:
    """Write a new certificate and its key over those of a worker; the certificate."""
    pair = issue_worker(open_authority(certificates.ca.parent), folder / "new", "w1")
    shutil.copy(pair.key, own.worker.key)
    shutil.copy(pair.certificate, own.worker.certificate)
    return pair.certificate.read_bytes()


def _nothing() -> None:
    """A skill that does nothing."""


class Slow:
    """Who does the work, and takes the node's terms by a call that lets a cancel wait for its end."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.offers: list[str] = []

    async def welcomed(self, _: worker_pb2.Welcome) -> None:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            task.cancel()

    def alive(self) -> None: ...

    def offered(self, lease: Lease, _: worker_pb2.TaskOffer) -> None:
        self.offers.append(lease.task_id)


def link_to(node: ScriptedNode, certificates: Certificates) -> Link:
    own = certificates.worker
    credentials = Credentials("", certificates.ca, own.certificate, own.key)
    return Link([parse_url(node.url, 0)], credentials, worker_pb2.Hello(catalog=worker_pb2.Catalog()), 1, FAST)


async def test_a_link_that_is_cancelled_while_it_takes_the_nodes_terms_ends(
    certificates: Certificates, node: ScriptedNode
) -> None:
    link, tasks = link_to(node, certificates), Slow()
    running = asyncio.create_task(link.run(cast("Tasks", tasks)))
    stream = await node.session()
    await stream.welcome()
    await tasks.asked.wait()
    running.cancel()
    async with asyncio.timeout(GUARD):
        await asyncio.wait((running,))
    assert running.cancelled()
    assert not link.linked


async def test_a_link_that_is_cancelled_while_it_takes_the_nodes_terms_begins_nothing_that_was_offered_meanwhile(
    certificates: Certificates, node: ScriptedNode
) -> None:
    link, tasks = link_to(node, certificates), Slow()
    tasks.answer.set()
    running = asyncio.create_task(link.run(cast("Tasks", tasks)))
    old = await node.welcomed("old")
    await link.ready()
    tasks.answer.clear()
    tasks.asked.clear()
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    link.hearing.tree = lambda _: told.set_result(None)
    await old.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=5)))
    await (await node.session()).welcome("new")
    async with asyncio.timeout(GUARD):
        await tasks.asked.wait()
        await old.offer("t1", "double")
        # It is read behind the offer.
        await old.send(tree_request=worker_pb2.TreeRequest())
        await told
        running.cancel()
        await asyncio.wait((running,))
    assert running.cancelled()
    assert tasks.offers == []


async def test_a_link_that_drains_and_is_cancelled_while_a_hello_is_on_its_way_loses_no_exception(
    certificates: Certificates, node: ScriptedNode
) -> None:
    lost: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context["message"]))
    link = link_to(node, certificates)
    running = asyncio.create_task(link.run(cast("Tasks", Slow())))
    await node.session()
    link.drain("over")
    # The link hears of it, and ends who waits for the Welcome; that one's stream ends a while later.
    for _ in range(3):
        await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(GUARD):
        await asyncio.wait((running, *(one for one in asyncio.all_tasks() if one.get_name() == "session-greeting")))
    del running
    gc.collect()
    assert lost == []
