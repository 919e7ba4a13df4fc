"""What operations of the store in Redis are called with."""

from __future__ import annotations

import tracemalloc

from holon.domain.fanning import MAX_BRANCHES
from holon.domain.job import Job, Status
from holon.domain.matching import Need
from holon.domain.task import SUCCESS, Outcome, RetryPolicy, task_id
from holon.ports import NewFanOut, NewJob, NewTask, Result, Step
from holon.storage.redis.arguments import new_jobs_arguments, results_arguments, step_arguments
from holon.stores.sealing import Seal

LIMIT = 1 << 20


def new_job(job_id: str, blueprint: str = "bp", need: Need = Need("t")) -> NewJob:  # noqa: B008  it never changes
    job = Job(job_id, blueprint, "ann", {}, "start")
    task = NewTask(task_id(job_id, 0, 0), 0, need, b"{}", 0.0, 0, None, None, RetryPolicy(3, 1_000, 1_000))
    decided = Job(job_id, blueprint, "ann", {}, "start", Status.WAITING_FOR_WORKER, 1)
    return NewJob(job, (), step=Step("", f"commit of {job_id}", decided, tasks=(task,)))


def result(job_id: str) -> Result:
    decided = Job(job_id, "bp", "ann", {}, "end", Status.FINISHED, 2)
    outcome = Outcome(SUCCESS, b"{}", worker_id="w")
    return Result(task_id(job_id, 0, 0), f"lease of {job_id}", outcome, step=Step("", f"commit of {job_id}", decided))


def test_what_jobs_have_alike_is_said_in_the_same_words() -> None:
    [_, _, *one] = new_jobs_arguments([new_job("0-a")], LIMIT, Seal(), {})
    [_, _, *other] = new_jobs_arguments([new_job("0-b")], LIMIT, Seal(), {})
    own = {"0-a", "commit of 0-a", "0-a-0-0"}
    assert [word for word in one if word not in other and isinstance(word, str)] == sorted(own, key=one.index)
    assert len(one) <= 9


def test_what_each_job_needs_of_its_own_is_not_remembered() -> None:
    """A client says which skills its job may use: whatever it says, it takes no memory of the node for good."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(50):
            skills = tuple(f"{n}-{m}-{'x' * 100}" for m in range(256))
            one = new_job("0-a", need=Need("t", allowed_skills=skills))
            new_jobs_arguments([one], LIMIT, Seal(), {})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 250_000


def test_what_results_have_alike_is_said_in_the_same_words() -> None:
    [_, _, *words] = results_arguments("w", [result("0-a"), result("0-b")], LIMIT, Seal())
    half = len(words) // 2
    assert half <= 11
    assert {"0-a-0-0", "lease of 0-a"} <= set(words[:half]) - set(words[half:])
    assert len(set(words[:half]) & set(words[half:])) >= 5


def test_the_largest_fan_out_is_no_more_words_than_any_server_takes() -> None:
    """A Redis before 7 closes the connection of whoever sends over 2^20 words, each time anew."""
    one = new_job("0-a").step
    assert one is not None
    task = one.tasks[0]

    def words(branches: int) -> int:
        fan = NewFanOut(branches, False, ((task,) * branches,))
        return len(step_arguments(Step("c", "commit", one.job, tasks=(task,), fan_out=fan), LIMIT, Seal()))

    each = words(2) - words(1)
    assert words(1) + MAX_BRANCHES * each < 2**20 * 0.9
