"""Files of a worker that are written while it runs: it takes them, and whole ones only."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.security.certificates import KeyPair, issue_worker, open_authority
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    ScriptedNode,
    serving,
    worker_for,
)
from tests.integration.worker_sdk.skills import nothing
from tests.log_watch import LogWatch


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
async def test_a_file_that_is_empty_for_a_while_is_told_and_tried_again(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path, which: str
) -> None:
    own = own_files(certificates, tmp_path)
    worker = worker_for(own, node)
    worker.skill(nothing)
    path = {"ca": own.ca, "certificate": own.worker.certificate, "key": own.worker.key}[which]
    whole = path.read_bytes()
    with LogWatch(f"{path} is empty") as watch:
        async with serving(worker):
            stream = await node.welcomed()
            path.write_bytes(b"")
            stream.end(grpc.StatusCode.UNAVAILABLE)
            await asyncio.wait_for(watch.seen.wait(), GUARD)
            path.write_bytes(whole)
            await node.welcomed("s2")


async def test_a_worker_moves_to_a_stream_with_its_new_certificate_before_it_leaves_the_old_one(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path
) -> None:
    own = own_files(certificates, tmp_path)
    worker = worker_for(own, node)
    worker.skill(nothing)
    async with serving(worker):
        old = await node.welcomed("old", heartbeat_interval=Duration(nanos=50_000_000))
        renewed = renew(own, certificates, tmp_path)
        new = await node.session()
        assert (old.certificate != renewed, new.certificate == renewed) == (True, True)
        assert not old.half_closed.is_set()
        await new.welcome("new")
        await old.wait(old.half_closed)


async def test_a_worker_that_is_refused_for_its_old_certificate_comes_back_with_its_new_one_at_once(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path
) -> None:
    own = own_files(certificates, tmp_path)
    worker = worker_for(own, node, timing=replace(FAST, reconnect_refused=2 * GUARD, refused_first=2 * GUARD))
    worker.skill(nothing)
    async with serving(worker):
        stream = await node.welcomed()
        await stream.message("heartbeat")
        renewed = renew(own, certificates, tmp_path)
        stream.end(grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
        assert (await node.session()).certificate == renewed


@pytest.mark.parametrize("opened", [True, False])
async def test_a_worker_that_was_refused_comes_back_as_soon_as_there_is_a_new_certificate(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path, opened: bool
) -> None:
    own = own_files(certificates, tmp_path)
    timing = replace(FAST, reconnect_refused=2 * GUARD, refused_first=2 * GUARD, look_at_files=0.02)
    worker = worker_for(own, node, timing=timing)
    worker.skill(nothing)
    with LogWatch("trying again") as watch:
        async with serving(worker):
            stream = await node.welcomed() if opened else await node.session()
            stream.end(grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")
            await asyncio.wait_for(watch.seen.wait(), GUARD)
            renewed = renew(own, certificates, tmp_path)
            assert (await node.session()).certificate == renewed


def own_files(certificates: Certificates, folder: Path) -> Certificates:
    """The same, in files that a test may write to."""
    ca, pair = certificates.ca, certificates.worker
    copies = [Path(shutil.copy(path, folder)) for path in (ca, pair.certificate, pair.key)]
    return Certificates(copies[0], certificates.server, KeyPair(*copies[1:]))


def renew(own: Certificates, certificates: Certificates, folder: Path) -> bytes:
    """Write a new certificate and its key over those of a worker; the certificate."""
    pair = issue_worker(open_authority(certificates.ca.parent), folder / "new", "w1")
    shutil.copy(pair.key, own.worker.key)
    shutil.copy(pair.certificate, own.worker.certificate)
    return pair.certificate.read_bytes()
