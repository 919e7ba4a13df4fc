"""A parent that keeps to the protocol and does all else at random; and a worker and a store that are no better."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.fleet import Skill
from holon.domain.task import CANCELLED_BY_CHILD, FAILURE, SUCCESS, Outcome, TaskError
from holon.engine.jobs import Jobs
from holon.errors import StoreUnavailable
from holon.ports import Offer, Stop
from holon.rxon.v1 import types_pb2, worker_pb2
from holon.storage.memory import MemoryStorage
from tests.integration.a_child import PARENT, Child, Leaf, offered
from tests.integration.scripted_node import ScriptedNode, Stream

SKILL = Skill("leaf", price=1)


def blueprints() -> list[Blueprint]:
    """One that has two tasks done after each other, and a third after a cancel."""
    does = Blueprint("does")

    # What it needs is named by no constant: else it would be known beforehand when nobody can do it.
    @does.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["of"], {}, {"success": "more", "cancelled": "tidy"}, max_retries=0)

    @does.handler
    async def more(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["of"], {}, {"success": "end", "cancelled": "tidy"}, max_retries=0)

    @does.handler
    async def tidy(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["of"], {}, {"success": "end"}, max_retries=0)

    @does.handler(is_end=True)
    async def end(initial_data: dict[str, Any]) -> Any:
        return initial_data

    return [does]


@dataclass
class Task:
    """A task of the parent's. `lease` is the one that counts; None: it waits to be offered, or is over."""

    task_id: str
    generation: int = 1
    attempt: int = 0
    lease: str | None = None
    over: bool = False


class FickleParent:
    """Gives a child tasks, loses and cancels some, and cuts the link, while it is `fickle`; then it only gives them.

    Attributes:
        wrong: what the child did that it must not.
        log: all that was said, and when.
    """

    def __init__(self, node: ScriptedNode, chance: random.Random, count: int) -> None:
        self.tasks = {task_id: Task(task_id) for task_id in (f"t{n}" for n in range(count))}
        self.fickle = True
        self.wrong: list[str] = []
        self.log: list[str] = []
        self._node = node
        self._chance = chance
        self._stream: Stream | None = None
        # No two write on a stream at a time.
        self._speaking = asyncio.Lock()
        self._leases = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._act())
            reading: asyncio.Task[None] | None = None
            while True:
                stream = await self._node._opened.get()
                if reading is not None:
                    reading.cancel()
                self._stream = None
                await self._welcome(stream)
                self._stream = stream
                reading = group.create_task(self._read(stream))

    @property
    def waiting(self) -> list[str]:
        """What is not done yet."""
        return [f"{one}" for one in self.tasks.values() if not one.over]

    def _note(self, *what: object) -> None:
        self.log.append(f"{asyncio.get_running_loop().time():.4f} " + " ".join(map(str, what)))

    def _chances(self, share: float) -> bool:
        return self.fickle and self._chance.random() < share

    def _requeue(self, task: Task) -> None:
        self._note("takes back", task.task_id, task.lease)
        task.lease = None

    async def _welcome(self, stream: Stream) -> None:
        listed = {(one.task_id, one.lease_id) for one in stream.hello.resume.leases}
        self._note("is greeted", sorted(listed))
        for task in self.tasks.values():
            if task.lease is not None and ((task.task_id, task.lease) not in listed or self._chances(0.4)):
                self._requeue(task)
        decisions = []
        for task_id, lease_id in listed:
            kept = self.tasks[task_id].lease == lease_id
            decision = worker_pb2.LEASE_DECISION_KEEP if kept else worker_pb2.LEASE_DECISION_DROP
            decisions.append(worker_pb2.ResumedLease(task_id=task_id, lease_id=lease_id, decision=decision))
        terms: dict[str, Any] = {"holon_id": PARENT, "capabilities": [types_pb2.CAPABILITY_HOLON], "leases": decisions}
        with suppress(Exception):
            await stream.welcome(accept_timeout=Duration(seconds=2), **terms)

    async def _read(self, stream: Stream) -> None:
        while True:
            update = await stream._updates.get()
            # The stream may end while it is answered.
            async with self._speaking:
                with suppress(Exception):
                    await self._hear(stream, update)

    async def _hear(self, stream: Stream, update: worker_pb2.TaskUpdate) -> None:
        task, lease, kind = self.tasks[update.task_id], update.lease_id, update.WhichOneof("update")
        self._note("hears", kind, task.task_id, lease, update.rejected.reason, update.result.status)
        if kind == "accepted" and task.lease != lease:
            await self._stop(stream, task.task_id, lease, "LEASE_LOST")
        elif kind == "rejected" and task.lease == lease:
            self._requeue(task)
        elif kind == "result":
            ack = worker_pb2.ResultAck(task_id=task.task_id, lease_id=lease)
            ack.verdict = self._verdict(task, lease, update.result)  # type: ignore[assignment]
            await stream.send(update_acks=worker_pb2.UpdateAcks(results=[ack]))

    def _verdict(self, task: Task, lease: str, result: worker_pb2.TaskResult) -> int:
        if self._chances(0.1):
            return worker_pb2.VERDICT_RETRY
        if task.lease != lease:
            return worker_pb2.VERDICT_SUPERSEDED
        if result.status == "cancelled" or result.error.code == CANCELLED_BY_CHILD:
            self.wrong.append(f"{task.task_id} was cancelled under {lease}, which nobody wanted")
        task.lease = None
        if self._chances(0.4):
            task.generation += 1
        else:
            task.over = True
        return worker_pb2.VERDICT_COMMITTED

    async def _act(self) -> None:
        while True:
            await asyncio.sleep(self._chance.random() * 0.02)
            if (stream := self._stream) is not None and not stream.gone.is_set():
                async with self._speaking:
                    with suppress(Exception):
                        await self._do_one_thing(stream)

    async def _do_one_thing(self, stream: Stream) -> None:
        waiting = [one for one in self.tasks.values() if one.lease is None and not one.over]
        leased = [one for one in self.tasks.values() if one.lease is not None]
        what = self._chance.random() if self.fickle else 0.0
        if what < 0.55 and waiting:
            await self._offer(stream, self._chance.choice(waiting))
        elif 0.55 <= what < 0.8 and leased:
            task = self._chance.choice(leased)
            lease, task.over = str(task.lease), what >= 0.75
            self._requeue(task)
            await self._stop(stream, task.task_id, lease, "CANCELLED" if task.over else "LEASE_LOST")
        elif 0.8 <= what < 0.88:
            self._note("cuts the link")
            stream.end()
        elif 0.88 <= what < 0.92:
            await stream.send(go_away=worker_pb2.GoAway(reason="ROTATE", time_left=Duration(seconds=1)))

    async def _offer(self, stream: Stream, task: Task) -> None:
        self._leases += 1
        task.attempt += 1
        task.lease = f"l{self._leases}"
        self._note("offers", task)
        params = {"task": task.task_id, "generation": task.generation, "of": SKILL.name}
        terms: dict[str, Any] = {"generation": task.generation, "attempt": task.attempt, "lease_id": task.lease}
        if self._chances(0.5):
            terms["time_left"] = Duration(nanos=self._chance.randint(1, 999_999_999))
        await offered(stream, task.task_id, "does", params, lineage=types_pb2.Lineage(budget=6), **terms)

    async def _stop(self, stream: Stream, task_id: str, lease: str, reason: str) -> None:
        self._note("stops", task_id, lease, reason)
        stop = worker_pb2.StopTask(task_id=task_id, lease_id=lease, reason=reason)
        await stream.send(stop_tasks=worker_pb2.StopTasks(stops=[stop]))


class RandomLeaf(Leaf):
    """Does what it is given, soon; when it is told to stop, it does, or just then has ended."""

    def __init__(self, child: Child, chance: random.Random) -> None:
        super().__init__(child.engine, "leaf", SKILL, credits=20)
        self._chance = chance
        self._doing: dict[str, asyncio.Task[None]] = {}

    def offer(self, offers: Sequence[Offer]) -> None:
        for one in offers:
            self._doing[one.lease_id] = asyncio.get_running_loop().create_task(self._do(one))

    def stop(self, stops: Sequence[Stop]) -> None:
        for one in stops:
            doing = self._doing.get(one.lease.lease_id)
            if doing is not None and self._chance.random() < 0.7:
                doing.cancel()

    async def _do(self, offer: Offer) -> None:
        outcome = Outcome(SUCCESS, b"{}")
        try:
            self._engine.workers.accepted(self.member, offer.task_id, offer.lease_id)
            await asyncio.sleep(self._chance.random() * self._chance.choice((0.0, 0.02, 0.2)))
            if self._chance.random() < 0.1:
                outcome = Outcome(FAILURE, error=TaskError("PERMANENT_ERROR", "no"))
        except asyncio.CancelledError:
            outcome = Outcome("cancelled")
        del self._doing[offer.lease_id]
        # Its node may have ended.
        with suppress(Exception):
            await self.ends(offer, outcome, cost=1)


@asynccontextmanager
async def wavering(store: MemoryStorage, chance: random.Random, failing: float) -> AsyncIterator[None]:
    """Calls of a store take a while, and such a share of them fails, before or after they are done."""

    def waver(method: Any) -> Any:
        async def slowly(*arguments: Any, **named: Any) -> Any:
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * chance.choice((0.0, 0.002, 0.03)))
            fails = chance.random()
            if fails < failing / 2:
                raise StoreUnavailable("away", retry_after=0.01)
            answer = await method(*arguments, **named)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.01)
            if fails < failing:
                raise StoreUnavailable("gone while it answered", retry_after=0.01)
            return answer

        return slowly

    create = Jobs.create_for_parent

    async def created(jobs: Jobs, *arguments: Any) -> Any:
        await asyncio.sleep(chance.random() * 0.02)
        # What is claimed by a call of the store whose answer is lost is claimed for long; but so much is done.
        made = await create(jobs, *arguments)
        return [StoreUnavailable("away", retry_after=0.01) if chance.random() < failing else one for one in made]

    with pytest.MonkeyPatch.context() as patched:
        for name in ("put_document", "put_documents", "document", "job", "history"):
            patched.setattr(store, name, waver(getattr(store, name)))
        patched.setattr(Jobs, "create_for_parent", created)
        yield
