"""The worker SDK with short-lived tokens: it exchanges, renews in the stream, and repeats what was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holon.rxon.v1 import token_pb2
from holon.security.sts.exchange import TokenSettings
from holon.wire.address import parse_url
from holon.worker import Worker
from holon.worker.channel import Ended
from holon.worker.settings import Credentials
from holon.worker.timing import Timing
from holon.worker.tokens import Tokens
from tests.integration.grpc_node import GUARD, WORKER_TOKEN, Node, a_node, authority, worker_files
from tests.integration.scripted_node import FAST

Request = token_pb2.ExchangeTokenRequest
Given = token_pb2.ExchangeTokenResponse
URL = parse_url("grpc://127.0.0.1:1", 7700)
# Short, but long enough to be renewed in time on a machine that stands still for a second.
SHORT = TokenSettings(access=4_000)


def worker_of(node: Node, *, secure: bool, timing: Timing = FAST) -> Worker:
    files = worker_files("w1")
    proof: dict[str, Any] = {"token": WORKER_TOKEN, "worker_id": "w1"}
    if secure:
        proof = {"token": "", "worker_id": "", "ca_path": authority("ours").files.certificate}
        proof |= {"cert_path": files.certificate, "key_path": files.key}
    scheme = "grpcs" if secure else "grpc"
    worker = Worker(f"{scheme}://localhost:{node.workers.port}", sts=True, timing=timing, **proof)

    @worker.skill("t")
    async def do(n: int = 0) -> dict[str, int]:
        return {"double": 2 * n}

    return worker


@pytest.mark.parametrize("secure", [True, False])
async def test_a_session_outlives_the_token_that_opened_it(secure: bool) -> None:
    async with a_node(secure=secure, tokens=SHORT) as node, worker_of(node, secure=secure) as worker:
        await worker.ready()
        (session,) = node.workers._sessions
        first = session._standing.caller.access
        assert first is not None
        assert first.worker_id == "w1"
        await eventually(lambda: session._standing.caller.access not in (None, first))
        left = first.expires_at - node.engine.store.now() / 1000
        await asyncio.sleep(max(0.0, left) + 0.05)
        assert (await node.ended(await node.create(n=1))).status == "finished"
        assert node.workers._sessions == {session}


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD):
        while not condition():  # noqa: ASYNC110  it looks from outside, and nothing tells it
            await asyncio.sleep(0.01)


async def test_a_node_that_gives_no_tokens_is_said_as_such(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "holon.worker"):
        async with a_node() as node:
            serving = asyncio.create_task(worker_of(node, secure=True).serve())
            await eventually(lambda: "unset WORKER_STS" in caplog.text)
            serving.cancel()
            await asyncio.wait((serving,))


# What is asked ------------------------------------------------------------


class TokenNode:
    """A TokenService of a test; what it answers is given beforehand, by call."""

    def __init__(self, *answers: Given | grpc.StatusCode) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []

    async def exchange(self, request: Request, context: Any) -> Given:
        self.asked.append(request)
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Given):
            return answer
        await context.abort(answer, "no")
        raise AssertionError


@asynccontextmanager
async def serving(node: TokenNode) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        node.exchange, request_deserializer=Request.FromString, response_serializer=Given.SerializeToString
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("holon.rxon.v1.TokenService", {"ExchangeToken": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


def given(number: int, seconds: int = 0) -> Given:
    lasts = Duration(seconds=seconds)
    return Given(access_token=f"a{number}", refresh_token=f"r{number}", expires_in=lasts, worker_id="w1")


def tokens() -> Tokens:
    return Tokens(Credentials(token="the static token"), "w1", replace(FAST, welcome=GUARD))


async def test_a_lost_answer_is_asked_for_again_with_the_same_request() -> None:
    node = TokenNode(given(1), grpc.StatusCode.UNAVAILABLE, given(2), given(3))
    ours = tokens()
    async with serving(node) as channel:
        await ours.fresh(channel, URL, b"")
        with pytest.raises(Ended):
            await ours.fresh(channel, URL, b"")
        await ours.fresh(channel, URL, b"")
        await ours.fresh(channel, URL, b"")
    first, lost, again, later = node.asked
    assert (first.worker_token, first.worker_id) == ("the static token", "w1")
    assert lost == again
    assert (again.refresh_token, later.refresh_token) == ("r1", "r2")
    assert len({first.request_id, again.request_id, later.request_id}) == 3


async def test_one_exchange_runs_whoever_asks() -> None:
    node = TokenNode(given(1, 900))
    ours = tokens()
    async with serving(node) as channel:
        grants = await asyncio.gather(*(ours.fresh(channel, URL, b"") for _ in range(5)))
    assert {grant.access_token for grant in grants} == {"a1"}
    assert 599 < ours.due_in <= 600


async def test_where_the_refresh_token_is_refused_the_credential_is_shown_again() -> None:
    node = TokenNode(given(1), grpc.StatusCode.UNAUTHENTICATED, given(2, 900))
    ours = tokens()
    async with serving(node) as channel:
        await ours.fresh(channel, URL, b"")
        assert (await ours.fresh(channel, URL, b"")).access_token == "a2"
    assert node.asked[2].worker_token == "the static token"
    assert node.asked[1].request_id != node.asked[2].request_id
    assert "the static token" not in repr(ours)


async def test_a_renewed_certificate_gets_a_token_of_its_own_from_the_same_family() -> None:
    node = TokenNode(given(1, 900), given(2, 900), given(3, 900))
    async with serving(node) as channel:
        ours = tokens()
        shown = [(await ours.fresh(channel, URL, one)).access_token for one in (b"old", b"old", b"new", b"new", b"old")]
        assert shown == ["a1", "a1", "a2", "a2", "a3"]
    assert [one.refresh_token for one in node.asked] == ["", "r1", "r2"]


async def test_after_a_refusal_another_token_is_shown() -> None:
    node = TokenNode(given(1, 900), given(2, 900))
    async with serving(node) as channel:
        ours = tokens()
        await ours.fresh(channel, URL, b"")
        assert ours.distrust()
        assert (await ours.fresh(channel, URL, b"")).access_token == "a2"


async def test_a_worker_whose_token_was_taken_back_is_soon_there_again_with_another_one() -> None:
    slow = replace(FAST, reconnect_refused=GUARD)
    async with a_node(tokens=TokenSettings()) as node, worker_of(node, secure=True, timing=slow) as worker:
        await worker.ready()
        assert node.exchange is not None
        for _ in range(2):
            (session,) = node.workers._sessions
            await node.exchange.rotate_signing_key(revoke=True)
            await eventually(partial(another, node, session))
            assert (await node.ended(await node.create(n=1))).status == "finished"


def another(node: Node, gone: object) -> bool:
    """Whether there is a session, and it is not this one."""
    return bool(node.workers._sessions) and gone not in node.workers._sessions


async def test_what_is_refused_again_with_a_new_token_is_not_mended_by_yet_another_one() -> None:
    node = TokenNode(given(1, 900), given(2, 900))
    async with serving(node) as channel:
        ours = tokens()
        assert not ours.distrust()
        ours.trust()
        await ours.fresh(channel, URL, b"")
        assert ours.distrust()
        await ours.fresh(channel, URL, b"")
        assert not ours.distrust()
        ours.trust()
        assert ours.distrust()
