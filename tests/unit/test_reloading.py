"""Reloading: all parts or none, one at a time, and what is bad is said."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holon.engine.reloading import Apply, Changes, Part, Reloading
from holon.errors import ConfigError, FailedPrecondition, InvalidArgument, Violation
from holon.node.following import Following
from holon.telemetry.audit import By
from tests.audit_lines import audited

ME = By("grpc", "boss", "10.0.0.1:7", "00-aa-bb-01")


class File:
    """A part whose file says `next`; None is a bad one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.next: str | None = "old"
        self.fault: Exception | None = None
        self.inforce = "old"
        self.put = asyncio.Event()
        self.was_read = threading.Event()

    def part(self) -> Part:
        return Part(self.name, lambda: (), self.read)

    def read(self) -> Apply:
        said, fault = self.next, self.fault
        self.was_read.set()
        if fault is not None:
            raise fault
        if said is None:
            raise ConfigError(f"{self.name}.toml is bad", details=[Violation(f"{self.name}.toml", "is bad")])
        return lambda: self._take(said)

    def _take(self, said: str) -> Changes:
        self.inforce = said
        self.put.set()
        return [("client_added", self.name)]


def two() -> tuple[Reloading, File, File]:
    clients, workers = File("clients"), File("workers")
    clients.next = workers.next = "new"
    return Reloading([clients.part(), workers.part()]), clients, workers


async def test_everything_is_read_again_unless_targets_are_named() -> None:
    reloading, clients, workers = two()
    assert await reloading.reload(["workers"], ME) == ("workers",)
    assert (clients.inforce, workers.inforce) == ("old", "new")
    assert await reloading.reload((), ME) == ("clients", "workers")
    assert clients.inforce == "new"


async def test_a_bad_file_changes_nothing_of_any_part_and_every_bad_one_is_named() -> None:
    reloading, clients, workers = two()
    workers.next = None
    with pytest.raises(FailedPrecondition) as caught:
        await reloading.reload((), ME)
    assert clients.inforce == "old"
    assert caught.value.code == "CONFIG_INVALID"
    assert [one.field for one in caught.value.details] == ["workers.toml"]
    clients.next = None
    with pytest.raises(FailedPrecondition) as caught:
        await reloading.reload((), ME)
    assert [one.field for one in caught.value.details] == ["clients.toml", "workers.toml"]
    assert reloading.metrics.reloads.values == {("refused",): 2}


async def test_what_the_node_does_not_read_cannot_be_reloaded() -> None:
    reloading, clients, _ = two()
    with pytest.raises(
        InvalidArgument, match=r"'x' is not a reload target; use clients, workers, tls, keys, schedules"
    ):
        await reloading.reload(["clients", "x"], ME)
    with pytest.raises(FailedPrecondition, match="TLS_CERT_PATH") as caught:
        await reloading.reload(["clients", "tls"], ME)
    assert caught.value.code == "NOT_CONFIGURED"
    assert clients.inforce == "old"


async def test_files_are_read_beside_the_loop_and_one_reload_at_a_time() -> None:
    reading, go_on = threading.Event(), threading.Event()
    at_once = 0

    class Slow(File):
        def read(self) -> Apply:
            nonlocal at_once
            at_once += 1
            reading.set()
            assert go_on.wait(10)
            assert at_once == 1
            at_once -= 1
            return super().read()

    part = Slow("clients")
    reloading = Reloading([part.part()])
    first, second = (asyncio.create_task(reloading.reload((), ME)) for _ in range(2))
    await asyncio.to_thread(reading.wait, 10)
    go_on.set()
    assert {await first, await second} == {("clients",)}


@pytest.mark.parametrize("unexpected", [False, True])
async def test_a_signal_reloads_everything_also_after_one_that_failed(
    unexpected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    reloading, clients, workers = two()
    running = asyncio.create_task(reloading.run())
    workers.next = None
    workers.fault = RuntimeError("a fault of ours") if unexpected else None
    reloading.ask()
    assert await asyncio.to_thread(workers.was_read.wait, 10)
    workers.next, workers.fault = "new", None
    reloading.ask()
    async with asyncio.timeout(10):
        await workers.put.wait()
    assert (clients.inforce, workers.inforce) == ("new", "new")
    assert not running.done()
    running.cancel()
    told = audited(caplog)
    assert told[0] == {
        "act": "node_reloaded",
        "result": "INTERNAL" if unexpected else "CONFIG_INVALID",
        "via": "signal",
    }


async def test_who_asked_is_told_with_the_reload_and_with_all_that_it_changed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    reloading, _, _ = two()
    await reloading.reload(["clients"], ME)
    told = audited(caplog)
    by = {"who": "boss", "via": "grpc", "peer": "10.0.0.1:7", "trace": "00-aa-bb-01", "result": "ok", "on": "clients"}
    assert told == [{"act": act, **by} for act in ("node_reloaded", "client_added")]


async def test_a_part_that_fails_unexpectedly_ends_nothing_and_is_followed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "clients.toml"
    path.touch()
    part = File("clients")
    reloading = Reloading([Part("clients", lambda: (str(path),), part.read)])
    following = Following(reloading, again=0)
    part.fault, part.next = RuntimeError("a fault of ours"), "new"
    path.write_text("new")
    for _ in range(5):
        await following.look()
    # What a reload changed is audited, where somebody has asked for that.
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == [logging.ERROR]
    part.fault = None
    await following.look()
    assert part.inforce == "new"


async def test_a_file_that_is_written_while_it_is_read_changes_nothing_and_is_read_again_once_it_is_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "clients.toml"
    path.write_text("old")
    part = File("clients")
    writes: list[Callable[[], object]] = [lambda: path.write_text("")]

    def read() -> Apply:
        part.next = path.read_text()
        for write in writes:
            write()
        return part.read()

    reloading = Reloading([Part("clients", lambda: (str(path),), read)])
    with pytest.raises(FailedPrecondition, match="changed while it was read") as caught:
        await reloading.reload((), ME)
    assert [one.field for one in caught.value.details] == [str(path)]
    writes.clear()
    path.write_text("new")
    following = Following(reloading)
    await following.look()
    assert part.inforce == "old"
    await following.look()
    assert part.inforce == "new"
