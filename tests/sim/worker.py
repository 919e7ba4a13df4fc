"""The simulator: a worker that keeps the rules of the protocol."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextvars import Context

from holon.rxon.v1 import types_pb2, worker_pb2
from tests.fuzz.streams import Request, Response, Stream
from tests.sim.node import SILENCE_S, Node

CREDITS = 3
HEARTBEAT_S = 1.0


class Worker:
    """Does tasks of the skill `t`: it answers with the number that it got.

    Attributes:
        committed: the results that a node said were committed: task to lease.
        wrong: what it saw that must never be.
    """

    def __init__(self, name: str, nodes: Sequence[Node], dice: random.Random, outside: Context) -> None:
        self.name = name
        self.committed: dict[str, str] = {}
        self.wrong: list[str] = []
        self._nodes = nodes
        self._dice = dice
        self._outside = outside
        self._session = ""
        # Leases that it works on, and results without a verdict.
        self._held: dict[str, types_pb2.LeaseRef] = {}
        self._results: dict[str, worker_pb2.TaskUpdate] = {}
        self._stream: Stream | None = None
        self._welcomed = False
        self._heard = asyncio.Event()

    def __repr__(self) -> str:
        return f"Worker({self.name}, held={len(self._held)}, results={len(self._results)})"

    async def run(self) -> None:
        """Serve one node after another."""
        while True:
            ready = [node for node in self._nodes if node.engine is not None]
            if ready:
                await self._serve(self._dice.choice(ready))
            await asyncio.sleep(self._dice.uniform(0.05, 0.5))

    async def _serve(self, node: Node) -> None:
        loop = asyncio.get_running_loop()
        stream = self._stream = Stream(lambda said: self._arrive(stream, said))
        process = node.serve(stream)
        self._heard.clear()
        self._send(stream, Request(hello=self._hello()))
        last, beats = loop.time(), 0
        self._welcomed = self._sent_away = False
        try:
            while process.alive and stream.ended is None and not self._sent_away:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await self._heard.wait()
                    self._heard.clear()
                    last = loop.time()
                except TimeoutError:
                    if loop.time() - last > SILENCE_S:
                        break
                if self._welcomed:
                    beats += 1
                    held = worker_pb2.HeldLeases(leases=self._held.values(), no_leases=not self._held)
                    beat = worker_pb2.Heartbeat(sequence=beats, credits=CREDITS, held=held)
                    self._send(stream, Request(heartbeat=beat))
                await asyncio.sleep(0.3)
        finally:
            self._stream = None
            if process.alive:
                stream.vanish()

    def _hello(self) -> worker_pb2.Hello:
        hello = worker_pb2.Hello(
            worker_id=self.name,
            instance_id=self.name,
            credits=CREDITS,
            catalog=worker_pb2.Catalog(offerings=[worker_pb2.Offering(skill="t")]),
            capabilities=[types_pb2.CAPABILITY_CANCEL, types_pb2.CAPABILITY_RESUME],
        )
        if self._session:
            unsettled = [
                types_pb2.LeaseRef(task_id=one.task_id, lease_id=one.lease_id) for one in self._results.values()
            ]
            hello.resume.CopyFrom(
                worker_pb2.Resume(session_id=self._session, leases=[*self._held.values(), *unsettled])
            )
        return hello

    def _send(self, stream: Stream, request: Request) -> None:
        asyncio.get_running_loop().call_later(self._dice.uniform(0.0005, 0.003), stream.say, request)

    def _arrive(self, stream: Stream, said: Response) -> None:
        """The node has sent this; called in its process."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._dice.uniform(0.0005, 0.003), self._hear, stream, said, context=self._outside)

    def _hear(self, stream: Stream, said: Response) -> None:
        if stream is not self._stream:
            return
        self._heard.set()
        if said.HasField("go_away"):
            self._sent_away = True
        if said.HasField("welcome"):
            self._welcomed = True
            self._session = said.welcome.session_id
            kept = {one.lease_id for one in said.welcome.leases if one.decision == worker_pb2.LEASE_DECISION_KEEP}
            self._held = {lease: ref for lease, ref in self._held.items() if lease in kept}
            for lease_id in self._results:
                self._repeat(lease_id)
        for offer in said.task_offers.offers:
            self._take(offer)
        for ack in said.update_acks.results:
            if ack.verdict == worker_pb2.VERDICT_RETRY:
                asyncio.get_running_loop().call_later(0.5, self._repeat, ack.lease_id)
            else:
                self._results.pop(ack.lease_id, None)
            committed = ack.verdict == worker_pb2.VERDICT_COMMITTED
            if committed and self.committed.setdefault(ack.task_id, ack.lease_id) != ack.lease_id:
                self.wrong.append(f"I3: two results of task {ack.task_id} were committed")
        for stop in said.stop_tasks.stops:
            if self._held.pop(stop.lease_id, None) is not None:
                self._answer(stop.task_id, stop.lease_id, worker_pb2.TaskResult(status="cancelled"))

    def _take(self, offer: worker_pb2.TaskOffer) -> None:
        if len(self._held) >= CREDITS:
            self.wrong.append(f"I4: {self.name} holds {len(self._held)}, and was offered one more")
        self._held[offer.lease_id] = types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
        number = json.loads(offer.params.data)["n"]
        asyncio.get_running_loop().call_later(self._dice.expovariate(4.0), self._finish, offer, number)

    def _finish(self, offer: worker_pb2.TaskOffer, number: int) -> None:
        if self._held.pop(offer.lease_id, None) is None:
            return
        data = types_pb2.Payload(data=json.dumps({"n": number}).encode())
        self._answer(offer.task_id, offer.lease_id, worker_pb2.TaskResult(status="success", data=data))

    def _answer(self, task_id: str, lease_id: str, result: worker_pb2.TaskResult) -> None:
        update = worker_pb2.TaskUpdate(task_id=task_id, lease_id=lease_id, result=result)
        self._results[lease_id] = update
        self._say(update)

    def _repeat(self, lease_id: str) -> None:
        update = self._results.get(lease_id)
        if update is not None:
            update.resent = True
            self._say(update)

    def _say(self, update: worker_pb2.TaskUpdate) -> None:
        if self._stream is not None and self._welcomed:
            self._send(self._stream, Request(task_updates=worker_pb2.TaskUpdates(updates=[update])))
