"""How busy the machine is, as the SDK measures it: by what Linux tells, and nothing where nobody tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.rxon.v1 import worker_pb2
from holon.worker.load import Meter

MEMORY = "MemTotal:  8000 kB\nMemFree: 100 kB\nMemAvailable:  6000 kB\nBuffers: 1 kB\n"


class Machine:
    """A folder such as Linux has, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = 100.0
        self.ticks(0, 0)
        (folder / "meminfo").write_text(MEMORY)

    def ticks(self, busy: int, idle: int) -> None:
        """So much time of all processors has passed since they began."""
        (self.folder / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 900 900\ncpu0 1 1 1 1 1 1 1 1 1 1\n")

    def meter(self) -> Meter:
        return Meter(self.folder, lambda: self.time)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def told(load: worker_pb2.WorkerLoad | None) -> worker_pb2.WorkerLoad:
    assert load is not None
    return load


def test_memory_is_that_of_now_and_processors_are_measured_from_one_heartbeat_to_the_next(machine: Machine) -> None:
    meter = machine.meter()
    first = told(meter.read())
    assert (first.memory_used_bytes, first.memory_total_bytes) == (2000 * 1024, 8000 * 1024)
    assert not first.HasField("cpu_percent")
    for busy, idle, percent in ((25, 75, 25.0), (125, 75, 100.0), (125, 175, 0.0)):
        machine.time += 10
        machine.ticks(busy, idle)
        assert told(meter.read()).cpu_percent == percent


def test_idle_time_that_goes_back_is_no_load_of_less_than_none_or_more_than_all(machine: Machine) -> None:
    meter = machine.meter()
    machine.ticks(100, 100)
    meter.read()
    for busy, idle, percent in ((250, 50, 100.0), (200, 150, 0.0)):
        machine.time += 10
        machine.ticks(busy, idle)
        assert told(meter.read()).cpu_percent == percent
    machine.time += 10
    assert not told(meter.read()).HasField("cpu_percent"), "no time has passed"


def test_heartbeats_that_follow_at_once_measure_nothing_anew(machine: Machine) -> None:
    meter = machine.meter()
    assert meter.read() is not None
    machine.time += 0.5
    assert meter.read() is None
    machine.time += 0.5
    assert meter.read() is not None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("stat", None),
        ("stat", ""),
        ("stat", "cpu 1 2\n"),
        ("stat", "cpu a b c d e f g h\n"),
        ("meminfo", None),
        ("meminfo", "MemTotal: 1 kB\n"),
        ("meminfo", "MemTotal: many kB\n"),
    ],
)
def test_where_nobody_tells_nothing_is_told(machine: Machine, file: str, text: str | None) -> None:
    if text is None:
        (machine.folder / file).unlink()
    else:
        (machine.folder / file).write_text(text)
    assert machine.meter().read() is None
