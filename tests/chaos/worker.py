"""Chaos: a worker on the SDK that writes everything down, and says some results twice, late, or though it must not."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

import holon.worker.reports
from holon.rxon.v1 import worker_pb2
from holon.worker import TaskError, Worker
from holon.worker.hearing import Hearing
from holon.worker.leases import Lease, Leases
from holon.worker.link import Link
from holon.worker.reports import Reports
from holon.worker.runner import Runner
from holon.worker.session import Session
from holon.worker.timing import Timing
from tests.bench.control import obey, say
from tests.chaos.blueprints import WORK
from tests.chaos.notes import Notebook

CREDITS = 4
FAILS = 0.03
# Of all results, how many are said again soon, or after their acknowledgement, if nobody says otherwise.
REPEATED = 0.15
# Of all leases that are lost, how many get a result all the same.
DEFIANT = 0.7
LATEST_S = 4.0
QUICK = Timing(welcome=3.0, reconnect_first=0.1, reconnect_longest=1.0, reconnect_refused=1.0, goodbye=2.0)


class Witness:
    """Sees to it that whatever passes between a node and this process is written down.

    Arguments:
        repeated: the share of results that are said again.
    """

    def __init__(self, notes: Notebook, dice: random.Random, repeated: float = REPEATED) -> None:
        self._notes = notes
        self._repeated = repeated
        self._dice = dice
        self._attempts: dict[str, int] = {}

    def watch(self, *, defies: bool = True) -> None:
        """Look over the shoulders of the SDK.

        Arguments:
            defies: whether some of what must stop is answered all the same.
        """
        self._watch_offers()
        self._watch_results()
        self._watch_leases()
        if defies:
            self._watch_stops()

    def _watch_offers(self) -> None:
        offered, credits_set, note, attempts = Hearing.on_offers, Link.set_credits, self._notes.write, self._attempts

        def on_offers(hearing: Hearing, offers: worker_pb2.TaskOffers) -> None:
            newest = hearing._reports.session
            session_id = newest.welcome.session_id if newest is not None else ""
            for one in offers.offers:
                attempts[one.lease_id] = one.attempt
                facts = {"attempt": one.attempt, "generation": one.generation}
                note("received", task=one.task_id, lease=one.lease_id, session=session_id, **facts)
            offered(hearing, offers)

        def set_credits(link: Link, granted: int, by_skill: Mapping[str, int] = MappingProxyType({})) -> None:
            note("granted", credits=granted)
            credits_set(link, granted, by_skill)

        Hearing.on_offers = on_offers  # type: ignore[method-assign, assignment]
        Link.set_credits = set_credits  # type: ignore[method-assign, assignment]

    def _watch_results(self) -> None:
        put, acknowledged, note, dice = Session.put, Reports.acknowledge, self._notes.write, self._dice

        def putting(session: Session, encoded: bytes) -> None:
            update = worker_pb2.TaskUpdate.FromString(encoded)
            kind = update.WhichOneof("update") or ""
            if kind in ("result", "rejected"):
                note("sent", task=update.task_id, lease=update.lease_id, kind=kind, status=update.result.status)
            put(session, encoded)
            if kind == "result" and dice.random() < self._repeated:
                update.resent = dice.random() < 0.5
                again = update.SerializeToString()
                _later(dice, lambda: put(session, again))

        def acknowledge(reports: Reports, acks: worker_pb2.UpdateAcks) -> list[tuple[Lease, bool]]:
            for ack in acks.results:
                verdict = worker_pb2.Verdict.Name(ack.verdict).removeprefix("VERDICT_")
                note("acknowledged", task=ack.task_id, lease=ack.lease_id, verdict=verdict, reason=ack.reason)
            return acknowledged(reports, acks)

        Session.put = putting  # type: ignore[method-assign, assignment]
        Reports.acknowledge = acknowledge  # type: ignore[method-assign, assignment]

    def _watch_leases(self) -> None:
        note = self._notes.write

        class Noted(Leases):
            def drop(self, lease: Lease) -> bool:
                held = super().drop(lease)
                if held:
                    note("over", task=lease.task_id, lease=lease.lease_id)
                return held

        holon.worker.reports.Leases = Noted  # type: ignore[attr-defined]

    def _watch_stops(self) -> None:
        stopped, note, dice, attempts = Runner.stopped, self._notes.write, self._dice, self._attempts

        def defiant(runner: Runner, lease: Lease, reason: str, grace: float) -> None:
            note("stopped", task=lease.task_id, lease=lease.lease_id, reason=reason)
            stopped(runner, lease, reason, grace)
            if dice.random() < DEFIANT:
                update = worker_pb2.TaskUpdate(task_id=lease.task_id, lease_id=lease.lease_id)
                update.result.status = "success"
                update.result.data.data = orjson.dumps({"token": token(lease.task_id, attempts[lease.lease_id])})
                _later(dice, lambda: runner._reports._tell(update))

        Runner.stopped = defiant  # type: ignore[method-assign, assignment]


def _later(dice: random.Random, say_it: Callable[[], None]) -> None:
    def attempt() -> None:
        try:
            say_it()
        except Exception as error:  # noqa: BLE001  the session is over, and it is not said
            del error

    asyncio.get_running_loop().call_later(dice.random() ** 2 * LATEST_S, attempt)


def token(task_id: str, attempt: int) -> str:
    """What names one attempt in its result."""
    return f"{task_id} {attempt} {os.environ['CHAOS_NAME']}"


async def main() -> None:
    """Serve the nodes that the environment names, until drained by a signal or by the end of the parent."""
    notes = Notebook(Path(os.environ["CHAOS_FOLDER"]), os.environ["CHAOS_NAME"])
    dice = random.Random(os.environ["CHAOS_SEED"])
    Witness(notes, dice, float(os.environ["CHAOS_REPEATED"])).watch()
    worker = Worker(max_concurrent=CREDITS, drain_grace=1.0, timing=QUICK)

    @worker.skill(WORK)
    async def work(n: int, seconds: float, task_id: str, attempt: int) -> dict[str, Any]:
        notes.write("started", task=task_id, attempt=attempt, n=n)
        await asyncio.sleep(seconds)
        fails = random.random() < FAILS
        notes.write("finished", task=task_id, attempt=attempt, fails=fails)
        if fails:
            raise TaskError("TRANSIENT_ERROR", "as happens")
        return {"token": token(task_id, attempt)}

    notes.write("born", credits=CREDITS)
    serving = asyncio.create_task(worker.serve())
    drain = drain_at_a_signal(worker)
    say(ready=True)
    control = asyncio.create_task(obey(drain))
    await serving
    control.cancel()


def drain_at_a_signal(worker: Worker) -> Callable[[], None]:
    """Drain at SIGTERM; answers with how to drain when the parent is gone."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain, "SIGTERM")
    return lambda: worker.drain("the parent is gone")


if __name__ == "__main__":
    asyncio.run(main())
