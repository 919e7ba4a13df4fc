"""The worker door: its files are read again while sessions live; a bad one changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from holon.clock import Clock, SystemClock
from holon.config import Config
from holon.engine.reloading import Reloading
from holon.errors import ConfigError, FailedPrecondition
from holon.node.admitting import open_admission, tls_part, workers_part
from holon.node.following import Following
from holon.security.certificates import issue_server
from holon.security.tls import TlsPaths
from holon.security.tls_files import TlsFiles
from holon.telemetry.audit import By
from tests.integration.grpc_node import Node, a_node, authority, end_of, hello, worker_files
from tests.integration.worker_certificates import revoke

REVOKED = (grpc.StatusCode.PERMISSION_DENIED, "REVOKED")
SOON = 0.02
DAY_MS = 86_400_000


@asynccontextmanager
async def a_site(
    folder: Path, workers: str = "# Nobody is special.", clock: Clock | None = None
) -> AsyncIterator[tuple[Node, Reloading]]:
    """A node whose door goes by files in a folder: `ca.pem`, the lists in `lists`, and `workers.toml`.

    Its own certificate lasts three days.
    """
    server = issue_server(authority("ours"), folder, days=3)
    ca, lists, file = folder / "ca.pem", folder / "lists", folder / "workers.toml"
    ca.write_bytes(authority("ours").files.certificate.read_bytes())
    lists.mkdir()
    revoke(lists / "ours.pem", authority("ours"), lasts=timedelta(days=9))
    write(file, workers)
    config = Config({"WORKERS_CONFIG_PATH": str(file)})
    clock = clock or SystemClock()
    tls = TlsFiles(TlsPaths(str(server.certificate), str(server.key), str(ca), lists=str(lists)), clock)
    admission = open_admission(config, tls, clock)
    reloading = Reloading([workers_part(config, admission), tls_part(tls)])
    following = Following(reloading, every=SOON)
    async with a_node(tls=tls, admission=admission) as node:
        loops = [asyncio.create_task(loop) for loop in (reloading.run(), following.run())]
        try:
            yield node, reloading
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


async def test_a_new_revocation_list_ends_who_is_in_it(tmp_path: Path) -> None:
    async with a_site(tmp_path) as (node, _):
        wires = [await node.worker(worker_id) for worker_id in ("w1", "w2")]
        revoke(tmp_path / "lists/ours.pem", authority("ours"), worker_files("w1"))
        assert await end_of(wires[0]) == REVOKED
        await wires[1].beat()


async def test_a_new_revocation_list_counts_though_the_nodes_own_certificate_has_ended(tmp_path: Path) -> None:
    clock = SystemClock()
    async with a_site(tmp_path, clock=clock) as (node, _):
        wire = await node.worker("w1")
        clock.not_before(clock.now_ms() + 4 * DAY_MS)
        revoke(tmp_path / "lists/ours.pem", authority("ours"), worker_files("w1"), lasts=timedelta(days=9))
        assert await end_of(wire) == REVOKED


async def test_an_authority_that_leaves_the_file_takes_its_workers_with_it(tmp_path: Path) -> None:
    async with a_site(tmp_path) as (node, _):
        wire = await node.worker("w1")
        (tmp_path / "lists/ours.pem").unlink()
        revoke(tmp_path / "lists/theirs.pem", authority("theirs"))
        (tmp_path / "ca.pem").write_bytes(authority("theirs").files.certificate.read_bytes())
        assert await end_of(wire) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_UNTRUSTED")


async def test_a_bad_list_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with a_site(tmp_path) as (node, _):
        wire = await node.worker("w1")
        (tmp_path / "lists/ours.pem").write_bytes(b"noise")
        await until(lambda: "cannot be used" in caplog.text)
        await wire.beat()
        revoke(tmp_path / "lists/ours.pem", authority("ours"), worker_files("w1"))
        assert await end_of(wire) == REVOKED


async def test_f12_a_workers_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    async with a_site(tmp_path) as (node, reloading):
        wires = [await node.worker(worker_id) for worker_id in ("w1", "w2", "w3")]
        write(tmp_path / "workers.toml", '[w1]\ncn = "another"')
        assert await end_of(wires[0]) == (grpc.StatusCode.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
        write(tmp_path / "workers.toml", "[w2")
        with pytest.raises(FailedPrecondition) as caught:
            await reloading.reload(["workers"], By("grpc"))
        assert "workers.toml" in caught.value.message
        await wires[1].beat()
        again = await node.stream("w1")
        await again.send(hello())
        assert await end_of(again) == (grpc.StatusCode.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
        write(tmp_path / "workers.toml", '[[revoked]]\nworker = "w2"')
        assert await reloading.reload(["workers"], By("grpc")) == ("workers",)
        assert await end_of(wires[1]) == REVOKED
        await wires[2].beat()


def test_a_node_does_not_start_with_a_bad_file(tmp_path: Path) -> None:
    write(tmp_path / "workers.toml", "[w1]\nkey = 1\n[w2]\ntoken = 7")
    with pytest.raises(ConfigError) as caught:
        open_admission(Config({"WORKERS_CONFIG_PATH": str(tmp_path / "workers.toml")}), None, SystemClock())
    assert len(caught.value.details) == 2


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.01)
