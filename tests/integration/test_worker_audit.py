"""The audit log tells what happened at the worker door: who was refused, and which tokens changed hands."""

from __future__ import annotations

import logging

import pytest

from holon.rxon.v1 import token_pb2
from tests.audit_lines import audited
from tests.integration.grpc_node import a_node, worker_files
from tests.integration.token_calls import CERTIFICATE, TOKENS, call, exchange, refusal, refused


async def test_tokens_that_change_hands_and_callers_that_are_refused_are_told_without_a_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    async with a_node(tokens=TOKENS) as node:
        channel = await node.worker_channel(worker_files("w1"))
        given = await exchange(channel, certificate=CERTIFICATE)
        await refused(channel, "r2", refresh_token="none")
        for token in ("noise", given.refresh_token, given.refresh_token):
            await call(channel, "RevokeToken", token_pb2.RevokeTokenRequest(refresh_token=token))
        await refusal(channel, "no-token")
    lines = audited(caplog)
    assert {line.pop("via") for line in lines} == {"worker"}
    assert all(line.pop("peer").startswith("ipv") for line in lines)
    assert lines == [
        {"act": "token_exchanged", "result": "ok", "who": "w1", "on": "certificate"},
        {
            "act": "call_refused",
            "result": "TOKEN_INVALID",
            "who": "w1",
            "on": "/holon.rxon.v1.TokenService/ExchangeToken",
        },
        {"act": "token_revoked", "result": "ok", "who": "w1"},
        {"act": "call_refused", "result": "TOKEN_INVALID", "on": "/holon.rxon.v1.WorkerService/Session"},
    ]
    assert given.access_token not in caplog.text
    assert given.refresh_token not in caplog.text
