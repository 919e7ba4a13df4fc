"""A worker that says anything, in any order, and the account of what it holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from holon.rxon.v1 import types_pb2, worker_pb2
from tests.fuzz.choices import Choices
from tests.fuzz.messages import TEXTS, json_text, wrong
from tests.fuzz.streams import Request, Response, Stream
from tests.fuzz.world import BAIT, FAULTS, World

SKILLS = (*BAIT, BAIT[0], "evil")
NOBODYS = types_pb2.LeaseRef(task_id="0-0123456789abcdef-1-0", lease_id="0123456789abcdef")
SCHEMAS = (b"", b"{}", b'{"type":"object"}', b'{"required":["n"]}', b'{"required":["nothing"]}', b'{"maxProperties":1}')
STATUSES = ("success", "success", "success", "failure", "failure", "cancelled", "", "declared", "x" * 129)
CODES = ("TRANSIENT_ERROR", "PERMANENT_ERROR", "INVALID_INPUT_ERROR", "", "WHAT", "RESOURCE_EXHAUSTED_ERROR")
CREDITS = (None, 0, 1, 2, 5, 50, 10_000, 10_001, -1, 2**31 - 1)


class HostileWorker:
    """One stream of a hostile worker. Whatever it does, what the node says to it must make sense.

    Arguments:
        offers: the leases that earlier streams were offered; it may name them too.
    """

    def __init__(self, world: World, choices: Choices, worker_id: str, offers: list[types_pb2.LeaseRef]) -> None:
        self.stream = Stream(self._hear)
        self.serving = world.serve(self.stream)
        self.held: dict[str, types_pb2.LeaseRef] = {}
        self._world = world
        self._choices = choices
        self._worker_id = worker_id
        self._offers = offers
        self._most = 1
        self._offered: set[str] = set()
        self._wrong: list[AssertionError] = []
        self._frames = 0
        self._beats = 0

    # What the node says ------------------------------------------------------------------------------------------

    def _hear(self, said: Response) -> None:
        try:
            self._check(said)
        except AssertionError as error:
            self._wrong.append(error)

    def _check(self, said: Response) -> None:
        kind = said.WhichOneof("message")
        assert kind is not None
        for lease in said.welcome.leases:
            if lease.decision == worker_pb2.LEASE_DECISION_KEEP:
                self._take(lease)
        # What it held before goes on, however little it grants now.
        self._most = max(self._most, len(self.held)) if said.HasField("welcome") else self._most
        for offer in said.task_offers.offers:
            assert offer.lease_id not in self._offered, "one lease was offered twice"
            self._offered.add(offer.lease_id)
            json.loads(offer.params.data)
            self._take(offer)
        assert len(self.held) <= self._most, f"holds {len(self.held)}, and never granted more than {self._most}"
        for ack in said.update_acks.results:
            assert ack.verdict != worker_pb2.VERDICT_UNSPECIFIED
        assert said.session_error.frame <= self._frames
        assert said.session_error.error.code not in [fault.value[0] for fault in FAULTS]

    def _take(self, lease: Any) -> None:
        reference = types_pb2.LeaseRef(task_id=lease.task_id, lease_id=lease.lease_id)
        self.held[lease.lease_id] = reference
        self._offers.append(reference)

    # What it does ------------------------------------------------------------------------------------------------

    async def act(self) -> None:
        """One thing more; some let the node go on, others come at once after one another."""
        choices = self._choices
        choices.weighted(
            (20, self._update),
            (8, self._beat),
            (5, self._offer),
            (3, lambda: self._say(self._hello())),
            (3, lambda: self._say(wrong(choices, Request, self._hello()))),
            (2, lambda: self._say(Request(drain=worker_pb2.Drain(reason=choices.of(TEXTS))))),
            (2, self.stream.stop_reading),
            (3, self.stream.read_on),
            (1, self.stream.half_close),
            (1, self.stream.vanish),
            (1, self.serving.cancel),
        )
        if choices.one_in(2):
            await self._world.turns(1 + choices.below(6))
        elif choices.one_in(24):
            await asyncio.sleep(0.01)

    def hello(self) -> None:
        """Open the session, mostly as it should be."""
        if self._choices.one_in(12):
            self._say(wrong(self._choices, Request, self._hello()))
        else:
            self._say(self._hello())

    async def end(self) -> None:
        """End the stream in some way, and see that the node ends it too."""
        self.stream.read_on()
        self._choices.weighted((1, self.stream.half_close), (1, self.stream.vanish), (1, self.serving.cancel))
        await self._world.until(self.serving.done)
        if not self.serving.cancelled():
            self.serving.result()
            for error in self._wrong:
                raise error
            assert self.stream.ended not in FAULTS

    def _say(self, frame: Request | bytes) -> None:
        raw = frame if isinstance(frame, bytes) else frame.SerializeToString()
        with suppress(DecodeError):
            said = Request.FromString(raw)
            self._most = max(self._most, said.hello.credits, said.heartbeat.credits)
            for update in said.task_updates.updates:
                if update.WhichOneof("update") in ("result", "rejected"):
                    # Its room may have been given away before the node's answer is here.
                    self.held.pop(update.lease_id, None)
        self._frames += 1
        self.stream.say(raw)

    def _hello(self) -> Request:
        choices = self._choices
        hello = worker_pb2.Hello(worker_id=self._worker_id, catalog=self._catalog())
        hello.instance_id = choices.of(("", "one", "two"))
        hello.credits = choices.of((3, 1, 0, 20, 10_000))
        if not choices.one_in(4):
            hello.capabilities.extend([types_pb2.CAPABILITY_RESUME, types_pb2.CAPABILITY_CANCEL])
        if choices.one_in(2):
            hello.resume.leases.extend(self._some_leases())
        return Request(hello=hello)

    def _catalog(self) -> worker_pb2.Catalog:
        choices = self._choices
        catalog = worker_pb2.Catalog(sequence=choices.of((0, 1, 2, 3, 2**53)))
        for number in range(1 + choices.below(3)):
            offering = catalog.offerings.add(skill=choices.of(SKILLS), version=str(number))
            if choices.one_in(3):
                offering.input_schema.data = choices.of(SCHEMAS)
            if choices.one_in(4):
                offering.output_schema.data = choices.of(SCHEMAS)
        return catalog

    def _offer(self) -> None:
        catalog = Request(catalog=self._catalog())
        self._say(wrong(self._choices, Request, catalog) if self._choices.one_in(3) else catalog)

    def _beat(self) -> None:
        self._beats += 1
        heartbeat = worker_pb2.Heartbeat(sequence=self._beats)
        granted = self._choices.of(CREDITS)
        if granted is not None:
            heartbeat.credits = granted
        if self._choices.one_in(3):
            heartbeat.held.SetInParent()
            heartbeat.held.leases.extend(self._some_leases())
        self._say(Request(heartbeat=heartbeat))

    def _some_leases(self) -> Sequence[types_pb2.LeaseRef]:
        return [self._lease() for _ in range(self._choices.below(4))]

    def _lease(self) -> types_pb2.LeaseRef:
        """Mostly one that it holds; else one that it held, one of somebody else, or of nobody."""
        choices = self._choices
        held = list(self.held.values())
        good = [
            types_pb2.LeaseRef(task_id=offer.task_id, lease_id=offer.lease_id)
            for offer in self._world.good.session.leases.values()
        ]
        lease: types_pb2.LeaseRef = choices.weighted(
            (12, lambda: choices.of(held or [NOBODYS])),
            (3, lambda: choices.of(self._offers[-200:] or [NOBODYS])),
            (1, lambda: choices.of(good or [NOBODYS])),
            (1, lambda: NOBODYS),
        )
        if choices.one_in(16):
            other = choices.of(held or [NOBODYS])
            return types_pb2.LeaseRef(task_id=other.task_id, lease_id=lease.lease_id)
        return lease

    def _update(self) -> None:
        choices = self._choices
        updates = worker_pb2.TaskUpdates()
        for _ in range(1 + choices.below(4)):
            lease = self._lease()
            update = updates.updates.add(task_id=lease.task_id, lease_id=lease.lease_id)
            update.resent = choices.one_in(4)
            choices.weighted(
                (4, update.accepted.SetInParent),
                (2, partial(self._reject, update)),
                (2, partial(self._progress, update)),
                (8, partial(self._result, update)),
                (1, update.logs.SetInParent),
                (1, update.chunk.SetInParent),
                (1, lambda: None),
            )
        if choices.one_in(30):
            updates.updates.extend(list(updates.updates) * 300)
        self._say(Request(task_updates=updates))

    def _reject(self, update: worker_pb2.TaskUpdate) -> None:
        update.rejected.reason = self._choices.of(("BUSY", "UNKNOWN_SKILL", "", *TEXTS))

    def _progress(self, update: worker_pb2.TaskUpdate) -> None:
        update.progress.percent = self._choices.of((0.0, 50.0, 100.0, -1.0, 101.0, float("nan"), float("inf")))
        update.progress.message = self._choices.of(TEXTS)

    def _result(self, update: worker_pb2.TaskUpdate) -> None:
        choices, result = self._choices, update.result
        result.status = choices.of(STATUSES)
        if choices.one_in(2):
            result.data.data = json_text(choices)
        if result.status == "failure" or choices.one_in(8):
            result.error.code, result.error.message = choices.of(CODES), choices.of(TEXTS)
            if choices.one_in(3):
                result.error.details.data = json_text(choices)
        if choices.one_in(8):
            result.duration.seconds = choices.of((0, 1, -1, 2**40, 2**62))
        if choices.one_in(16):
            result.data.encoding = choices.of(TEXTS)
