"""Acceptance: who may work, and under which name."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from holon.client import Client, MachineLoad
from holon.config import Config
from holon.errors import ConfigError
from holon.node.admitting import read_rules
from holon.rxon.v1 import token_pb2, types_pb2, worker_pb2
from holon.testing import RunningNode
from tests.integration.cases.site import GUARD, LOOK_S, Start, a_wire, create, ended, history, one_task, wired
from tests.integration.grpc_node import (
    SESSION,
    Wire,
    fields_of,
    hello,
    json_payload,
    offering,
    reason_of,
    result,
    updates,
)

CODE = grpc.StatusCode


async def test_f01_a_registration_is_answered_with_the_protocols_version_and_the_sessions_terms(start: Start) -> None:
    terms = {"HEARTBEAT_INTERVAL_SECONDS": 2.0, "WORKER_SILENCE_SECONDS": 7.0, "TASK_LEASE_SECONDS": 9.0}
    async with start(one_task(), **terms) as node, a_wire(node, "w1") as wire:
        welcome = wire.welcome
        assert welcome.protocol_version
        assert welcome.session_id
        assert welcome.node_id == node.config.INSTANCE_ID
        assert welcome.heartbeat_interval.ToMilliseconds() == 2_000
        assert welcome.silence_timeout.ToMilliseconds() == 7_000
        assert welcome.lease_duration.ToMilliseconds() == 9_000
        assert types_pb2.CAPABILITY_RESUME in welcome.capabilities
        assert not welcome.leases
        job_id = await create(node, "one_task", {})
        await wire.send(updates(result(await wire.offer())))
        assert (await ended(node, job_id)).status == "finished"


async def test_f01_every_registration_has_a_session_of_its_own(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as one, a_wire(node, "w2") as two:
        assert one.welcome.session_id != two.welcome.session_id


async def test_f07_the_certificate_alone_is_the_identity_and_no_token_is_needed(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "gpu-worker-01") as wire:
        job_id = await create(node, "one_task", {})
        await wire.send(updates(result(await wire.offer())))
        assert (await ended(node, job_id)).status == "finished"
        (told,) = await history(node, job_id, "task_finished")
        assert told.worker_id == "gpu-worker-01"


async def test_f07_a_claim_of_the_certificates_own_id_is_fine_and_of_another_is_refused(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1", claimed="w1"), wired(node, "w2", claimed="w1") as liar:
        end = await liar.end()
        assert (end.code(), reason_of(end)) == (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH")


async def test_f07_a_token_sent_along_changes_nothing(start: Start) -> None:
    async with start(one_task(), GLOBAL_WORKER_TOKEN="the-token-of-the-workers-of-this-node") as node:
        for token in ("the-token-of-the-workers-of-this-node", "another"):
            async with a_wire(node, "w1", metadata=(("x-worker-token", token),)) as wire:
                job_id = await create(node, "one_task", {})
                await wire.send(updates(result(await wire.offer())))
                assert (await ended(node, job_id)).status == "finished"
                (told,) = await history(node, job_id, "task_finished")
                assert told.worker_id == "w1"


async def test_f07_without_a_certificate_there_is_no_way_in(start: Start) -> None:
    async with start(one_task(), GLOBAL_WORKER_TOKEN="the-token-of-the-workers-of-this-node") as node:
        trusted = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
        target = node.worker_url.removeprefix("grpcs://")
        async with grpc.aio.secure_channel(target, trusted) as channel:
            opened: Any = channel.stream_stream(SESSION)(
                metadata=(("x-worker-token", "the-token-of-the-workers-of-this-node"),)
            )
            end = await Wire(opened).end()
            assert end.code() is CODE.UNAVAILABLE


# What is no registration -----------------------------------------------------------------------------------------

TOKEN = "the-token-of-the-workers-of-this-node"
OPEN = {"TLS_CERT_PATH": "", "TLS_KEY_PATH": "", "TLS_CA_PATH": "", "GLOBAL_WORKER_TOKEN": TOKEN}


async def refused_plainly(port: int, first: worker_pb2.SessionRequest) -> grpc.aio.AioRpcError:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        opened: Any = channel.stream_stream(SESSION)(metadata=(("x-worker-token", TOKEN),))
        wire = Wire(opened)
        await wire.send(first)
        return await wire.end()


@pytest.mark.parametrize("worker_id", ["", "with space", "with/slash", "new\nline", "ünïcode", "-dash", "x" * 300])
async def test_f03_an_id_that_is_none_is_refused_and_named(start: Start, worker_id: str) -> None:
    async with start(one_task(), **OPEN) as node:
        end = await refused_plainly(node.ports.worker, hello(worker_id=worker_id))
        assert (end.code(), reason_of(end)) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
        assert fields_of(end) == ["worker_id"]


INCOMPLETE: dict[str, tuple[worker_pb2.SessionRequest, str]] = {
    "nothing offered": (worker_pb2.SessionRequest(hello=worker_pb2.Hello(credits=1)), "catalog"),
    "a skill without a name": (hello(offering(""), credits=1), "catalog.offerings.0.skill"),
    "a skill twice": (hello(offering("t"), offering("t"), credits=1), "catalog.offerings.1"),
    "credits below zero": (hello(credits=-1), "credits"),
    "a schema that is none": (
        hello(offering(input_schema=json_payload([1])), credits=1),
        "catalog.offerings.0.input_schema",
    ),
    "a name that is too long": (hello(offering("t" * 129), credits=1), "catalog.offerings.0.skill"),
}


@pytest.mark.parametrize("what", INCOMPLETE)
async def test_f03_a_registration_that_lacks_something_is_refused_and_the_field_named(start: Start, what: str) -> None:
    first, field = INCOMPLETE[what]
    async with start(one_task()) as node, a_wire(node, "good") as good:
        pair = node.certificate("w1")
        trusted, key, chain = (path.read_bytes() for path in (node.folder / "ca.pem", pair.key, pair.certificate))
        target = node.worker_url.removeprefix("grpcs://")
        secure = grpc.ssl_channel_credentials(trusted, key, chain)
        async with grpc.aio.secure_channel(target, secure) as channel:
            opened: Any = channel.stream_stream(SESSION)()
            wire = Wire(opened)
            await wire.send(first)
            end = await wire.end()
        assert (end.code(), reason_of(end)) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
        assert fields_of(end) == [field]
        job_id = await create(node, "one_task", {})
        await good.send(updates(result(await good.offer())))
        assert (await ended(node, job_id)).status == "finished"


# Sessions --------------------------------------------------------------------------------------------------------


async def test_the_newer_of_two_workers_of_one_id_has_it_and_the_work_goes_on_there(start: Start) -> None:
    async with start(one_task()) as node, a_wire(node, "w1") as older:
        job_id = await create(node, "one_task", {})
        first = await older.offer()
        async with a_wire(node, "w1") as newer:
            assert (await older.expect("go_away")).reason == "REPLACED"
            again = await newer.offer()
            assert (again.task_id, again.attempt) == (first.task_id, 2)
            assert again.lease_id != first.lease_id
            await newer.send(updates(result(again, {"by": "newer"})))
            assert (await ended(node, job_id)).result == {"by": "newer"}


async def test_a_worker_never_holds_more_than_it_granted(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1", max_concurrent=3)
        running, peak = 0, 0
        together = asyncio.Barrier(3)

        @worker.skill("t")
        async def t() -> None:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await together.wait()
            running -= 1

        async with worker:
            jobs = [await create(node, "one_task", {}) for _ in range(12)]
            for job_id in jobs:
                assert (await ended(node, job_id)).status == "finished"
        assert peak == 3


# What proves a worker, and for how long --------------------------------------------------------------------------

OWN = "the-own-token-of-one-worker-of-this-node"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of it")
async def test_a_worker_shows_how_busy_its_machine_is(start: Start) -> None:
    async with start(one_task()) as node:
        worker = node.new_worker("w1")
        worker.skill("t")(_nothing)

        async with worker:
            await worker.ready()
            async with asyncio.timeout(GUARD):
                while (load := await load_of(node)) is None:  # noqa: ASYNC110  nothing tells of it
                    await asyncio.sleep(LOOK_S)
            assert load.memory_used_bytes is not None
            assert load.memory_total_bytes is not None
            assert 0 < load.memory_used_bytes < load.memory_total_bytes


async def _nothing() -> None: ...


async def load_of(node: RunningNode) -> MachineLoad | None:
    """What the only worker of a node says of its machine."""
    [worker] = [one async for one in node.client.node.list_workers()]
    return worker.load


async def comes_in(node: RunningNode, worker_id: str, token: str) -> tuple[grpc.StatusCode, str] | None:
    """How the door for tokens refuses a worker; None when it does not."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.ports.worker}") as channel:
        opened: Any = channel.stream_stream(SESSION)(metadata=(("authorization", f"Bearer {token}"),))
        wire = Wire(opened)
        try:
            await wire.send(hello(worker_id=worker_id))
            await wire.expect("welcome")
        except grpc.aio.AioRpcError as error:
            return error.code(), reason_of(error)
        return None


def workers_file(folder: Path, text: str) -> str:
    path = folder / "workers.toml"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


async def test_f04_without_a_token_or_with_a_wrong_one_nobody_comes_in(start: Start) -> None:
    async with start(one_task(), **OPEN) as node:
        for token in ("", "wrong"):
            assert await comes_in(node, "w1", token) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_f05_f06_f12_a_workers_own_token_shuts_out_the_global_one_and_a_changed_one_the_old(
    start: Start, tmp_path: Path
) -> None:
    file = workers_file(tmp_path, f'[w1]\ntoken = "{OWN}"\n[w2]\ntoken = "{OWN}-2"')
    async with start(one_task(), **OPEN, WORKERS_CONFIG_PATH=file) as node, reloading(node) as operator:
        assert await comes_in(node, "w1", TOKEN) == (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
        assert await comes_in(node, "w1", OWN) is None
        assert await comes_in(node, "w2", f"{OWN}-2") is None
        assert await comes_in(node, "another", TOKEN) is None
        workers_file(tmp_path, f'[w1]\ntoken = "{OWN}-new"')
        assert await operator.node.reload(["workers"]) == ("workers",)
        assert await comes_in(node, "w1", f"{OWN}-new") is None
        for worker_id, old in (("w1", OWN), ("w2", f"{OWN}-2")):
            assert await comes_in(node, worker_id, old) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_short_token_of_a_worker_is_good_on_loopback_and_nowhere_else(start: Start, tmp_path: Path) -> None:
    file = workers_file(tmp_path, '[gpu-worker-01]\ntoken = "worker-secret-456"')
    async with start(one_task(), **OPEN, WORKERS_CONFIG_PATH=file) as node:
        assert await comes_in(node, "gpu-worker-01", "worker-secret-456") is None
    outside = Config({}, GRPC_HOST="0.0.0.0", WORKERS_CONFIG_PATH=file)
    with pytest.raises(ConfigError, match=r"token: has under 32 .* if workers can connect from other machines"):
        read_rules(outside)


@asynccontextmanager
async def reloading(node: RunningNode) -> AsyncIterator[Client]:
    """The operator's client of a node without TLS."""
    async with Client(f"grpc://127.0.0.1:{node.ports.client}", node.token) as client:
        yield client


async def answered(call: Any, request: bytes) -> bytes:
    """The answer of a node that has read its keys: one that has just begun says that it has not."""
    async with asyncio.timeout(GUARD):
        while True:
            try:
                answer: bytes = await call(request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not CODE.UNAVAILABLE:
                    raise
                await asyncio.sleep(LOOK_S)
            else:
                return answer


async def test_f09_a_certificate_buys_a_token_of_15_minutes_for_its_worker_alone(start: Start) -> None:
    async with start(one_task()) as node:
        pair = node.certificate("w1")
        trusted, key, chain = (path.read_bytes() for path in (node.folder / "ca.pem", pair.key, pair.certificate))
        target = node.worker_url.removeprefix("grpcs://")
        async with grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(trusted, key, chain)) as channel:
            certificate = token_pb2.CertificateCredential()
            request = token_pb2.ExchangeTokenRequest(request_id="r1", certificate=certificate)
            exchange: Any = channel.unary_unary("/holon.rxon.v1.TokenService/ExchangeToken")
            given = token_pb2.ExchangeTokenResponse.FromString(await answered(exchange, request.SerializeToString()))
            assert (given.worker_id, given.expires_in.seconds) == ("w1", 900)
            for claimed, refused in (("", None), ("w2", (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH"))):
                opened: Any = channel.stream_stream(SESSION)(
                    metadata=(("authorization", f"Bearer {given.access_token}"),)
                )
                wire = Wire(opened)
                await wire.send(hello(worker_id=claimed))
                if refused is None:
                    await wire.expect("welcome")
                else:
                    end = await wire.end()
                    assert (end.code(), reason_of(end)) == refused


async def test_g17_a_worker_whose_table_lacks_its_token_does_not_come_in_with_that_of_all(
    start: Start, tmp_path: Path
) -> None:
    file = workers_file(tmp_path, "[w1]")
    with pytest.raises(ConfigError, match=r"\[w1\]: has no token"):
        async with start(one_task(), **OPEN, WORKERS_CONFIG_PATH=file):
            pass


async def test_g17_a_bad_workers_file_keeps_the_node_from_starting_and_says_why(start: Start, tmp_path: Path) -> None:
    file = workers_file(tmp_path, '[w1]\ntoken = "short"\n[w2]\ncertificate = "x"')
    with pytest.raises(ConfigError) as caught:
        async with start(one_task(), WORKERS_CONFIG_PATH=file):
            pass
    assert [one.field for one in caught.value.details] == [f"{file} [w1] token", f"{file} [w2] certificate"]
