"""The worker door: how sessions by short-lived tokens go on and end, at one node and at several, over real TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from holon.clock import ManualClock, SystemClock
from holon.ports import StoreSettings
from holon.rxon.v1 import token_pb2
from holon.security.admission import Admission, Until
from holon.storage.memory import MemoryStorage
from holon.transports.grpc.session import Session
from holon.transports.grpc.standing import Standing
from tests.integration.grpc_node import GUARD, WORKER_TOKEN, a_node, end_of, worker_files
from tests.integration.token_calls import (
    CERTIFICATE,
    CODE,
    OWN,
    SERVICE,
    TOKENS,
    call,
    exchange,
    refusal,
    refused,
    renewal,
    rules,
    two_nodes,
    welcomed,
)

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
        assert await refusal(channel, second.access_token) == (CODE.UNAUTHENTICATED, "TOKEN_EXPIRED")


async def test_a_session_is_not_looked_at_all_the_time_where_the_nodes_clock_is_ahead_of_the_stores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, looked, check = SystemClock(), [0], Standing.check
    clock.not_before(clock.now_ms() + 3_600_000)

    def counted(standing: Standing) -> Until:
        looked[0] += 1
        return check(standing)

    monkeypatch.setattr(Standing, "check", counted)
    async with (
        MemoryStorage(StoreSettings("ahead", lease=30_000, offer=5_000), SystemClock()) as store,
        a_node(tokens=TOKENS, store=store, clock=clock) as node,
    ):
        channel = await node.worker_channel(worker_files("w1"))
        wire = await welcomed(channel, (await exchange(channel, certificate=CERTIFICATE)).access_token)
        for sequence in range(1, 51):
            await wire.beat(sequence)
    assert looked[0] < 10


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
        assert await refusal(channel, given.access_token) == gone
        assert await refused(channel, "r2", refresh_token=given.refresh_token) == gone


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
    async with two_nodes() as (one, other):
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
        assert set(ended) == {CODE.RESOURCE_EXHAUSTED}
        assert not any(call.done() for call in held[8:])
        await exchange(channels[5], worker_token=WORKER_TOKEN, worker_id="w1")
        health: Any = channels[5].unary_unary
        await health("/grpc.health.v1.Health/Check")(b"", timeout=GUARD)
        for call in held:
            call.cancel()
