"""Requests that stop half-way: whoever has a token or a certificate takes memory of a few of them, and not of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from holon.rxon.v1 import job_pb2
from holon.wire import arrivals
from tests.attack.place import CODE, GUARD, HEALTH, JOBS, LOOPBACK, Place, outcome
from tests.integration.grpc_node import SESSION
from tests.integration.http_wire import Answer, answers
from tests.integration.raw_http2 import END_STREAM, HEADERS, Connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGE = 4 * 2**20
WINDOW = 64 * 1024
# What else a connection takes in: its own window, and frames around all of it.
AROUND = 2**20
NEVER = 10 * GUARD


class Hose:
    """A connection with calls, of each of which all but the last bytes of its message are sent as far as it goes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ended: set[int] = set()
        self._left: dict[int, int] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def open(cls, place: Place, port: int, worker_id: str = "") -> AsyncIterator[Hose]:
        own = place.worker_files(worker_id) if worker_id else None
        files = (str(own.certificate), str(own.key)) if own is not None else None
        hose = cls(await Connection.open(port, place.ca.read_bytes(), files))
        try:
            yield hose
        finally:
            hose.connection.close()
            await asyncio.wait((hose._reading,))

    def call(self, path: str, metadata: tuple[tuple[str, str], ...]) -> None:
        self._left[self.connection.begin(path, metadata, MESSAGE - 16)] = MESSAGE - 32

    async def pour(self) -> int:
        """Send what there is room for; how many bytes."""
        sent = 0
        for stream, left in self._left.items():
            if stream not in self.ended:
                poured = self.connection.pour(stream, left)
                self._left[stream] -= poured
                sent += poured
        await self.connection.drained()
        return sent

    async def _read(self) -> None:
        try:
            while True:
                kind, flags, stream, _ = await self.connection.frame()
                if kind == HEADERS and flags & END_STREAM:
                    self.ended.add(stream)
        except (EOFError, ConnectionError):
            pass


async def poured(place: Place, hoses: list[Hose], most: int) -> None:
    """Pour until nothing more is taken in; fail when more is than `most` bytes."""
    taken, quiet = 0, 0
    while quiet < 10:
        sent = sum([await hose.pour() for hose in hoses])
        taken += sent
        assert taken <= most
        quiet = 0 if sent else quiet + 1
        # Others are answered meanwhile; and once they are, the door has heard what was sent before.
        assert await asked(place, "lab") == (CODE.NOT_FOUND, "JOB_NOT_FOUND")
    assert taken > most // 2


async def asked(place: Place, client: str) -> tuple[Any, str]:
    """The answer to a client's call on a connection of its own."""
    request = job_pb2.GetJobRequest(job_id="none")
    channel = await place.channel(place.client_port)
    try:
        return await outcome(channel, f"{JOBS}GetJob", request, (("x-client-token", place.tokens[client]),))
    finally:
        await channel.close()


async def test_of_one_clients_half_sent_messages_few_are_taken_in_whatever_its_connections(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PATIENCE_S", NEVER)
    connections, streams = 5, 100
    most = arrivals.MOST * MESSAGE + connections * streams * WINDOW + connections * AROUND
    async with AsyncExitStack() as opened:
        hoses = [await opened.enter_async_context(Hose.open(place, place.client_port)) for _ in range(connections)]
        for hose in hoses:
            for _ in range(streams):
                hose.call(f"{JOBS}CreateJob", (("x-client-token", place.tokens["shop"]),))
        await poured(place, hoses, most)
        assert not any(hose.ended for hose in hoses)


async def test_a_client_is_answered_though_its_own_half_sent_messages_have_all_places(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PATIENCE_S", 0.02)
    async with Hose.open(place, place.client_port) as hose:
        for _ in range(90):
            hose.call(f"{JOBS}CreateJob", (("x-client-token", place.tokens["shop"]),))
        async with asyncio.timeout(GUARD):
            assert await asked(place, "shop") == (CODE.NOT_FOUND, "JOB_NOT_FOUND")
            # Those that waited had their turn before it, and the oldest gave them their places.
            while len(hose.ended) < 90 - arrivals.MOST:  # noqa: ASYNC110  it looks from outside
                await asyncio.sleep(0.005)


async def test_of_half_sent_hellos_of_one_certificate_few_are_taken_in_and_others_are_welcomed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PATIENCE_S", NEVER)
    connections, streams = 8, 8
    most = arrivals.MOST * MESSAGE + connections * streams * WINDOW + connections * AROUND
    async with AsyncExitStack() as opened:
        hoses = [
            await opened.enter_async_context(Hose.open(place, place.ports.worker, "hose")) for _ in range(connections)
        ]
        for hose in hoses:
            for _ in range(streams):
                hose.call(SESSION, ())
        await poured(place, hoses, most)
        await (await place.worker("another")).beat()
        health = await place.certified("another")
        assert await outcome(health, HEALTH) == (CODE.OK, "")


async def test_of_one_clients_half_sent_bodies_few_wait_and_the_oldest_are_told_to_send_fewer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PATIENCE_S", 0.02)
    too_many, head = 8, "POST /api/v1/jobs/relay HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n"
    half = f"{head}X-Client-Token: {place.tokens['shop']}\r\n\r\n".encode() + b'{"' + b"x" * 300_000

    async def sent() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            LOOPBACK, place.ports.http, ssl=place.trust(), server_hostname="localhost"
        )
        writer.write(half)
        return reader, writer

    async def refused(reader: asyncio.StreamReader) -> Answer:
        (answer,) = answers(await reader.read())
        return answer

    async with asyncio.timeout(GUARD):
        those = [await sent() for _ in range(arrivals.MOST + too_many)]
        reading = [asyncio.create_task(refused(reader)) for reader, _ in those]
        ended = 0
        while ended < too_many:
            await asyncio.wait([one for one in reading if not one.done()], return_when=asyncio.FIRST_COMPLETED)
            ended = sum(one.done() for one in reading)
        assert {(one.result().status, one.result().code) for one in reading if one.done()} == {(429, "REQUESTS_FULL")}
        for name in ("lab", "shop"):
            async with place.http(name) as http:
                assert (
                    await http.post("/api/v1/jobs/relay", json={"initial_data": {"skill": "none"}})
                ).status_code == 202
        assert sum(not one.done() for one in reading) == arrivals.MOST
        for one in reading:
            one.cancel()
        for _, writer in those:
            writer.close()
        await asyncio.wait(reading)
