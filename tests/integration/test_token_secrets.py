"""What short-lived tokens are made with is made anew by command, at one node and at several, over real TLS."""

from __future__ import annotations

from holon.clock import ManualClock, SystemClock
from tests.integration.grpc_node import SESSION, Wire, a_node, end_of, hello, worker_files
from tests.integration.token_calls import (
    CERTIFICATE,
    CODE,
    TOKENS,
    exchange,
    key_of,
    refusal,
    refused,
    same,
    two_nodes,
    welcomed,
)


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
    async with two_nodes() as (one, other):
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
            assert await refusal(channel, before.access_token) == gone
        # The family was not revoked, and buys what the new key signs, also at the other node.
        after = await exchange(there, "r2", refresh_token=before.refresh_token)
        assert key_of(after) == key.kid
        await welcomed(here, after.access_token)
        await plain.beat()


async def test_after_their_secret_is_rotated_refresh_tokens_of_before_go_on_and_lost_replies_are_given_again() -> None:
    async with two_nodes() as (one, other):
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
