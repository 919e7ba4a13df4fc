"""The gRPC doors: what they are opened with."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Where a door listens, and the largest message that it reads.

    Attributes:
        port: 0 takes any free one.
        reuse_port: whether other processes may listen there too; otherwise a port in use is an error.
        reflection: whether callers may ask what is served there.
    """

    host: str = "127.0.0.1"
    port: int = 0
    reuse_port: bool = False
    reflection: bool = False
    max_message_bytes: int = 4 * MIB


@dataclass(frozen=True, slots=True)
class WorkerDoorSettings(DoorSettings):
    """What workers are told when they connect. Times are seconds.

    Attributes:
        hello: how long a new stream may wait with its first message.
        heartbeat: how often workers send a heartbeat.
        silence: how long a stream may bring nothing before it ends.
        lease: how long a task is a worker's without a heartbeat.
        offer: how long an offer may wait for its answer.
        max_payload_bytes: the largest result.
    """

    node_id: str = "node"
    holon_id: str = ""
    hello: float = 10.0
    heartbeat: float = 10.0
    silence: float = 25.0
    lease: float = 30.0
    offer: float = 5.0
    max_payload_bytes: int = MIB
