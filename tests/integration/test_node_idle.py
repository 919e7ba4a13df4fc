"""A node that nothing will come to says so at its start, and no other does."""

from __future__ import annotations

import logging

import pytest

from holon import Blueprint
from holon.config import Config
from holon.node import Node
from holon.storage import MemoryStorage

CLOSED, EMPTY = "no client can connect", "there is no blueprint"
TOKEN = "a-token-of-a-client-of-this-node-here"


def blueprint() -> Blueprint:
    bp = Blueprint("only", api_version="v1", api_endpoint="/jobs/only")

    @bp.handler(is_start=True, is_end=True)
    async def start() -> None: ...

    return bp


async def told(caplog: pytest.LogCaptureFixture, *blueprints: Blueprint, **settings: str | bool) -> list[str]:
    """The warnings of a node's start, by how they begin."""
    config = Config({}, API_PORT=0, GRPC_PORT=0, CLIENT_GRPC_PORT=0, **settings)
    node = Node(config, blueprints, MemoryStorage())
    caplog.clear()
    with caplog.at_level(logging.WARNING, "holon"):
        await node.run(lambda _: node.stop())
    said = [record.getMessage() for record in caplog.records if record.name == "holon.node.idle"]
    return [part for text in said for part in (CLOSED, EMPTY) if text.startswith(part)]


async def test_a_node_without_tokens_or_blueprints_says_that_nothing_will_come_to_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await told(caplog) == [CLOSED, EMPTY]
    assert await told(caplog, blueprint()) == [CLOSED]
    assert await told(caplog, CLIENT_TOKEN=TOKEN) == [EMPTY]
    assert await told(caplog, blueprint(), CLIENT_TOKEN=TOKEN) == []


async def test_a_node_that_means_to_have_no_clients_is_not_warned_of_them(caplog: pytest.LogCaptureFixture) -> None:
    parent = {"PARENT_URL": "grpc://127.0.0.1:1", "PARENT_TOKEN": TOKEN, "PARENT_WORKER_ID": "child"}
    assert await told(caplog, blueprint(), **parent) == []
    assert await told(caplog, blueprint(), **parent, ENABLE_CLIENT_API=False) == []
    assert await told(caplog, UPLINK_SKILLS="count", **parent) == []
