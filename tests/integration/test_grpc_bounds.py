"""What the gRPC doors bear of a connection, whoever it is of: each bound, at a real door, by the byte where need be."""

from __future__ import annotations

import asyncio
import resource
import struct
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import grpc
import pytest

from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.transports.grpc.server import options
from holon.transports.grpc.settings import Bounds, DoorSettings, WorkerDoorSettings
from tests.integration import raw_http2
from tests.integration.grpc_node import (
    CLIENT,
    ENDED,
    GUARD,
    JOBS,
    SESSION,
    Node,
    Wire,
    a_node,
    hello,
    offering,
    reason_of,
    result,
    updates,
    worker_files,
)
from tests.integration.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    Connection,
)

DOORS = ["worker", "client"]
HEALTH = "/grpc.health.v1.Health/"
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6


def port_of(node: Node, door: str) -> int:
    return node.workers.port if door == "worker" else node.clients.port


def connection(node: Node, door: str, window: int = 65_535) -> AbstractAsyncContextManager[Connection]:
    return raw_http2.connection(node, "w1" if door == "worker" else None, window)


async def ends(one: Connection) -> None:
    """Wait until the other side ends the connection."""
    async with asyncio.timeout(GUARD):
        try:
            while True:
                await one.frame()
        except (EOFError, ConnectionError):
            pass


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("secure", [True, False])
async def test_who_does_not_shake_hands_is_closed(door: str, secure: bool) -> None:
    async with a_node(secure=secure, bounds=Bounds(handshake=0.2)) as node:
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01" if secure else b"PRI * HTT"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(node, door))
            writer.write(sent)
            try:
                # The settings of HTTP/2, at most.
                await asyncio.wait_for(reader.read(), GUARD)
            except ConnectionError:
                pass
            writer.close()


def test_who_looks_at_its_sockets_every_five_seconds_alone_gets_through_its_handshake() -> None:
    # Between their calls that is what blocking clients in C++ do, such as those of Debian: at one look they are
    # connected, at the next they read the answer. By a shorter limit they would begin again, for ever.
    assert dict(options(DoorSettings(), 1))["grpc.server_handshake_timeout_ms"] > 2 * 5_000


@pytest.mark.parametrize("door", DOORS)
async def test_connections_are_so_many_and_silent_ones_count(door: str) -> None:
    async with a_node(bounds=Bounds(connections=2)) as node:
        _, silent = await asyncio.open_connection("127.0.0.1", port_of(node, door))
        async with connection(node, door):
            with pytest.raises((OSError, EOFError)):
                async with asyncio.timeout(GUARD), connection(node, door) as third:
                    await third.until(SETTINGS)
        silent.close()
        async with asyncio.timeout(GUARD):
            while True:
                try:
                    async with connection(node, door) as again:
                        await again.until(SETTINGS)
                        break
                except (OSError, EOFError):
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("door", DOORS)
async def test_a_process_of_few_files_takes_fewer_connections_so_that_others_have_some(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (12, 12))
    async with a_node() as node, connection(node, door), connection(node, door):
        with pytest.raises((OSError, EOFError)):
            async with asyncio.timeout(GUARD), connection(node, door) as third:
                await third.until(SETTINGS)


@pytest.mark.parametrize("door", DOORS)
async def test_a_connection_without_a_call_is_sent_away(door: str) -> None:
    async with a_node(bounds=Bounds(idle=0.2)) as node, connection(node, door) as idle, asyncio.timeout(GUARD):
        await idle.until(GOAWAY)
        await ends(idle)


@pytest.mark.parametrize("door", DOORS)
async def test_a_connection_is_told_how_many_calls_and_how_much_metadata_it_may_have(door: str) -> None:
    async with a_node() as node, connection(node, door) as one, asyncio.timeout(GUARD):
        payload = b""
        while not payload:
            _, flags, _, payload = await one.until(SETTINGS)
            assert flags & ACK or payload
        told = dict(struct.unpack(">HI", payload[at : at + 6]) for at in range(0, len(payload), 6))
        assert told[MAX_CONCURRENT_STREAMS] == 100
        assert told[MAX_HEADER_LIST_SIZE] == Bounds().metadata_bytes


async def test_the_ninth_call_of_a_workers_connection_waits_until_another_one_ends() -> None:
    async with a_node() as node:
        channel = await node.worker_channel(worker_files("w1"))
        watch: Any = channel.unary_stream(HEALTH + "Watch")
        watches = [watch(b"") for _ in range(8)]
        for one in watches:
            assert await one.read()
        check: Any = channel.unary_unary(HEALTH + "Check")
        ninth, session = check(b"", timeout=GUARD), Wire(channel.stream_stream(SESSION)())
        await session.send(hello())
        # Those of another connection do not wait.
        await (await node.worker("w2")).beat()
        assert not ninth.done()
        for one in watches[:2]:
            one.cancel()
        await ninth
        await session.expect("welcome")


async def test_a_burst_of_calls_is_answered_whatever_the_client_knows_of_the_limit() -> None:
    async with a_node() as node:
        check: Any = (await node.worker_channel(worker_files("w1"))).unary_unary(HEALTH + "Check")
        await asyncio.gather(*(check(b"", timeout=GUARD) for _ in range(90)))
        # Nor must it have read a word of ours.
        async with connection(node, "worker") as hasty, asyncio.timeout(GUARD):
            streams = {hasty.call(HEALTH + "Check", message=b"") for _ in range(50)}
            while streams:
                kind, flags, stream, _ = await hasty.until(HEADERS, RST_STREAM, GOAWAY)
                assert kind == HEADERS
                if flags & END_STREAM:
                    streams.remove(stream)


@pytest.mark.parametrize("door", DOORS)
async def test_a_header_block_that_does_not_end_is_no_call_and_its_connection_ends(door: str) -> None:
    async with a_node(bounds=Bounds(idle=0.2)) as node, connection(node, door) as flood:
        # No other frame may come in between, as the answer to settings would.
        for _ in range(2):
            await flood.until(SETTINGS)
        stream = flood.call(HEALTH + "Check", ends_headers=False)
        ending = asyncio.create_task(ends(flood))
        while not ending.done():
            flood.send(CONTINUATION, 0, stream, b"\0\1a\1b")
            with suppress(ConnectionError):
                await flood.drained()
            await asyncio.sleep(0)
        await ending


async def test_metadata_is_taken_up_to_its_bound_and_never_beyond() -> None:
    request = job_pb2.GetJobRequest(job_id="x")
    async with a_node() as node:
        for size, code in ((12_000, grpc.StatusCode.NOT_FOUND), (17_000, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            for _ in range(5):
                with pytest.raises(ENDED) as refused:
                    await node.call("GetJob", request, bytes, (*CLIENT, ("more", "x" * size)))
                assert refused.value.code() == code


async def test_a_compressed_message_is_not_unpacked() -> None:
    async with a_node() as node:
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            call: Any = node.channel.unary_unary(JOBS + "GetJob")
            with pytest.raises(ENDED) as refused:
                await call(b"\x0a" + b"x" * 1_000, metadata=CLIENT, compression=compression, timeout=GUARD)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_who_watches_and_never_reads_is_cut_at_the_end_of_its_connections_age() -> None:
    """It answers pings, and holds its calls by its window: nothing else ends them."""
    async with a_node(bounds=Bounds(age=0.3, age_grace=0.3)) as node:
        job_id = await node.create()
        before = len(asyncio.all_tasks())
        async with connection(node, "client", window=0) as deaf:
            request = job_pb2.WatchJobRequest(job_id=job_id).SerializeToString()
            deaf.call(JOBS + "WatchJob", CLIENT, message=request)
            await deaf.until(HEADERS)
            await ends(deaf)
        await node.until(lambda: len(asyncio.all_tasks()) <= before)
        assert (await node.job(job_id)).status == "waiting_for_worker"


async def test_a_worker_that_answers_pings_and_never_reads_is_cut_too() -> None:
    async with a_node(bounds=Bounds(age=0.3, age_grace=0.3), silence=5.0) as node:
        before = len(asyncio.all_tasks())
        async with connection(node, "worker", window=0) as deaf:
            stream = deaf.call(SESSION)
            first = hello().SerializeToString()
            deaf.send(DATA, 0, stream, b"\0" + struct.pack(">I", len(first)) + first)
            await deaf.until(HEADERS)
            await ends(deaf)
        await node.until(lambda: len(asyncio.all_tasks()) <= before)
        assert not list(node.engine.dispatcher.sessions)


async def test_an_old_stream_is_left_for_another_one_and_nothing_is_lost() -> None:
    async with a_node(rotation=1.0, moving=GUARD) as node:
        old = await node.worker("w1", offering("good"), instance_id="a")
        job_id = await node.create(skill="good")
        offer = await old.offer()
        going = await old.expect("go_away")
        assert (going.reason, going.time_left.seconds) == ("ROTATE", GUARD)
        second = await node.create(skill="good", n=2)
        lease = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        resume = worker_pb2.Resume(leases=[lease])
        new = await node.worker("w1", offering("good"), instance_id="a", credits=2, resume=resume)
        assert new.welcome.leases[0].decision == worker_pb2.LEASE_DECISION_KEEP
        await old.close()
        await new.send(updates(result(offer)))
        found = [await new.next(), await new.next()]
        (again,) = [said for kind, said in found if kind == "task_offers"]
        assert again.job_id == second
        assert (await node.ended(job_id)).status == "finished"


async def test_who_does_not_leave_an_old_stream_is_shown_out_of_it() -> None:
    async with a_node(rotation=0.1, moving=0.1) as node:
        worker = await node.worker("w1")
        end = await worker.end()
        assert (end.code(), reason_of(end)) == (grpc.StatusCode.UNAVAILABLE, "STREAM_OLD")
        assert (await node.worker("w1")).welcome.session_id


def test_a_stream_has_moved_before_its_connection_is_cut() -> None:
    """Also one that was opened last of all: a connection takes new ones until a tenth after its age."""
    settings = WorkerDoorSettings()
    longest = settings.rotation + settings.moving
    assert 1.1 * settings.bounds.age + longest < 0.9 * settings.bounds.age + settings.bounds.age_grace
