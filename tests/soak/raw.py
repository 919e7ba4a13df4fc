"""The soak: workers frame by frame, who come and go, and of whom most are no good."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import grpc
import grpc.aio

from holon.rxon.v1 import types_pb2, worker_pb2
from tests.fuzz.choices import Choices
from tests.fuzz.messages import wrong
from tests.soak.blueprints import BAIT, WORK

SESSION = "/holon.rxon.v1.WorkerService/Session"
BEAT_S = 0.8
LIFE_S = 8.0
OVERSIZE = 5 * 2**20
GONE = (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError)

Request = worker_pb2.SessionRequest
Character: TypeAlias = "Callable[[Stream, random.Random], Coroutine[Any, Any, None]]"


class Stream:
    """One session of a raw worker."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._beats = itertools.count(1)
        self._writing = asyncio.Lock()

    async def say(self, frame: Request | bytes) -> None:
        """Send a frame."""
        async with self._writing:
            await self.call.write(frame if isinstance(frame, bytes) else frame.SerializeToString())

    async def hello(self, skill: str, granted: int) -> None:
        """Open the session."""
        catalog = worker_pb2.Catalog(offerings=[worker_pb2.Offering(skill=skill)])
        hello = worker_pb2.Hello(credits=granted, catalog=catalog)
        hello.capabilities.extend([types_pb2.CAPABILITY_RESUME, types_pb2.CAPABILITY_CANCEL])
        await self.say(Request(hello=hello))

    async def beat(self) -> None:
        """Send a heartbeat now and then, until cancelled or the stream's end."""
        with suppress(*GONE):
            while True:
                await asyncio.sleep(BEAT_S)
                await self.say(Request(heartbeat=worker_pb2.Heartbeat(sequence=next(self._beats))))

    async def offers(self) -> AsyncIterator[worker_pb2.TaskOffer]:
        """What is offered, until the stream ends."""
        while (raw := await self.call.read()) is not grpc.aio.EOF:
            for offer in worker_pb2.SessionResponse.FromString(raw).task_offers.offers:
                yield offer

    async def answer(self, offer: worker_pb2.TaskOffer, times: int = 1) -> None:
        """Send the right result, perhaps more often than once."""
        data = types_pb2.Payload(data=json.dumps({"echo": json.loads(offer.params.data)["n"]}).encode())
        result = worker_pb2.TaskResult(status="success", data=data)
        await self.say_of(offer, *[{"result": result}] * times)

    async def say_of(self, offer: worker_pb2.TaskOffer, *updates: dict[str, Any]) -> None:
        """Send updates of one task."""
        each = [worker_pb2.TaskUpdate(task_id=offer.task_id, lease_id=offer.lease_id, **one) for one in updates]
        await self.say(Request(task_updates=worker_pb2.TaskUpdates(updates=each)))


async def honest(stream: Stream, dice: random.Random) -> None:
    """Does its work, and says it twice now and then."""
    await stream.hello(WORK, 10)
    async for offer in stream.offers():
        await stream.answer(offer, dice.choice((1, 1, 1, 2)))


async def hesitant(stream: Stream, dice: random.Random) -> None:
    """Rejects, forgets, and accepts what it has answered already."""
    await stream.hello(WORK, 10)
    async for offer in stream.offers():
        if dice.random() < 0.3:
            await stream.say_of(offer, {"rejected": worker_pb2.TaskRejected(reason="BUSY")})
        elif dice.random() < 0.8:
            await stream.answer(offer)
            await stream.say_of(offer, {"accepted": worker_pb2.TaskAccepted()})


async def vanishing(stream: Stream, dice: random.Random) -> None:
    """Accepts, and is gone."""
    await stream.hello(WORK, 5)
    left = dice.randrange(1, 4)
    async for offer in stream.offers():
        await stream.say_of(offer, {"accepted": worker_pb2.TaskAccepted()})
        left -= 1
        if not left:
            return


async def leaving(stream: Stream, dice: random.Random) -> None:
    """Works a little, drains, and closes its side when it has nothing more."""
    await stream.hello(WORK, 3)
    left = dice.randrange(1, 10)
    async for offer in stream.offers():
        await stream.answer(offer)
        left -= 1
        if not left:
            await stream.say(Request(drain=worker_pb2.Drain(reason="home")))
            await stream.call.done_writing()


async def black_hole(stream: Stream, _: random.Random) -> None:
    """Grants ten thousand credits, and never answers."""
    await stream.hello(BAIT, 10_000)
    await _read(stream)


async def deaf(stream: Stream, _: random.Random) -> None:
    """Never reads."""
    await stream.hello(BAIT, 10_000)
    await asyncio.sleep(LIFE_S)


async def silent(_: Stream, __: random.Random) -> None:
    """Opens a stream, and says nothing."""
    await asyncio.sleep(LIFE_S)


async def garbled(stream: Stream, dice: random.Random) -> None:
    """Sends messages that are no good, or might be."""
    await stream.hello(BAIT, 5)
    reading = asyncio.create_task(_read(stream))
    try:
        for _ in range(dice.randrange(1, 150)):
            await stream.say(wrong(Choices(dice.randbytes(100)), Request))
            await asyncio.sleep(dice.random() * 0.02)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def oversize(stream: Stream, _: random.Random) -> None:
    """Sends a message over the limit."""
    await stream.hello(BAIT, 1)
    await stream.say(b"x" * OVERSIZE)
    await _read(stream)


async def fickle(stream: Stream, dice: random.Random) -> None:
    """Offers other things all the time, with contracts that nobody has seen."""
    await stream.hello(BAIT, 1)
    for sequence in itertools.count(1):
        offering = worker_pb2.Offering(skill=BAIT, version=str(sequence))
        offering.input_schema.data = b'{"maxProperties":%d}' % dice.randrange(10**9)
        catalog = worker_pb2.Catalog(sequence=sequence, offerings=[offering])
        await stream.say(Request(catalog=catalog))
        await asyncio.sleep(dice.random() * 0.1)


async def false(stream: Stream, dice: random.Random) -> None:
    """Answers with anything."""
    await stream.hello(BAIT, 5)
    async for offer in stream.offers():
        result = worker_pb2.TaskResult(status=dice.choice(("success", "failure", "cancelled", "", "what")))
        result.data.data = dice.choice((b"", b"{}", b"[]", b"\xff", b'{"x":"' + b"y" * 100_000 + b'"}'))
        await stream.say_of(offer, {"result": result})


async def _read(stream: Stream) -> None:
    async for _ in stream.offers():
        pass


CHARACTERS: tuple[Character, ...] = (
    honest, honest, hesitant, vanishing, leaving, black_hole, deaf, silent, garbled, oversize, fickle, false,
)  # fmt: skip


class RawWorker:
    """One certificate, and one session after another on it, each of another character.

    Arguments:
        open_channel: makes a new connection.
        seen: counts the sessions, by character.
    """

    def __init__(self, open_channel: Callable[[], grpc.aio.Channel], dice: random.Random, seen: Counter[str]) -> None:
        self._open_channel = open_channel
        self._dice = dice
        self._seen = seen

    async def run(self) -> None:
        """Come and go until cancelled."""
        while True:
            async with self._open_channel() as channel:
                for _ in range(self._dice.randrange(1, 5)):
                    await self._session(channel)
                    await asyncio.sleep(self._dice.random() * 0.3)

    async def _session(self, channel: grpc.aio.Channel) -> None:
        character = self._dice.choice(CHARACTERS)
        self._seen[character.__name__] += 1
        session: Any = channel.stream_stream(SESSION)
        stream = Stream(session())
        async with _alive(stream):
            with suppress(*GONE, TimeoutError):
                async with asyncio.timeout(0.5 + self._dice.random() * LIFE_S):
                    await character(stream, self._dice)


@asynccontextmanager
async def _alive(stream: Stream) -> AsyncIterator[None]:
    """Heartbeats meanwhile, and no call left over."""
    beating = asyncio.create_task(stream.beat())
    try:
        yield
    finally:
        beating.cancel()
        stream.call.cancel()
        await asyncio.gather(beating, return_exceptions=True)
