"""A worker that is not let in, or finds nobody: what its log says, and when it comes again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from holon.security.certificates import open_authority
from holon.worker import Worker
from tests.integration.scripted_node import (
    FAST,
    GUARD,
    Certificates,
    ScriptedNode,
    make_certificates,
    serving,
    worker_for,
)
from tests.integration.worker_certificates import issue
from tests.integration.worker_sdk.skills import nothing
from tests.log_watch import LogWatch


async def test_a_refusal_is_an_error_in_the_log_with_a_hint_and_is_tried_again(
    node: ScriptedNode, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(worker):
        (await node.session()).end(grpc.StatusCode.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
        await node.welcomed()
    refusals = [one for one in caplog.records if one.levelno == logging.ERROR and "WORKER_ID" in one.message]
    assert len(refusals) == 1
    assert "check that WORKER_ID" in refusals[0].message


@pytest.mark.parametrize("code", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED])
async def test_who_has_no_place_where_it_comes_is_refused_but_who_loses_its_session_is_not(
    node: ScriptedNode, worker: Worker, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    async with serving(worker):
        (await node.session()).end(code, "no place")
        (await node.welcomed()).end(code, "no time")
        await node.welcomed()
    levels = {text: one.levelno for one in caplog.records for text in ("no place", "no time") if text in one.message}
    assert levels == {"no place": logging.ERROR, "no time": logging.WARNING}


async def test_who_is_shut_out_by_a_list_that_has_expired_comes_again_soon(
    node: ScriptedNode, certificates: Certificates
) -> None:
    """The operator renews it, and all workers of its authority have their leases still."""
    worker = worker_for(certificates, node, timing=replace(FAST, reconnect_refused=2 * GUARD, refused_first=2 * GUARD))
    worker.skill(nothing)
    async with serving(worker):
        (await node.welcomed()).end(grpc.StatusCode.UNAUTHENTICATED, "REVOCATION_UNKNOWN")
        (await node.session()).end(grpc.StatusCode.UNAUTHENTICATED, "REVOCATION_UNKNOWN")
        await node.welcomed()


async def test_a_node_of_another_authority_is_not_trusted_and_the_log_says_what_to_check(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path)
    worker = worker_for(Certificates(other.ca, certificates.server, certificates.worker), node)
    worker.skill(nothing)
    with LogWatch("TLS_CA_PATH") as watch:
        async with serving(worker):
            await asyncio.wait_for(watch.seen.wait(), GUARD)
    assert node.waiting == 0


async def test_where_nobody_listens_the_log_says_that_and_nothing_of_certificates(certificates: Certificates) -> None:
    async with ScriptedNode(certificates) as gone:
        pass
    worker = worker_for(certificates, gone)
    worker.skill(nothing)
    with LogWatch("(nothing listens there") as watch:
        async with serving(worker):
            await asyncio.wait_for(watch.seen.wait(), GUARD)


async def test_who_has_no_certificate_for_a_door_that_asks_for_one_is_told_so(
    node: ScriptedNode, certificates: Certificates
) -> None:
    worker = worker_for(certificates, node, worker_id="w1", cert_path="", key_path="")
    worker.skill(nothing)
    with LogWatch("requires a client certificate, and TLS_CERT_PATH is not set") as watch:
        async with serving(worker):
            await asyncio.wait_for(watch.seen.wait(), GUARD)


async def test_who_shows_a_certificate_that_has_expired_is_told_so_and_what_to_do(
    node: ScriptedNode, certificates: Certificates, tmp_path: Path
) -> None:
    own = issue(tmp_path, open_authority(certificates.ca.parent), lasts=timedelta(minutes=-1))
    worker = worker_for(Certificates(certificates.ca, certificates.server, own), node)
    worker.skill(nothing)
    with LogWatch(r"the certificate of this worker (TLS_CERT_PATH) expired at ") as watch:
        async with serving(worker):
            await asyncio.wait_for(watch.seen.wait(), GUARD)
    assert node.waiting == 0


async def test_the_next_address_is_tried_when_the_first_does_not_answer(
    certificates: Certificates, node: ScriptedNode
) -> None:
    async with ScriptedNode(certificates) as gone:
        pass
    worker = worker_for(certificates, gone, node)
    worker.skill(nothing)
    async with serving(worker):
        assert (await node.session()).hello.instance_id
