"""Handlers and what becomes of them: injection, errors as codes, limits, and exactly one final word for each offer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
import pytest

from holon.rxon.v1 import worker_pb2
from holon.wire.address import NodeUrl
from holon.worker import Cancelled, Progress, Result, TaskError
from holon.worker.leases import Lease
from holon.worker.link import Link
from holon.worker.runner import Runner
from holon.worker.session import Session
from holon.worker.settings import Credentials
from holon.worker.skill import skill_of
from holon.worker.threads import Threads
from holon.worker.timing import Timing
from holon.worker.tracing import Tracing

TIMING = Timing(accept_after=0.005, stop_patience=0.01, progress_every=0.005)


class Updates:
    """Stands for a session: keeps what is told."""

    max_payload_bytes = 10_000

    def __init__(self) -> None:
        self.all: list[worker_pb2.TaskUpdate] = []
        self.credits: list[int] = []
        self.changed = asyncio.Semaphore(0)
        self._news: asyncio.Queue[worker_pb2.TaskUpdate] = asyncio.Queue()

    def put(self, encoded: bytes) -> None:
        update = worker_pb2.TaskUpdate.FromString(encoded)
        self.all.append(update)
        self._news.put_nowait(update)

    def set_credits(self, number: int, by_skill: Mapping[str, int]) -> None:
        self.credits.append(number)
        self.changed.release()

    async def next(self) -> worker_pb2.TaskUpdate:
        async with asyncio.timeout(5):
            return await self._news.get()

    async def final(self) -> worker_pb2.TaskUpdate:
        """The next final word."""
        while (update := await self.next()).WhichOneof("update") not in ("result", "rejected"):
            pass
        return update


class Bench:
    """A runner with its link, which is never connected; what it tells goes to `updates`."""

    def __init__(
        self,
        *handlers: Callable[..., Any],
        slots: int = 2,
        statuses: tuple[str, ...] = (),
        price: int | None = None,
        timing: Timing = TIMING,
    ) -> None:
        self.updates = Updates()
        self.link = Link([NodeUrl("localhost", 1, secure=True)], Credentials(), worker_pb2.Hello(), slots, timing)
        self.link.reports.session = cast("Session", self.updates)
        skills = [skill_of(handler, statuses=statuses, price=price) for handler in handlers]
        # Async handlers share this loop: the runner does not care which it is.
        self.runner = Runner(self.link, skills, slots, asyncio.get_running_loop(), timing, Tracing())

    def offer(self, skill: str, params: Any = None, task_id: str = "t1", **more: Any) -> Lease:
        lease = Lease(task_id, f"{task_id}-lease")
        offer = worker_pb2.TaskOffer(
            task_id=task_id, lease_id=lease.lease_id, job_id="j1", attempt=2, skill=skill, **more
        )
        if params is not None:
            offer.params.data = params if isinstance(params, bytes) else orjson.dumps(params)
        self.link.reports.leases.take(lease)
        self.runner.offered(lease, offer)
        return lease

    async def result(self, skill: str, params: Any = None, **more: Any) -> worker_pb2.TaskResult:
        self.offer(skill, params, **more)
        return (await self.updates.final()).result


@pytest.fixture
async def closing() -> AsyncIterator[list[Bench]]:
    benches: list[Bench] = []
    yield benches
    for bench in benches:
        bench.runner.close()


Make = Callable[..., Bench]


@pytest.fixture
def bench(closing: list[Bench]) -> Make:
    def make(*handlers: Callable[..., Any], **options: Any) -> Bench:
        closing.append(Bench(*handlers, **options))
        return closing[-1]

    return make


async def test_reserved_names_are_injected_into_both_kinds_of_handlers(bench: Make) -> None:
    def facts(
        task_id: str, job_id: str, attempt: int, deadline: float | None, params: dict[str, Any]
    ) -> dict[str, Any]:
        return {"all": [task_id, job_id, attempt, deadline, params]}

    async def facts_async(
        task_id: str, job_id: str, attempt: int, deadline: float | None, params: dict[str, Any]
    ) -> dict[str, Any]:
        return facts(task_id, job_id, attempt, deadline, params)

    made = bench(facts, facts_async)
    for skill in ("facts", "facts_async"):
        result = await made.result(skill, {"n": 1}, deadline={"seconds": 100, "nanos": 500_000_000})
        assert orjson.loads(result.data.data) == {"all": ["t1", "j1", 2, 100.5, {"n": 1}]}
        assert result.duration.nanos > 0


async def test_a_sync_handler_runs_in_a_thread_and_an_async_one_on_the_handlers_loop(bench: Make) -> None:
    seen: dict[str, threading.Thread] = {}

    def sync() -> None:
        seen["sync"] = threading.current_thread()

    async def coro() -> None:
        seen["coro"] = threading.current_thread()

    made = bench(sync, coro)
    await made.result("sync")
    await made.result("coro")
    assert seen["coro"] is threading.current_thread()
    assert seen["sync"] is not threading.current_thread()
    assert seen["sync"].daemon


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "status", "data"),
    [
        (None, "success", b""),
        ({"n": 1}, "success", b'{"n":1}'),
        (Point(3), "success", b'{"x":3}'),
        (Result("skipped", {"why": "old"}), "skipped", b'{"why":"old"}'),
        (Result(data=Point(4)), "success", b'{"x":4}'),
        ({"set": {1}, 5: True}, "success", b'{"set":[1],"5":true}'),
    ],
)
async def test_what_a_handler_returns_is_its_result(bench: Make, value: Any, status: str, data: bytes) -> None:
    def give() -> Any:
        return value

    result = await bench(give, statuses=("skipped",)).result("give")
    assert (result.status, result.data.data) == (status, data)


class Aside(BaseException):
    """Like gevent's Timeout: no Exception."""


class Mute(TaskError):
    """Lacks what each TaskError has."""

    def __init__(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (TaskError("SECURITY_ERROR", "no", {"why": [1]}), "SECURITY_ERROR", "no"),
        (ValueError("odd"), "TRANSIENT_ERROR", "ValueError: odd"),
        (KeyError(), "TRANSIENT_ERROR", "KeyError"),
        (SystemExit(3), "TRANSIENT_ERROR", "SystemExit: 3"),
        (RuntimeError("x" * 5000), "TRANSIENT_ERROR", "RuntimeError: xxx"),
        (Aside("over"), "TRANSIENT_ERROR", "Aside: over"),
        (TaskError(cast("str", 404), cast("str", ValueError("odd")), {"why": [1]}), "404", "odd"),
        (OSError("no caf\udce9"), "TRANSIENT_ERROR", "OSError: no caf\\udce9"),
        (Mute(), "TRANSIENT_ERROR", "AttributeError: "),
    ],
)
async def test_what_a_handler_raises_is_a_failure_with_a_code(
    bench: Make, error: BaseException, code: str, says: str
) -> None:
    def sync() -> None:
        raise error

    async def coro() -> None:
        raise error

    made = bench(sync, coro)
    for skill in ("sync", "coro"):
        result = await made.result(skill)
        assert (result.status, result.error.code) == ("failure", code)
        assert result.error.message.startswith(says)
        assert len(result.error.message) <= 1000
        if type(error) is TaskError:
            assert result.error.details.data == b'{"why":[1]}'


async def test_a_keyboard_interrupt_in_a_thread_is_a_failure_like_another(bench: Make) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert (await bench(interrupted).result("interrupted")).error.message == "KeyboardInterrupt"


async def test_details_that_cannot_be_written_are_replaced_by_their_text(bench: Make) -> None:
    def odd() -> None:
        raise TaskError("PERMANENT_ERROR", "odd", {"file": "caf\udce9"})

    assert orjson.loads((await bench(odd).result("odd")).error.details.data) == {"text": r"{'file': 'caf\udce9'}"}


async def test_a_thread_outlives_what_its_calls_raise(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise Aside

    done = threading.Event()
    threads = Threads("hands")
    threads.submit(broken)
    threads.submit(done.set)
    threads.close()
    assert await asyncio.to_thread(done.wait, 5)
    for thread in [one for one in threading.enumerate() if one.name.startswith("hands-")]:
        await asyncio.to_thread(thread.join, 5)
    assert [record.getMessage() for record in caplog.records] == ["a call of hands raised"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1], "not list; wrap it in a dict"),
        ("text", "not str; wrap it in a dict"),
        (Result("odd"), "the status 'odd' is not declared"),
        ({"n": object()}, "data.n is a object, which JSON cannot hold"),
        ({"n": {1: (0, {b"x"})}}, "data.n.1[1][0] is a bytes, which JSON cannot hold"),
        ({"n": 1 << 70}, "data.n is an integer of over 64 bits"),
    ],
)
async def test_what_cannot_be_a_result_is_a_permanent_failure_that_says_where(
    bench: Make, caplog: pytest.LogCaptureFixture, value: Any, said: str
) -> None:
    def give() -> Any:
        return value

    result = await bench(give).result("give")
    assert (result.status, result.error.code) == ("failure", "PERMANENT_ERROR")
    assert said in result.error.message
    # Its handler has raised nothing, so there is no place in it to show.
    (told,) = caplog.records
    assert told.getMessage() == f"task t1: of its handler Skill(give): {result.error.message}"
    assert told.exc_info is None


@pytest.mark.parametrize("params", [{}, {"n": "1"}, [], b"{", b"nan"])
async def test_params_against_the_schema_are_an_invalid_input(bench: Make, params: Any) -> None:
    def skill(n: int) -> None:
        raise AssertionError

    result = await bench(skill).result("skill", params)
    assert (result.status, result.error.code) == ("failure", "INVALID_INPUT_ERROR")


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


@pytest.mark.parametrize(
    ("reason", "word"), [("CANCELLED", "cancelled"), ("DEADLINE", "TIMEOUT_ERROR"), ("LEASE_LOST", "STALE_OFFER")]
)
async def test_a_stop_ends_as_its_reason_says_and_only_a_cancel_as_cancelled(
    bench: Make, reason: str, word: str
) -> None:
    async def raises() -> None:
        await asyncio.Event().wait()

    async def returns() -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Result("cancelled")
        raise AssertionError("nothing sets that event")

    made = bench(raises, returns)
    for skill in ("raises", "returns"):
        lease = made.offer(skill)
        assert (await made.updates.next()).HasField("accepted")
        made.runner.stopped(lease, reason, 5)
        update = await made.updates.final()
        assert word in (update.result.status, update.result.error.code, update.rejected.reason)


@pytest.mark.parametrize(("says", "cost"), [(None, 7), (3, 3)], ids=["as declared", "as its handler says"])
async def test_what_was_begun_and_is_given_back_costs_what_a_try_costs(
    bench: Make, says: int | None, cost: int
) -> None:
    async def works() -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Result("cancelled", cost=says)
        raise AssertionError("nothing sets that event")

    made = bench(works, price=7)
    lease = made.offer("works")
    assert (await made.updates.next()).HasField("accepted")
    made.runner.stopped(lease, "LEASE_LOST", 5)
    assert (await made.updates.final()).rejected.cost == cost
    # Who leaves does not wait for what the handler says.
    made.offer("works", task_id="t2")
    assert (await made.updates.next()).HasField("accepted")
    made.runner.give_back()
    update = await made.updates.final()
    assert (update.rejected.reason, update.rejected.cost) == ("DRAINING", 7)


async def test_work_done_before_a_lost_lease_was_noticed_is_still_told(bench: Make) -> None:
    def late(cancelled: Cancelled) -> dict[str, int]:
        assert cancelled.sleep(5)
        return {"n": 1}

    made = bench(late)
    made.runner.stopped(made.offer("late"), "LEASE_LOST", 5)
    assert (await made.updates.final()).result.data.data == b'{"n":1}'


async def test_a_handler_whose_loop_is_closed_under_it_gives_its_task_back(bench: Make) -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    made = bench(endless)
    made.offer("endless")
    assert (await made.updates.next()).HasField("accepted")
    (task,) = (one for one in asyncio.all_tasks() if one.get_name() == "task-t1")
    task.cancel()
    assert (await made.updates.final()).rejected.reason == "DRAINING"


async def test_a_handler_that_is_closed_with_its_loop_gives_its_task_back(bench: Make) -> None:
    async def closed() -> None:
        raise GeneratorExit

    made = bench(closed)
    made.offer("closed")
    assert (await made.updates.final()).rejected.reason == "DRAINING"


async def test_a_cancel_of_the_handlers_own_is_a_failure_like_another(bench: Make) -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    async def confused() -> None:
        task = asyncio.create_task(inner())
        await asyncio.sleep(0)
        task.cancel()
        await task

    assert (await bench(confused).result("confused")).error.code == "TRANSIENT_ERROR"


@pytest.mark.parametrize("ends", ["returns", "fails", "waits"])
async def test_a_handler_that_cancels_itself_has_an_outcome_and_frees_its_slot(bench: Make, ends: str) -> None:
    async def itself() -> dict[str, int]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if ends == "fails":
            raise TaskError("SPENT", "no more of it")
        if ends == "waits":
            await asyncio.sleep(0)
        return {"n": 1}

    made = bench(itself, slots=1)
    # With one slot the second would be given back, had the first one kept it.
    for number in range(2):
        update = await _final(made, f"t{number}")
        assert update.WhichOneof("update") == "result"
        result = update.result
        if ends == "returns":
            assert (result.status, result.data.data) == ("success", b'{"n":1}')
        else:
            assert (result.status, result.error.code) == ("failure", "SPENT" if ends == "fails" else "TRANSIENT_ERROR")


async def _final(made: Bench, task_id: str) -> worker_pb2.TaskUpdate:
    made.offer("itself", task_id=task_id)
    return await made.updates.final()


async def test_the_time_left_of_a_resumed_lease_is_its_new_limit(bench: Make) -> None:
    async def endless() -> None:
        await asyncio.Event().wait()

    made = bench(endless)
    lease = made.offer("endless", time_left={"seconds": 3600})
    made.runner.resumed(lease, 0.001)
    assert (await made.updates.final()).result.error.code == "TIMEOUT_ERROR"


async def test_progress_is_cut_to_a_hundred_and_the_newest_wins(bench: Make) -> None:
    go_on = threading.Event()

    def work(progress: Progress) -> None:
        for percent in (-5, 50, 250):
            progress(percent, "on")
        progress(float("nan"), "caf\udce9")
        assert go_on.wait(60)

    made = bench(work)
    made.offer("work")
    seen: list[worker_pb2.TaskProgress] = []
    while not seen or seen[-1].message != r"caf\udce9":
        update = await made.updates.next()
        if update.HasField("progress"):
            seen.append(update.progress)
    assert all(0 <= one.percent <= 100 for one in seen)
    assert not seen[-1].HasField("percent")
    go_on.set()
    await made.updates.final()
    assert made.updates.all[0].HasField("accepted")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
async def test_the_last_progress_goes_before_the_final_word(bench: Make, is_async: bool, fails: bool) -> None:
    told = threading.Event()

    def count(progress: Progress) -> None:
        for number in range(1, 20):
            progress(number * 5, f"i={number}")
        progress(100, "all done")
        if fails:
            raise TaskError("PERMANENT_ERROR", "on purpose")

    def work(progress: Progress) -> None:
        progress(0, "begun")
        assert told.wait(60)
        count(progress)

    async def work_async(progress: Progress) -> None:
        progress(0, "begun")
        await asyncio.to_thread(told.wait, 60)
        count(progress)

    made = bench(work_async if is_async else work, timing=replace(TIMING, progress_every=3600))
    made.offer("work_async" if is_async else "work")
    while (await made.updates.next()).progress.message != "begun":
        pass
    told.set()
    await made.updates.final()
    kinds = [update.WhichOneof("update") for update in made.updates.all]
    assert kinds == ["accepted", "progress", "progress", "result"]
    last = made.updates.all[-2].progress
    assert (last.percent, last.message) == (100, "all done")


async def test_no_progress_is_told_of_a_task_after_its_stop(bench: Make) -> None:
    async def work(progress: Progress) -> None:
        progress(1, "first")
        try:
            await asyncio.Event().wait()
        finally:
            progress(2, "stopping")

    made = bench(work, timing=replace(TIMING, progress_every=3600))
    lease = made.offer("work")
    while (await made.updates.next()).progress.message != "first":
        pass
    made.runner.stopped(lease, "CANCELLED", 60)
    assert (await made.updates.final()).result.status == "cancelled"
    assert "stopping" not in {update.progress.message for update in made.updates.all}


async def test_cancelled_is_seen_from_threads_and_from_loops_with_its_reason(bench: Make) -> None:
    def thread(cancelled: Cancelled) -> dict[str, Any]:
        before = bool(cancelled)
        assert cancelled.sleep(5)
        return {"why": cancelled.reason, "before": before}

    async def loop(cancelled: Cancelled) -> dict[str, Any]:
        waiting = asyncio.create_task(cancelled.wait())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await waiting
            await cancelled.wait()
        return {"why": cancelled.reason, "before": False}

    made = bench(thread, loop)
    for skill in ("thread", "loop"):
        lease = made.offer(skill)
        assert (await made.updates.next()).HasField("accepted")
        made.runner.stopped(lease, "CANCELLED", 5)
        assert (await made.updates.final()).result.data.data == b'{"why":"CANCELLED","before":false}'


async def test_a_handler_that_raises_after_its_stop_was_cancelled(bench: Make) -> None:
    def stubborn(cancelled: Cancelled) -> None:
        assert cancelled.sleep(5)
        raise ValueError("interrupted")

    made = bench(stubborn)
    lease = made.offer("stubborn")
    made.runner.stopped(lease, "CANCELLED", 5)
    assert (await made.updates.final()).result.status == "cancelled"
