"""The worker door: short-lived tokens, from what buys them to how they end, over real TLS."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from holon.clock import ManualClock, SystemClock
from holon.errors import ResourceExhausted
from holon.ports import StoreSettings
from holon.rxon.v1 import token_pb2, types_pb2, worker_pb2
from holon.security.admission import Admission
from holon.security.sts.exchange import TokenSettings
from holon.security.sts.families import KIND
from holon.security.sts.state import ENDED
from holon.security.worker_rules import WorkerRules
from holon.security.workers_file import load_workers
from holon.storage.memory import MemoryStorage
from tests.integration.grpc_node import (
    GUARD,
    SESSION,
    WORKER_TOKEN,
    Wire,
    a_node,
    authority,
    hello,
    reason_of,
    worker_files,
)
from tests.integration.worker_certificates import issue
from transports.grpc.session import Session

CODE = grpc.StatusCode
SERVICE = "/holon.rxon.v1.TokenService/"
OWN = "the-own-token-of-a-worker-of-this-node"
CERTIFICATE = token_pb2.CertificateCredential()
Given = token_pb2.ExchangeTokenResponse
TOKENS = TokenSettings()


async def exchange(channel: Any, request_id: str = "r1", **more: Any) -> Given:
    request = token_pb2.ExchangeTokenRequest(request_id=request_id, **more)
    return Given.FromString(await call(channel, "ExchangeToken", request))


async def call(channel: Any, method: str, request: Any) -> bytes:
    return bytes(await channel.unary_unary(SERVICE + method)(request.SerializeToString(), timeout=GUARD))


async def refused(channel: Any, request_id: str = "r1", **more: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await exchange(channel, request_id, **more)
    return caught.value.code(), reason_of(caught.value)


async def session(channel: Any, token: str, claimed: str = "") -> Wire:
    wire = Wire(channel.stream_stream("/holon.rxon.v1.WorkerService/Session")(metadata=bearer(token)))
    # The node may have refused it before that.
    with suppress(grpc.aio.AioRpcError):
        await wire.send(hello(worker_id=claimed))
    return wire


async def welcomed(channel: Any, token: str) -> Wire:
    wire = await session(channel, token)
    wire.welcome = await wire.expect("welcome")
    return wire


async def end_of(wire: Wire) -> tuple[grpc.StatusCode, str]:
    end = await wire.end()
    return end.code(), reason_of(end)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def rules(folder: Path, text: str) -> WorkerRules:
    path = folder / "workers.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_workers(str(path), WORKER_TOKEN)


def renewal(token: str) -> worker_pb2.SessionRequest:
    return worker_pb2.SessionRequest(reauthenticate=worker_pb2.Reauthenticate(access_token=token))


def key_of(given: Given) -> str:
    return str(jwt.get_unverified_header(given.access_token)["kid"])


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


# What buys a token, and what it opens -------------------------------------


async def test_f09_a_certificate_buys_a_token_for_its_worker_alone_and_for_its_connection_alone() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        given = await exchange(channel, certificate=CERTIFICATE)
        assert (given.worker_id, given.expires_in.seconds, list(given.scopes)) == ("w1", 900, ["session"])
        wire = await welcomed(channel, given.access_token)
        assert wire.welcome.session_expires_at == given.expires_at
        assert types_pb2.CAPABILITY_REAUTHENTICATE in wire.welcome.capabilities
        other = await session(channel, given.access_token, "w2")
        assert await end_of(other) == (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
        theirs = await session(await node.worker_channel(worker_files("w2")), given.access_token)
        assert await end_of(theirs) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await refused(channel, "r2", certificate=CERTIFICATE, worker_id="w2") == (
            CODE.PERMISSION_DENIED,
            "WORKER_ID_MISMATCH",
        )


async def test_a_static_token_buys_one_where_workers_have_no_certificates(tmp_path: Path) -> None:
    clock = SystemClock()
    admission = Admission(clock, rules(tmp_path, f'[w1]\ntoken = "{OWN}"'), shared=WORKER_TOKEN)
    async with a_node(secure=False, admission=admission, tokens=TOKENS) as node:
        channel = await node.worker_channel(None)
        given = await exchange(channel, worker_token=OWN)
        assert given.worker_id == "w1"
        await welcomed(channel, given.access_token)
        shared = await exchange(channel, "r2", worker_token=WORKER_TOKEN, worker_id="w2")
        assert shared.worker_id == "w2"
        wrong = await session(channel, shared.access_token, "w3")
        assert await end_of(wrong) == (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH")
        for more, reason in (
            ({"worker_token": WORKER_TOKEN, "worker_id": "w1"}, (CODE.PERMISSION_DENIED, "WORKER_ID_MISMATCH")),
            ({"worker_token": "another", "worker_id": "w2"}, (CODE.UNAUTHENTICATED, "TOKEN_INVALID")),
            ({"certificate": CERTIFICATE}, (CODE.UNAUTHENTICATED, "NO_CERTIFICATE")),
            ({"refresh_token": "hrt_x"}, (CODE.UNAUTHENTICATED, "TOKEN_INVALID")),
            ({}, (CODE.INVALID_ARGUMENT, "INVALID_ARGUMENT")),
            ({"worker_token": OWN, "scopes": ["all"]}, (CODE.INVALID_ARGUMENT, "INVALID_ARGUMENT")),
            ({"worker_token": OWN, "request_id": ""}, (CODE.INVALID_ARGUMENT, "INVALID_ARGUMENT")),
        ):
            asked: Any = {"request_id": "r3", **more}
            assert await refused(channel, **asked) == reason


async def test_what_a_certificate_bought_is_of_no_use_at_the_port_for_tokens() -> None:
    async with a_node(tokens=TOKENS, token_port=0) as node:
        given = await exchange(await node.worker_channel(worker_files("w1")), certificate=CERTIFICATE)
        node.workers_port = node.workers.token_port
        channel = await node.worker_channel(None)
        assert await end_of(await session(channel, given.access_token)) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await refused(channel, refresh_token=given.refresh_token) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_token_says_what_the_standards_say_and_its_key_is_published() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        token = (await exchange(channel, certificate=CERTIFICATE)).access_token
        answer = token_pb2.GetKeySetResponse.FromString(await call(channel, "GetKeySet", token_pb2.GetKeySetRequest()))
        header = jwt.get_unverified_header(token)
        (key,) = answer.keys
        assert (header["typ"], header["alg"], header["kid"]) == ("at+jwt", "EdDSA", key.key_id)
        assert not key.HasField("not_before")
        public: Any = load_der_public_key(key.public_key)
        claims = jwt.decode(token, public, algorithms=[key.algorithm], audience="holon-workers", issuer=answer.issuer)
        assert set(claims) == {"iss", "aud", "sub", "scope", "jti", "iat", "nbf", "exp", "cnf", "fam"}
        assert claims["exp"] - claims["iat"] in (900, 901)


# Refresh ------------------------------------------------------------------


async def test_a_refresh_token_buys_the_next_one_once_and_a_used_one_ends_all_of_them() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        first = await exchange(channel, "r1", certificate=CERTIFICATE)
        second = await exchange(channel, "r2", refresh_token=first.refresh_token)
        third = await exchange(channel, "r3", refresh_token=second.refresh_token)
        wire = await welcomed(channel, third.access_token)
        reused = (CODE.UNAUTHENTICATED, "TOKEN_REUSED")
        assert await refused(channel, "r4", refresh_token=first.refresh_token) == reused
        assert await end_of(wire) == (CODE.PERMISSION_DENIED, "REVOKED")
        assert await refused(channel, "r5", refresh_token=third.refresh_token) == (
            CODE.UNAUTHENTICATED,
            "TOKEN_INVALID",
        )
        assert await end_of(await session(channel, first.access_token)) == (CODE.PERMISSION_DENIED, "REVOKED")
        await welcomed(channel, (await exchange(channel, "r6", certificate=CERTIFICATE)).access_token)


async def test_a_lost_reply_is_given_again_for_30_s_while_its_token_was_not_used() -> None:
    clock = ManualClock(SystemClock().now_ms())
    async with a_node(tokens=TOKENS, clock=clock, silence=3600) as node:
        channel = await node.worker_channel(worker_files("w1"))
        first = await exchange(channel, "r1", certificate=CERTIFICATE)
        assert same(await exchange(channel, "r1", certificate=CERTIFICATE), first)
        second = await exchange(channel, "r2", refresh_token=first.refresh_token)
        clock.advance(30_000)
        assert same(await exchange(channel, "r2", refresh_token=first.refresh_token), second)
        assert (await refused(channel, "r1", certificate=CERTIFICATE)) == (CODE.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        clock.advance(1)
        reused = (CODE.UNAUTHENTICATED, "TOKEN_REUSED")
        assert await refused(channel, "r2", refresh_token=first.refresh_token) == reused


@pytest.mark.parametrize("change", ["another request", "the successor was used"])
async def test_a_used_token_with_any_other_request_ends_its_family(change: str) -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        first = await exchange(channel, "r1", certificate=CERTIFICATE)
        second = await exchange(channel, "r2", refresh_token=first.refresh_token)
        if change == "the successor was used":
            await exchange(channel, "r3", refresh_token=second.refresh_token)
        request_id = "r2" if change == "the successor was used" else "r9"
        reused = (CODE.UNAUTHENTICATED, "TOKEN_REUSED")
        assert await refused(channel, request_id, refresh_token=first.refresh_token) == reused


async def test_of_many_at_once_with_one_token_all_with_the_same_request_get_the_same() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        first = await exchange(channel, "r1", certificate=CERTIFICATE)
        both = await asyncio.gather(*(exchange(channel, "r2", refresh_token=first.refresh_token) for _ in range(5)))
        assert all(same(one, both[0]) for one in both)
        outcomes = await asyncio.gather(
            *(exchange(channel, f"r3-{n}", refresh_token=both[0].refresh_token) for n in range(5)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, Given) for one in outcomes) <= 1


async def test_a_renewed_certificate_of_the_same_worker_goes_on_with_the_family_and_anothers_does_not(
    tmp_path: Path,
) -> None:
    async with a_node(tokens=TOKENS) as node:
        first = await exchange(await node.worker_channel(worker_files("w1")), certificate=CERTIFICATE)
        thief = await node.worker_channel(worker_files("w2"))
        assert await refused(thief, "r2", refresh_token=first.refresh_token) == (
            CODE.PERMISSION_DENIED,
            "WORKER_ID_MISMATCH",
        )
        renewed = await node.worker_channel(issue(tmp_path, authority("ours"), "w1"))
        second = await exchange(renewed, "r3", refresh_token=first.refresh_token)
        await welcomed(renewed, second.access_token)
        old = await session(renewed, first.access_token)
        assert await end_of(old) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_refresh_tokens_end_by_themselves() -> None:
    clock = ManualClock(SystemClock().now_ms())
    async with a_node(tokens=TOKENS, clock=clock, silence=3600) as node:
        channel = await node.worker_channel(worker_files("w1"))
        given = await exchange(channel, certificate=CERTIFICATE)
        assert given.refresh_expires_in.seconds == 86_400
        clock.advance(86_400_000)
        assert await refused(channel, "r2", refresh_token=given.refresh_token) == (
            CODE.UNAUTHENTICATED,
            "TOKEN_INVALID",
        )


async def test_no_token_is_in_the_store_as_it_is() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        given = await exchange(channel, certificate=CERTIFICATE)
        (stored,) = await node.engine.store.documents(KIND)
        assert given.refresh_token.split(".")[2].encode() not in stored.value
        assert given.access_token.encode() not in stored.value


def same(one: Given, other: Given) -> bool:
    return (one.access_token, one.refresh_token, one.expires_at) == (
        other.access_token,
        other.refresh_token,
        other.expires_at,
    )


async def test_a_credential_that_proves_whatever_id_is_named_buys_a_token_and_no_family(tmp_path: Path) -> None:
    admission = Admission(
        SystemClock(), rules(tmp_path, f'["gpu-*"]\ntoken = "{OWN}"\n[cpu]\nreplicas = true'), shared=WORKER_TOKEN
    )
    async with a_node(secure=False, admission=admission, tokens=TOKENS) as node:
        channel = await node.worker_channel(None)
        for n, (token, worker_id) in enumerate(((OWN, "gpu-1"), (WORKER_TOKEN, "w1"), (WORKER_TOKEN, "cpu.7"))):
            given = await exchange(channel, f"r{n}", worker_token=token, worker_id=worker_id)
            assert (given.refresh_token, given.HasField("refresh_expires_in")) == ("", False)
            await welcomed(channel, given.access_token)
        assert await node.engine.store.documents(KIND) == []


async def test_a_worker_that_ends_one_family_after_the_other_takes_no_more_room_than_one() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        for n in range(70):
            given = await exchange(channel, f"r{n}", certificate=CERTIFICATE)
            await call(channel, "RevokeToken", token_pb2.RevokeTokenRequest(refresh_token=given.refresh_token))
        kinds = [await node.engine.store.documents(kind) for kind in (KIND, ENDED)]
        assert [len(documents) for documents in kinds] == [1, 1]
        assert all(len(document.value) < 8_192 for documents in kinds for document in documents)
        assert await end_of(await session(channel, given.access_token)) == (CODE.PERMISSION_DENIED, "REVOKED")


async def test_a_used_token_ends_its_family_also_where_the_store_has_no_room_to_tell_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        first = await exchange(channel, "r1", certificate=CERTIFICATE)
        second = await exchange(channel, "r2", refresh_token=first.refresh_token)
        put = node.engine.store.put_document

        async def full(kind: str, *rest: Any, **more: Any) -> int | None:
            if kind == ENDED:
                raise ResourceExhausted("there are as many as there may be", code="TOO_MANY_DOCUMENTS")
            return await put(kind, *rest, **more)

        monkeypatch.setattr(node.engine.store, "put_document", full)
        reused = (CODE.UNAUTHENTICATED, "TOKEN_REUSED")
        assert await refused(channel, "r3", refresh_token=first.refresh_token) == reused
        gone = (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await refused(channel, "r4", refresh_token=second.refresh_token) == gone
        monkeypatch.undo()
        # Who comes with one of it later has its access tokens end as well.
        wire = await welcomed(channel, second.access_token)
        assert await refused(channel, "r5", refresh_token=second.refresh_token) == gone
        assert await end_of(wire) == (CODE.PERMISSION_DENIED, "REVOKED")


# How sessions go on, and end ----------------------------------------------


async def test_a_session_ends_with_its_token_unless_a_new_one_comes_in_time() -> None:
    clock = ManualClock(SystemClock().now_ms())
    async with a_node(tokens=TOKENS, clock=clock, silence=0.5) as node:
        channel = await node.worker_channel(worker_files("w1"))
        given = await exchange(channel, certificate=CERTIFICATE)
        wire = await welcomed(channel, given.access_token)
        clock.advance(600_000)
        second = await exchange(channel, "r2", refresh_token=given.refresh_token)
        await wire.send(renewal(second.access_token))
        assert (await wire.expect("reauthenticated")).session_expires_at == second.expires_at
        clock.advance(600_000)
        await wire.beat()
        clock.advance(600_000)
        assert await end_of(wire) == (CODE.UNAUTHENTICATED, "TOKEN_EXPIRED")
        assert await end_of(await session(channel, second.access_token)) == (CODE.UNAUTHENTICATED, "TOKEN_EXPIRED")


async def test_a_token_that_is_not_the_workers_is_refused_in_the_stream_and_the_session_goes_on() -> None:
    async with a_node(secure=False, tokens=TOKENS) as node:
        channel = await node.worker_channel(None)
        mine = await exchange(channel, "r1", worker_token=WORKER_TOKEN, worker_id="w1")
        other = await exchange(channel, "r2", worker_token=WORKER_TOKEN, worker_id="w2")
        wire = await welcomed(channel, mine.access_token)
        for token, reason in ((other.access_token, "WORKER_ID_MISMATCH"), ("ey.x.y", "TOKEN_INVALID")):
            await wire.send(renewal(token))
            assert (await wire.refused()).error.reason == reason
        await wire.beat()


async def test_revoking_any_token_of_a_family_ends_its_sessions_at_once() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        first = await exchange(channel, certificate=CERTIFICATE)
        second = await exchange(channel, "r2", refresh_token=first.refresh_token)
        wire = await welcomed(channel, second.access_token)
        for token in ("noise", first.refresh_token, first.refresh_token):
            await call(channel, "RevokeToken", token_pb2.RevokeTokenRequest(refresh_token=token))
        assert await end_of(wire) == (CODE.PERMISSION_DENIED, "REVOKED")


async def test_f12_tokens_end_with_the_static_token_that_bought_them(tmp_path: Path) -> None:
    admission = Admission(SystemClock(), rules(tmp_path, f'[w1]\ntoken = "{OWN}"'), shared=WORKER_TOKEN)
    async with a_node(secure=False, admission=admission, tokens=TOKENS) as node:
        channel = await node.worker_channel(None)
        given = await exchange(channel, worker_token=OWN)
        wire = await welcomed(channel, given.access_token)
        admission.use(rules=rules(tmp_path, f'[w1]\ntokens = ["{OWN[::-1]}", "{OWN}"]'))
        await wire.beat()
        admission.use(rules=rules(tmp_path, f'[w1]\ntoken = "{OWN[::-1]}"'))
        gone = (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await end_of(wire) == gone
        assert await end_of(await session(channel, given.access_token)) == gone
        assert await refused(channel, "r2", refresh_token=given.refresh_token) == gone


async def test_after_a_key_is_rotated_by_command_what_the_old_one_signed_is_good_until_it_ends() -> None:
    clock = ManualClock(SystemClock().now_ms())
    async with a_node(tokens=TOKENS, clock=clock, silence=3600) as node:
        assert node.exchange is not None
        channel = await node.worker_channel(worker_files("w1"))
        before = await exchange(channel, "r1", certificate=CERTIFICATE)
        wire = await welcomed(channel, before.access_token)
        key = await node.exchange.rotate_signing_key(revoke=False)
        soon = await exchange(channel, "r2", certificate=CERTIFICATE)
        assert (key_of(soon), key.active_at) == (key_of(before), clock.now_ms() + 20_000)
        # A token's times are whole seconds.
        clock.advance(21_000)
        after = await exchange(channel, "r3", certificate=CERTIFICATE)
        assert key_of(after) == key.kid
        await wire.beat()
        for given in (before, soon, after):
            await welcomed(channel, given.access_token)


async def test_tokens_of_a_key_that_is_revoked_are_taken_at_no_node_and_their_sessions_end_at_once() -> None:
    clock = SystemClock()
    async with (
        MemoryStorage(StoreSettings("both", lease=30_000, offer=5_000), clock) as store,
        a_node(tokens=TOKENS, store=store) as one,
        a_node(tokens=TOKENS, store=store) as other,
    ):
        assert one.exchange is not None
        here, there = [await node.worker_channel(worker_files("w1")) for node in (one, other)]
        before = await exchange(here, "r1", certificate=CERTIFICATE)
        wire = await welcomed(there, before.access_token)
        plain = Wire((await other.worker_channel(worker_files("w2"))).stream_stream(SESSION)())
        await plain.send(hello())
        await plain.expect("welcome")
        key = await one.exchange.rotate_signing_key(revoke=True)
        gone = (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await end_of(wire) == gone
        for channel in (here, there):
            assert await end_of(await session(channel, before.access_token)) == gone
        # The family was not revoked, and buys what the new key signs, also at the other node.
        after = await exchange(there, "r2", refresh_token=before.refresh_token)
        assert key_of(after) == key.kid
        await welcomed(here, after.access_token)
        await plain.beat()


async def test_after_their_secret_is_rotated_refresh_tokens_of_before_go_on_and_lost_replies_are_given_again() -> None:
    clock = SystemClock()
    async with (
        MemoryStorage(StoreSettings("both", lease=30_000, offer=5_000), clock) as store,
        a_node(tokens=TOKENS, store=store) as one,
        a_node(tokens=TOKENS, store=store) as other,
    ):
        assert one.exchange is not None
        here, there = [await node.worker_channel(worker_files("w1")) for node in (one, other)]
        first = await exchange(here, "r1", certificate=CERTIFICATE)
        second = await exchange(here, "r2", refresh_token=first.refresh_token)
        await one.exchange.rotate_refresh_secret(revoke=False)
        assert same(await exchange(here, "r2", refresh_token=first.refresh_token), second)
        third = await exchange(here, "r3", refresh_token=second.refresh_token)
        # The other node may not have heard of it yet.
        fourth = await exchange(there, "r4", refresh_token=third.refresh_token)
        reused = (CODE.UNAUTHENTICATED, "TOKEN_REUSED")
        assert await refused(there, "r5", refresh_token=second.refresh_token) == reused
        assert await refused(there, "r6", refresh_token=fourth.refresh_token) == (
            CODE.UNAUTHENTICATED,
            "TOKEN_INVALID",
        )


async def test_refresh_tokens_of_a_secret_that_is_revoked_are_of_no_use_and_access_tokens_last() -> None:
    async with a_node(tokens=TOKENS) as node:
        assert node.exchange is not None
        channel = await node.worker_channel(worker_files("w1"))
        first = await exchange(channel, "r1", certificate=CERTIFICATE)
        wire = await welcomed(channel, first.access_token)
        await node.exchange.rotate_refresh_secret(revoke=True)
        assert await refused(channel, "r2", refresh_token=first.refresh_token) == (
            CODE.UNAUTHENTICATED,
            "TOKEN_INVALID",
        )
        # What was answered before is not answered with what nobody could use.
        assert await refused(channel, "r1", certificate=CERTIFICATE) == (CODE.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        second = await exchange(channel, "r3", certificate=CERTIFICATE)
        await exchange(channel, "r4", refresh_token=second.refresh_token)
        await wire.beat()


async def test_when_a_family_ends_the_sessions_of_its_worker_alone_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    look = Session.look_again

    def noted(session: Session) -> None:
        looked.append(session.worker_id)
        look(session)

    monkeypatch.setattr(Session, "look_again", noted)
    async with a_node(tokens=TOKENS) as node:
        given = {}
        for worker_id in ("w1", "w2", "w3"):
            channel = await node.worker_channel(worker_files(worker_id))
            given[worker_id] = channel, await exchange(channel, certificate=CERTIFICATE)
            await welcomed(channel, given[worker_id][1].access_token)
        looked.clear()
        channel, first = given["w1"]
        await call(channel, "RevokeToken", token_pb2.RevokeTokenRequest(refresh_token=first.refresh_token))
        assert node.exchange is not None
        await node.exchange.state.look()
        assert looked == ["w1"]


async def test_two_nodes_share_keys_families_and_what_was_ended() -> None:
    clock = SystemClock()
    async with (
        MemoryStorage(StoreSettings("both", lease=30_000, offer=5_000), clock) as store,
        a_node(tokens=TOKENS, store=store) as one,
        a_node(tokens=TOKENS, store=store) as other,
    ):
        here, there = [await node.worker_channel(worker_files("w1")) for node in (one, other)]
        given = await exchange(here, certificate=CERTIFICATE)
        wire = await welcomed(there, given.access_token)
        second = await exchange(there, "r2", refresh_token=given.refresh_token)
        await wire.send(renewal(second.access_token))
        await wire.expect("reauthenticated")
        await call(here, "RevokeToken", token_pb2.RevokeTokenRequest(refresh_token=given.refresh_token))
        assert await end_of(wire) == (CODE.PERMISSION_DENIED, "REVOKED")


async def test_whoever_has_no_certificate_or_token_reads_keys_only_where_callers_show_tokens() -> None:
    request = token_pb2.GetKeySetRequest()
    async with a_node(secure=False, tokens=TOKENS) as node:
        await call(await node.worker_channel(None), "GetKeySet", request)
    async with a_node(tokens=TOKENS) as node:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(await node.worker_channel(None), "GetKeySet", request)
        assert caught.value.code() is CODE.UNAVAILABLE


async def test_calls_of_nobody_that_bring_no_request_are_bounded_and_shut_nobody_out() -> None:
    async with a_node(secure=False, tokens=TOKENS) as node:
        channels = [await node.worker_channel(None) for _ in range(6)]
        held: list[Any] = []
        for channel in channels[:5]:
            held += [channel.stream_stream(f"{SERVICE}ExchangeToken")() for _ in range(8)]
            await asyncio.gather(*(call.wait_for_connection() for call in held[-8:]))
        # As many as there may be wait; those that came before them have been ended.
        ended = await asyncio.gather(*(asyncio.wait_for(call.code(), GUARD) for call in held[:8]))
        assert set(ended) == {CODE.INVALID_ARGUMENT}
        assert not any(call.done() for call in held[8:])
        await exchange(channels[5], worker_token=WORKER_TOKEN, worker_id="w1")
        health: Any = channels[5].unary_unary
        await health("/grpc.health.v1.Health/Check")(b"", timeout=GUARD)
        for call in held:
            call.cancel()
