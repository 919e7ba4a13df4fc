"""Each offer is answered by exactly one final word: a result, or that it is given back."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from holon.rxon.v1 import worker_pb2
from holon.worker.leases import Lease
from tests.unit.worker_runner.bench import TIMING, Make


async def test_a_short_task_is_accepted_by_its_result_and_a_longer_one_by_word(bench: Make) -> None:
    go_on = threading.Event()

    def short() -> None: ...

    def longer() -> None:
        assert go_on.wait(60)

    patient, made = bench(short, timing=replace(TIMING, accept_after=60.0)), bench(longer)
    patient.offer("short", task_id="t1")
    await patient.updates.final()
    made.offer("longer", task_id="t2")
    assert (await made.updates.next()).WhichOneof("update") == "accepted"
    go_on.set()
    await made.updates.final()
    told = [(one.task_id, one.WhichOneof("update")) for one in (*patient.updates.all, *made.updates.all)]
    assert told == [("t1", "result"), ("t2", "accepted"), ("t2", "result")]


async def test_an_offer_that_it_cannot_run_is_rejected_with_the_reason(bench: Make) -> None:
    go_on = threading.Event()

    def wait() -> None:
        assert go_on.wait(60)

    made = bench(wait, slots=1)
    made.offer("fly", task_id="t1")
    made.offer("wait", task_id="t2", params=None, version="9")
    made.offer("wait", task_id="t3")
    made.offer("wait", task_id="t4")
    rejected = {one.task_id: one.rejected.reason for one in made.updates.all if one.HasField("rejected")}
    assert rejected == {"t1": "UNKNOWN_SKILL", "t2": "UNKNOWN_SKILL", "t4": "BUSY"}
    go_on.set()
    assert (await made.updates.final()).task_id == "t1"


async def test_params_that_it_cannot_read_are_rejected(bench: Make) -> None:
    def skill() -> None: ...

    made = bench(skill)
    lease = Lease("t1", "l1")
    offer = worker_pb2.TaskOffer(task_id="t1", lease_id="l1", skill="skill")
    offer.params.ref.uri = "https://elsewhere/x"
    made.link.reports.leases.take(lease)
    made.runner.offered(lease, offer)
    assert (await made.updates.final()).rejected.reason == "PAYLOAD_UNREACHABLE"
    offer = worker_pb2.TaskOffer(task_id="t1", lease_id="l1", skill="skill")
    offer.params.encoding = "zstd"
    made.link.reports.leases.take(lease)
    made.runner.offered(lease, offer)
    assert (await made.updates.final()).rejected.reason == "UNSUITABLE"


async def test_a_task_whose_lease_is_gone_is_not_accepted(bench: Make) -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    made = bench(endless)
    made.link.reports.leases.drop(made.offer("endless", task_id="t1"))
    made.offer("endless", task_id="t2")
    update = await made.updates.next()
    assert (update.task_id, update.WhichOneof("update")) == ("t2", "accepted")


async def test_every_offer_gets_exactly_one_final_word_whatever_crosses(bench: Make) -> None:
    gates = {name: threading.Event() for name in ("t1", "t2", "t4")}

    def outlive(task_id: str) -> None:
        assert gates[task_id].wait(60)

    async def endless() -> None:
        await asyncio.Event().wait()

    made = bench(outlive, endless, slots=4)
    stopped = made.offer("outlive", task_id="t1")
    timed = made.offer("outlive", task_id="t2", time_left={"nanos": 1_000_000})
    both = made.offer("endless", task_id="t3", time_left={"nanos": 1_000_000})
    handed_back = made.offer("outlive", task_id="t4")
    made.runner.stopped(stopped, "CANCELLED", 0)
    made.runner.stopped(stopped, "DEADLINE", 0)
    made.runner.stopped(both, "CANCELLED", 0)
    words = {}
    for _ in range(3):
        update = await made.updates.final()
        words[update.task_id] = update.result.status
    assert words == {"t1": "cancelled", "t2": "failure", "t3": "cancelled"}
    made.runner.give_back()
    assert (await made.updates.final()).rejected.reason == "DRAINING"
    assert made.updates.credits == [3, 2]
    made.updates.changed = asyncio.Semaphore(0)
    # The slot of what was handed back is taken too, until its handler returns.
    for names in (("t1", "t2"), ("t4",)):
        for name in names:
            gates[name].set()
        await made.updates.changed.acquire()
    assert made.updates.credits == [3, 2, 3, 4]
    finals = [one.task_id for one in made.updates.all if one.WhichOneof("update") in ("result", "rejected")]
    assert sorted(finals) == ["t1", "t2", "t3", "t4"]
    assert not made.link.reports.leases.holds(handed_back)
    assert not made.link.reports.leases.holds(timed)


async def test_a_task_that_no_thread_can_be_begun_for_is_given_back_and_the_worker_goes_on(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def hold(long: bool) -> dict[str, bool]:
        return {"ended": not long or may_end.wait(5)}

    made = bench(hold, slots=3)
    made.offer("hold", {"long": True}, task_id="t1")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        made.offer("hold", {"long": False}, task_id="t2")
        rejected = (await made.updates.final()).rejected
    assert (rejected.reason, rejected.HasField("retry_after")) == ("BUSY", True)
    assert (await made.result("hold", {"long": False}, task_id="t3")).data.data == b'{"ended":true}'
    may_end.set()
    assert (await made.updates.final()).result.data.data == b'{"ended":true}'


def no_more(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
