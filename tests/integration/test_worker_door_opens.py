"""The worker door: what keeps it from opening is a clear error."""

from __future__ import annotations

import pytest

from holon.clock import SystemClock
from holon.engine.holarchy import Holarchy
from holon.errors import ConfigError
from holon.security.admission import Admission
from holon.transports.grpc.server import Server
from holon.transports.grpc.settings import WorkerDoorSettings
from holon.transports.grpc.worker_door import WorkerDoor
from tests.integration.grpc_node import (
    Node,
    server_files,
)

# The door itself -------------------------------------------------------------------------------------------------


def a_door(node: Node, settings: WorkerDoorSettings) -> WorkerDoor:
    engine, clock = node.engine, SystemClock()
    return WorkerDoor(
        engine.workers, settings, None, Admission(clock), clock, Holarchy(engine.store, "h", 8), engine.trees
    )


async def test_a_port_in_use_is_a_clear_error(node: Node) -> None:
    settings = WorkerDoorSettings(port=node.workers.port)
    second = a_door(node, settings)
    with pytest.raises(
        ConfigError, match=r"GRPC_PORT: the worker port cannot listen on 127\.0\.0\.1:\d+: the port is in use; stop"
    ):
        await second.__aenter__()


@pytest.mark.parametrize(
    ("host", "says"),
    [
        # Of the documentation's addresses: no machine has it.
        ("192.0.2.1", r"on 192\.0\.2\.1:0: this machine does not have this address; use one that it has"),
        ("no.such.host.invalid", r"this machine does not know this host \(.+\); use another one"),
    ],
)
async def test_a_host_that_is_not_of_this_machine_is_a_clear_error(host: str, says: str) -> None:
    door = Server(
        "worker port",
        ("GRPC_HOST", "GRPC_PORT"),
        WorkerDoorSettings(host=host),
        [],
        [],
        server_files(),
        client_certificates=True,
        max_streams=1,
    )
    with pytest.raises(ConfigError, match=f"GRPC_HOST: the worker port cannot listen .*{says}") as caught:
        await door.__aenter__()
    assert [violation.field for violation in caught.value.details] == ["GRPC_HOST"]
    assert "stop the program that listens" not in caught.value.message


async def test_a_wider_address_without_tls_refuses_to_open(node: Node) -> None:
    settings = WorkerDoorSettings(host="0.0.0.0")
    second = a_door(node, settings)
    with pytest.raises(ConfigError, match="without TLS"):
        await second.__aenter__()
