"""The worker door: who is let in as whom, by certificate and by token, and who no longer, while a session lives."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from grpc_health.v1 import health_pb2, health_pb2_grpc

from holon.clock import ManualClock, SystemClock
from holon.rxon.v1 import worker_pb2
from holon.security.certificates import KeyPair
from holon.security.identity import certificates_in
from holon.security.revocation import load_lists
from holon.security.trust import Trust
from tests.integration.admission import REVOKED, admission, end_of, rules, trusting
from tests.integration.grpc_node import (
    GUARD,
    WORKER_TOKEN,
    Node,
    Wire,
    a_node,
    authority,
    hello,
    reason_of,
    result,
    updates,
    worker_files,
)
from tests.integration.holons_below import identity
from tests.integration.token_calls import TOKENS, exchange
from tests.integration.token_calls import refused as refused_token
from tests.integration.worker_certificates import certificate_of, intermediate, issue, revoke

CODE = grpc.StatusCode
OWN = "the-own-token-of-a-worker-of-this-node"
MISMATCH = (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH")


async def who(node: Node, files: KeyPair | str | None, claimed: str = "", metadata: Any = None) -> Any:
    """Which worker somebody is, or how the door refuses it."""
    wire = await node.stream(files, metadata)
    try:
        await wire.send(hello(worker_id=claimed))
        await wire.expect("welcome")
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(error)
    present = {session.worker_id for session in node.engine.dispatcher.sessions}
    await wire.close()
    await node.until(lambda: not list(node.engine.dispatcher.sessions))
    return present.pop()


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def test_a_certificate_is_the_worker_that_the_file_says(tmp_path: Path) -> None:
    text = '[gpu-1]\ncn = "host-*"\n["cpu-*"]\nspiffe = "spiffe://example.org/cpu/*"\n[both]\ncn = "host-7"'
    host, other = (issue(tmp_path, authority("ours"), name) for name in ("host-7", "host-8"))
    named = issue(tmp_path, authority("ours"), "gpu-1", uris=["spiffe://example.org/cpu/7"])
    async with a_node(admission=admission(tmp_path, text)) as node:
        assert await who(node, other) == "gpu-1"
        assert await who(node, other, "gpu-1") == "gpu-1"
        assert await who(node, other, "both") == MISMATCH
        assert await who(node, host, "both") == "both"
        assert await who(node, host) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
        assert await who(node, named, "cpu-9") == "cpu-9"
        assert await who(node, named) == "spiffe://example.org/cpu/7"
        assert await who(node, named, "gpu-1") == MISMATCH


async def test_the_certificate_of_an_id_that_the_file_gives_to_another_is_not_that_worker(tmp_path: Path) -> None:
    async with a_node(admission=admission(tmp_path, '[w1]\ncn = "host-7"')) as node:
        assert await who(node, "w1") == MISMATCH
        assert await who(node, "w1", "w1") == MISMATCH
        assert await who(node, "w2") == "w2"


async def test_replicas_share_a_certificate_where_the_file_says_so(tmp_path: Path) -> None:
    async with a_node(admission=admission(tmp_path, "[w1]\nreplicas = true")) as node:
        first, second = [await node.stream("w1") for _ in range(2)]
        for wire, worker_id in ((first, "w1.a"), (second, "w1.b")):
            await wire.send(hello(worker_id=worker_id))
            await wire.expect("welcome")
        assert {session.worker_id for session in node.engine.dispatcher.sessions} == {"w1.a", "w1.b"}
        assert await end_of(await refused(node, "w1", "w2.a")) == MISMATCH
        assert await end_of(await refused(node, "w2", "w2.a")) == MISMATCH


async def test_what_is_no_id_is_no_workers_whatever_a_pattern_stands_for(tmp_path: Path) -> None:
    text = f'["gpu-*"]\ncn = "gpu-*"\n["cpu-*"]\ntoken = "{OWN}"'
    async with a_node(admission=admission(tmp_path, text), token_port=0) as node:
        assert await who(node, "gpu-1", "gpu-2") == "gpu-2"
        for claimed in ("gpu-\n\x1b[31m", "gpu-\u00e9", "gpu-" + "x" * 250, "gpu-" + "x" * 500_000):
            assert await who(node, "gpu-1", claimed) == MISMATCH
        node.workers_port = node.workers.token_port
        for claimed in ("cpu-\n", "cpu-" + "x" * 500_000, "@x"):
            assert await who(node, None, claimed, bearer(OWN)) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")


async def refused(node: Node, files: str, claimed: str) -> Wire:
    wire = await node.stream(files)
    await wire.send(hello(worker_id=claimed))
    return wire


async def test_who_is_refused_for_a_token_is_told_what_to_send(tmp_path: Path) -> None:
    wrong, nobody = bearer(OWN + "x"), (("x-other", "1"),)
    cases = (
        (nobody, CODE.UNAUTHENTICATED, "no worker token in the metadata; send `authorization: Bearer <token>`"),
        (wrong, CODE.UNAUTHENTICATED, "no worker of this node has this worker token"),
        (bearer(OWN), CODE.INVALID_ARGUMENT, "worker_id is needed: several workers share this token"),
    )
    async with a_node(secure=False, admission=admission(tmp_path, f'["cpu-*"]\ntoken = "{OWN}"')) as node:
        for metadata, code, told in cases:
            wire = await node.stream(None, metadata)
            with suppress(grpc.aio.AioRpcError):
                await wire.send(hello(worker_id=""))
            end = await wire.end()
            assert (end.code(), told in (end.details() or "")) == (code, True), end.details()


async def test_f05_f06_a_worker_with_a_token_of_its_own_is_not_let_in_with_the_shared_one(tmp_path: Path) -> None:
    async with a_node(secure=False, admission=admission(tmp_path, f'[w1]\ntoken = "{OWN}"')) as node:
        assert await who(node, None, "w1") == MISMATCH
        assert await who(node, None, "w1", bearer(OWN)) == "w1"
        assert await who(node, None, "", bearer(OWN)) == "w1"
        assert await who(node, None, "w2", bearer(OWN)) == MISMATCH
        assert await who(node, None, "w2") == "w2"
        assert await who(node, None, "") == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
        assert await who(node, None, "w1", bearer("another")) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_door_for_both_has_a_port_for_each(tmp_path: Path) -> None:
    text = f'[w1]\ncn = "w1"\n[w2]\ntoken = "{OWN}"'
    async with a_node(admission=admission(tmp_path, text), token_port=0) as node:
        assert await who(node, "w1") == "w1"
        assert await who(node, "w2", "w2") == "w2"
        node.workers_port = node.workers.token_port
        assert await who(node, None, "w2", bearer(OWN)) == "w2"
        assert await who(node, None, "w3", bearer(WORKER_TOKEN)) == "w3"
        assert await who(node, None, "w1", bearer(WORKER_TOKEN)) == MISMATCH
        assert await who(node, "w1", "w1", ()) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        node.workers_port = None
        end = await (await node.stream(None)).end()
        assert end.code() is CODE.UNAVAILABLE


async def test_the_shared_token_proves_no_id_that_a_table_names_whatever_the_table_says(tmp_path: Path) -> None:
    text = '[w1]\n["gpu-*"]\n[w2]\nreplicas = true\n[child]\nkind = "holon"\ncn = "host-7"'
    async with a_node(admission=admission(tmp_path, text), token_port=0, tokens=TOKENS) as node:
        node.workers_port = node.workers.token_port
        for claimed in ("w1", "gpu-7", "w2", "w2.a", "child"):
            assert await who(node, None, claimed, bearer(WORKER_TOKEN)) == MISMATCH
            # Nor does an access token, which it would be exchanged for.
            channel = await node.worker_channel(None)
            assert await refused_token(channel, worker_token=WORKER_TOKEN, worker_id=claimed) == MISMATCH
        wire = await node.stream(None, bearer(WORKER_TOKEN))
        await wire.send(hello(worker_id="child", instance_id="i1", holon_identity=identity()))
        end = await wire.end()
        assert (end.code(), reason_of(end)) == MISMATCH
        assert "GLOBAL_WORKER_TOKEN is only for workers without a table" in (end.details() or "")
        assert await who(node, None, "w9", bearer(WORKER_TOKEN)) == "w9"


@pytest.mark.parametrize(("table", "token"), [("", WORKER_TOKEN), (f'[w1]\ncn = "w1"\ntoken = "{OWN}"', OWN)])
@pytest.mark.parametrize("exchanged", [False, True])
async def test_no_session_replaces_one_that_something_stronger_has_proven(
    tmp_path: Path, table: str, token: str, exchanged: bool
) -> None:
    async with a_node(admission=admission(tmp_path, table), token_port=0, tokens=TOKENS) as node:
        certified = await node.worker("w1")
        node.workers_port = node.workers.token_port
        shown = token
        if exchanged:
            channel = await node.worker_channel(None)
            shown = (await exchange(channel, worker_token=token, worker_id="w1")).access_token
        weaker = await node.stream(None, bearer(shown))
        await weaker.send(hello(worker_id="w1", instance_id="x"))
        end = await weaker.end()
        assert (end.code(), reason_of(end)) == (CODE.UNAVAILABLE, "WEAKER_PROOF")
        assert "a certificate is stronger than a token" in (end.details() or "")
        await certified.beat()
        await certified.close()
        await node.until(lambda: not list(node.engine.dispatcher.sessions))
        weaker = await node.stream(None, bearer(shown))
        await weaker.send(hello(worker_id="w1", instance_id="x"))
        await weaker.expect("welcome")
        node.workers_port = None
        certified = await node.worker("w1")
        assert await end_of(weaker) == (CODE.ABORTED, "SESSION_REPLACED")
        await certified.beat()


@pytest.mark.parametrize(
    "what",
    [
        {"uses": []},
        {"uris": ["https://example.org/w1"]},
        {"uris": ["spiffe://example.org/a", "spiffe://example.org/b"]},
        {"extensions": [x509.BasicConstraints(ca=True, path_length=None)]},
        {"common_name": "w1\0evil"},
        {"common_name": "spiffe://example.org/w1"},
        {"rsa_bits": 1024},
    ],
)
async def test_a_certificate_that_tls_takes_and_that_names_no_worker_is_refused(
    tmp_path: Path, what: dict[str, Any]
) -> None:
    async with a_node(admission=admission(tmp_path)) as node:
        assert await end_of(await node.stream(issue(tmp_path, authority("ours"), **what))) == (
            CODE.UNAUTHENTICATED,
            "CERTIFICATE_INVALID",
        )


async def test_an_rsa_key_of_2048_bits_is_taken_and_of_a_weaker_one_it_is_said_what_to_issue(tmp_path: Path) -> None:
    async with a_node(admission=admission(tmp_path)) as node:
        assert await who(node, issue(tmp_path, authority("ours"), rsa_bits=2048)) == "w1"
        end = await (await node.stream(issue(tmp_path, authority("ours"), rsa_bits=1024))).end()
        assert end.details() == (
            "the client certificate has an RSA key of 1024 bits; issue one with RSA of 2048 bits or more, or with P-256"
        )


@pytest.mark.parametrize("by", ["worker", "thumbprint", "serial", "list"])
async def test_who_is_revoked_is_out_at_once_and_does_not_come_back(tmp_path: Path, by: str) -> None:
    files = worker_files("w1")
    leaf = certificate_of(files)
    who_lets_in = admission(tmp_path)
    async with a_node(admission=who_lets_in) as node:
        channel = await node.worker_channel(files)
        wire = Wire(channel.stream_stream("/holon.rxon.v1.WorkerService/Session")())
        await wire.send(hello())
        await wire.expect("welcome")
        other = await node.worker("w2")
        if by == "list":
            who_lets_in.use(trust=trusting(lists=revoke(tmp_path / "crl.pem", authority("ours"), files)))
        else:
            entry = {
                "worker": 'worker = "w*1"',
                "thumbprint": f'thumbprint = "{leaf.fingerprint(SHA256()).hex()}"',
                "serial": f'issuer = "{leaf.issuer.rfc4514_string()}"\nserial = "{leaf.serial_number:X}"',
            }[by]
            who_lets_in.use(rules=rules(tmp_path, f'[[revoked]]\n{entry}\nreason = "stolen"'))
        assert await end_of(wire) == REVOKED
        again = Wire(channel.stream_stream("/holon.rxon.v1.WorkerService/Session")())
        with suppress(grpc.aio.AioRpcError):
            await again.send(hello())
        assert await end_of(again) == REVOKED
        if by != "worker":
            health: Any = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health.Check(health_pb2.HealthCheckRequest(), timeout=GUARD)
            assert (caught.value.code(), reason_of(caught.value)) == REVOKED
        await other.beat()


async def test_the_tasks_of_a_revoked_worker_go_to_another_and_its_results_count_no_more(tmp_path: Path) -> None:
    who_lets_in = admission(tmp_path)
    async with a_node(admission=who_lets_in, lease=3600) as node:
        wire = await node.worker("w1")
        job_id = await node.create()
        offer = await wire.offer()
        await wire.send(
            updates(
                worker_pb2.TaskUpdate(
                    task_id=offer.task_id, lease_id=offer.lease_id, accepted=worker_pb2.TaskAccepted()
                )
            )
        )
        await wire.beat()
        other = await node.worker("w2")
        who_lets_in.use(rules=rules(tmp_path, '[[revoked]]\nworker = "w1"'))
        assert await end_of(wire) == REVOKED
        again = await other.offer()
        assert (again.job_id, again.attempt) == (job_id, 2)
        await other.send(updates(result(again)))
        assert (await other.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        assert (await node.ended(job_id)).status == "finished"


async def test_a_certificate_whose_authority_left_is_out_at_once(tmp_path: Path) -> None:
    who_lets_in = admission(tmp_path)
    async with a_node(admission=who_lets_in) as node:
        wire = await node.worker("w1")
        who_lets_in.use(trust=trusting("ours", "theirs"))
        await wire.beat()
        who_lets_in.use(trust=trusting("theirs"))
        assert await end_of(wire) == (CODE.UNAUTHENTICATED, "CERTIFICATE_UNTRUSTED")
        assert await end_of(await node.stream("w1")) == (CODE.UNAUTHENTICATED, "CERTIFICATE_UNTRUSTED")


async def test_f12_whoever_the_new_file_does_not_let_in_is_out_and_the_others_stay(tmp_path: Path) -> None:
    new = OWN[::-1]
    text = f'[w1]\ntoken = "{OWN}"\n[w2]\ntoken = "{OWN}2"\n[w3]\ntoken = "{OWN}3"'
    who_lets_in = admission(tmp_path, text)
    async with a_node(secure=False, admission=who_lets_in) as node:
        wires = {}
        for worker_id, token in {"w1": OWN, "w2": f"{OWN}2", "w3": f"{OWN}3", "w4": WORKER_TOKEN}.items():
            wires[worker_id] = await node.stream(None, bearer(token))
            await wires[worker_id].send(hello(worker_id=worker_id))
            await wires[worker_id].expect("welcome")
        who_lets_in.use(rules=rules(tmp_path, f'[w1]\ntoken = "{new}"\n[w3]\ntoken = "{OWN}3"\n[w4]\ntoken = "{OWN}4"'))
        assert await end_of(wires["w1"]) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await end_of(wires["w2"]) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await end_of(wires["w4"]) == MISMATCH
        await wires["w3"].beat()
        again = await node.stream(None, bearer(new))
        await again.send(hello(worker_id="w1"))
        await again.expect("welcome")


@pytest.mark.parametrize("trusted_itself", [False, True])
async def test_a_certificate_that_comes_through_an_intermediate_is_taken_and_with_its_list_refused(
    tmp_path: Path, trusted_itself: bool
) -> None:
    between = intermediate(tmp_path, authority("ours"))
    files = issue(tmp_path, between, "w1", above=[between.files.certificate])
    trusted = [authority("ours"), between][: 1 + trusted_itself]
    lists = revoke(tmp_path / "crl.pem", authority("ours"), between.files)

    def trust(revoked: bool) -> Trust:
        pem = b"".join(one.files.certificate.read_bytes() for one in trusted)
        return Trust(pem, load_lists(str(lists), certificates_in(pem), SystemClock().now_ms()) if revoked else ())

    who_lets_in = admission(tmp_path, trust=trust(revoked=False))
    async with a_node(admission=who_lets_in) as node:
        assert await who(node, files) == "w1"
        wire = await node.stream(files)
        await wire.send(hello())
        await wire.expect("welcome")
        who_lets_in.use(trust=trust(revoked=True))
        assert await end_of(wire) == REVOKED


@pytest.mark.parametrize("strict", [True, False])
async def test_once_a_list_has_expired_its_authoritys_certificates_are_refused_or_kept(
    tmp_path: Path, strict: bool
) -> None:
    clock = ManualClock(SystemClock().now_ms())
    lists = revoke(tmp_path / "crl.pem", authority("ours"), lasts=timedelta(hours=1))
    who_lets_in = admission(tmp_path, trust=trusting(lists=lists, strict=strict), clock=clock)
    async with a_node(admission=who_lets_in, clock=clock, silence=0.2) as node:
        wire = await node.worker("w1")
        expires = wire.welcome.session_expires_at.ToMilliseconds()
        assert (expires <= clock.now_ms() + 3_600_000) is strict
        clock.advance(3_700_000)
        if strict:
            assert await end_of(wire) == (CODE.UNAUTHENTICATED, "REVOCATION_UNKNOWN")
            assert await end_of(await node.stream("w1")) == (CODE.UNAUTHENTICATED, "REVOCATION_UNKNOWN")
        else:
            again = await node.worker("w1")
            await again.beat()


async def test_a_revoked_caller_is_refused_whatever_it_calls(tmp_path: Path) -> None:
    who_lets_in = admission(tmp_path, '[[revoked]]\nthumbprint = "' + "0" * 64 + '"')
    async with a_node(admission=who_lets_in, reflection=True) as node:
        who_lets_in.use(trust=trusting("theirs"))
        channel = await node.worker_channel(worker_files("w1"))
        for method in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
                       "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):  # fmt: skip
            call: Any = channel.stream_stream(method)()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert reason_of(caught.value) == "CERTIFICATE_UNTRUSTED"
