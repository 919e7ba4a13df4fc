"""The worker door: short-lived tokens, from what buys them to how they end, over real TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import jwt
import msgpack
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from holon.clock import ManualClock, SystemClock
from holon.errors import ResourceExhausted
from holon.ports import StoreSettings
from holon.rxon.v1 import token_pb2, types_pb2
from holon.security.admission import Admission
from holon.security.sts.families import KIND
from holon.security.sts.state import ENDED
from holon.storage.memory import MemoryStorage
from tests.integration.grpc_node import WORKER_TOKEN, a_node, authority, end_of, worker_files
from tests.integration.token_calls import (
    CERTIFICATE,
    CODE,
    OWN,
    TOKENS,
    Given,
    call,
    exchange,
    refusal,
    refused,
    rules,
    same,
    session,
    welcomed,
)
from tests.integration.worker_certificates import issue

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


@pytest.mark.parametrize("credential", [{"certificate": CERTIFICATE}, {"worker_token": OWN}])
async def test_what_was_bought_beside_a_certificate_is_of_no_use_at_the_port_for_tokens(
    tmp_path: Path, credential: dict[str, Any]
) -> None:
    admission = Admission(SystemClock(), rules(tmp_path, f'[w1]\ntoken = "{OWN}"\n'))
    async with a_node(tokens=TOKENS, token_port=0, admission=admission) as node:
        own = await node.worker_channel(worker_files("w1"))
        given = await exchange(own, **credential)
        node.workers_port = node.workers.token_port
        channel = await node.worker_channel(None)
        assert await refusal(channel, given.access_token) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert await refused(channel, refresh_token=given.refresh_token) == (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
        assert (await exchange(own, "r2", refresh_token=given.refresh_token)).refresh_token


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
        assert await refusal(channel, first.access_token) == (CODE.PERMISSION_DENIED, "REVOKED")
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


async def test_a_refresh_token_of_a_certificate_is_refused_without_one_and_not_used_up_by_that() -> None:
    async with (
        MemoryStorage(StoreSettings("node-1"), SystemClock()) as store,
        a_node(tokens=TOKENS, store=store) as node,
        a_node(tokens=TOKENS, store=store, secure=False) as beside,
    ):
        own = await node.worker_channel(worker_files("w1"))
        first = await exchange(own, certificate=CERTIFICATE)
        bare = await beside.worker_channel(None)
        for request_id in ("r2", "r3"):
            assert await refused(bare, request_id, refresh_token=first.refresh_token) == (
                CODE.UNAUTHENTICATED,
                "TOKEN_INVALID",
            )
        second = await exchange(own, "r4", refresh_token=first.refresh_token)
        await welcomed(own, second.access_token)


async def test_families_that_the_release_before_has_stored_go_on(tmp_path: Path) -> None:
    admission = Admission(SystemClock(), rules(tmp_path, f'[w1]\ntoken = "{OWN}"\n'))
    async with a_node(tokens=TOKENS, admission=admission) as node:
        own = await node.worker_channel(worker_files("w1"))
        given = [
            await exchange(own, "r1", certificate=CERTIFICATE),
            await exchange(own, "r2", worker_token=OWN),
        ]
        (stored,) = await node.engine.store.documents(KIND)
        form, rows, beside = msgpack.unpackb(stored.value)
        assert (form, len(rows), len(beside)) == (3, 2, 1)
        before = msgpack.packb((2, rows))
        assert await node.engine.store.put_document(KIND, stored.key, before, version=stored.version)
        for n, one in enumerate(given):
            assert (await exchange(own, f"r3-{n}", refresh_token=one.refresh_token)).refresh_token


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


async def test_a_credential_that_proves_whatever_id_is_named_buys_a_token_and_no_family(tmp_path: Path) -> None:
    text = f'["gpu-*"]\ntoken = "{OWN}"\n[cpu]\nreplicas = true\ntoken = "{OWN}-2"'
    admission = Admission(SystemClock(), rules(tmp_path, text), shared=WORKER_TOKEN)
    async with a_node(secure=False, admission=admission, tokens=TOKENS) as node:
        channel = await node.worker_channel(None)
        for n, (token, worker_id) in enumerate(((OWN, "gpu-1"), (WORKER_TOKEN, "w1"), (f"{OWN}-2", "cpu.7"))):
            given = await exchange(channel, f"r{n}", worker_token=token, worker_id=worker_id)
            assert (given.refresh_token, given.HasField("refresh_expires_in")) == ("", False)
            await welcomed(channel, given.access_token)
        assert await node.engine.store.documents(KIND) == []


@pytest.mark.parametrize("claimed", ["a/b", "a:b", "-a", ".a", "a" * 129])
async def test_what_no_hello_may_claim_buys_no_token(claimed: str) -> None:
    async with a_node(secure=False, tokens=TOKENS) as node:
        channel = await node.worker_channel(None)
        refusal = await refused(channel, worker_token=WORKER_TOKEN, worker_id=claimed)
        assert refusal == (CODE.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert (await exchange(channel, worker_token=WORKER_TOKEN, worker_id="a" * 128)).worker_id == "a" * 128


async def test_a_worker_that_ends_one_family_after_the_other_takes_no_more_room_than_one() -> None:
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        for n in range(70):
            given = await exchange(channel, f"r{n}", certificate=CERTIFICATE)
            await call(channel, "RevokeToken", token_pb2.RevokeTokenRequest(refresh_token=given.refresh_token))
        kinds = [await node.engine.store.documents(kind) for kind in (KIND, ENDED)]
        assert [len(documents) for documents in kinds] == [1, 1]
        assert all(len(document.value) < 8_192 for documents in kinds for document in documents)
        assert await refusal(channel, given.access_token) == (CODE.PERMISSION_DENIED, "REVOKED")


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
