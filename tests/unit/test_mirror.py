"""The jobs that a process committed last and that wait for a worker, as it remembers them: few enough, and lightly."""

from __future__ import annotations

import gc

import pytest

from holon.domain.job import Job, Status
from holon.domain.value import replace
from holon.engine import fusing
from holon.engine.fusing import Mirror

# {"n": 1} and {}, in a list.
SIZE = 12


def waiting(name: str, n: int = 1) -> Job:
    return Job(name, "bp", "ann", {"n": n}, "start", Status.WAITING_FOR_WORKER)


def test_a_job_is_remembered_as_it_was_last_while_it_waits_and_given_out_once() -> None:
    mirror = Mirror()
    mirror.keep(waiting("a", 1))
    mirror.keep(waiting("a", 2))
    assert repr(mirror) == f"Mirror(jobs=1, bytes={SIZE})"
    assert mirror.take("a") == waiting("a", 2)
    assert mirror.take("a") is None
    mirror.keep(waiting("a"))
    mirror.keep(replace(waiting("a"), status=Status.RUNNING))
    mirror.keep(replace(waiting("b"), state_history={"x": "y" * fusing.LARGEST}))
    assert (mirror.take("a"), repr(mirror)) == (None, "Mirror(jobs=0, bytes=0)")


@pytest.mark.parametrize(("bound", "most"), [("MOST_JOBS", 2), ("MOST_BYTES", 2 * SIZE)])
def test_of_too_many_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    monkeypatch.setattr(fusing, bound, most)
    mirror = Mirror()
    for name in "abca":
        mirror.keep(waiting(name))
    assert repr(mirror) == f"Mirror(jobs=2, bytes={2 * SIZE})"
    assert [name for name in "abc" if mirror.take(name) is not None] == ["a", "c"]


def test_the_garbage_collector_walks_one_object_for_each() -> None:
    mirror, count = Mirror(), 500
    gc.collect()
    before = len(gc.get_objects())
    for number in range(count):
        mirror.keep(waiting(str(number)))
    gc.collect()
    assert len(gc.get_objects()) - before < 1.5 * count
