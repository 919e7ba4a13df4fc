"""The gRPC doors: what they are opened with."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a door bears of its connections, whoever they are of. Times are seconds.

    Attributes:
        connections: how many there may be, handshakes counted.
        handshake: how long one may take. A blocking client in C++ may look at its sockets every five seconds
            alone, and it takes two looks.
        metadata_bytes: the most metadata of a call.
        idle: how long a connection without a call is kept.
        ping: how long a connection may be silent before it is pinged, while there are calls.
        pong: how long a ping may go unanswered.
        age: how long a connection takes new calls, give or take a tenth.
        age_grace: how long after that its calls may go on. Nothing else ends a call whose peer takes in nothing.
    """

    connections: int = 10_000
    handshake: float = 15.0
    metadata_bytes: int = 16 * 1024
    idle: float = 300.0
    ping: float = 30.0
    pong: float = 10.0
    age: float = 3_600.0
    age_grace: float = 3_600.0


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Where a door listens, and the largest message that it reads.

    Attributes:
        port: 0 takes any free one.
        reuse_port: whether other processes may listen there too; otherwise a port in use is an error.
        reflection: whether callers may ask what is served there.
        bounds: what it bears of its connections.
    """

    host: str = "127.0.0.1"
    port: int = 0
    reuse_port: bool = False
    reflection: bool = False
    max_message_bytes: int = 4 * MIB
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True)
class WorkerDoorSettings(DoorSettings):
    """What workers are told when they connect. Times are seconds.

    Attributes:
        certificates: whether workers show certificates at `port`, or else tokens.
        client_port: the port of the client door, for clients that come here; 0: a free one, None: there is none.
        token_port: where workers with tokens come as well; 0 takes any free port, None: nowhere else.
        hello: how long a new stream may wait with its first message.
        heartbeat: how often workers send a heartbeat.
        silence: how long a stream may bring nothing before it ends.
        lease: how long a task is a worker's without a heartbeat.
        child_lease: the same, where the worker is a holon.
        child_execution: how long a holon may take for a task that names no time of its own.
        offer: how long an offer may wait for its answer.
        rotation: how old a stream becomes, or up to a tenth less, before its worker is asked to open another: young
            enough that it has moved before its connection, at the end of its age and grace, is cut.
        moving: how long the worker may take for that.
        max_payload_bytes: the largest result.
    """

    certificates: bool = False
    client_port: int | None = None
    token_port: int | None = None
    node_id: str = "node"
    holon_id: str = ""
    hello: float = 10.0
    heartbeat: float = 10.0
    silence: float = 25.0
    lease: float = 30.0
    child_lease: float = 300.0
    child_execution: float = 86_400.0
    offer: float = 5.0
    rotation: float = 2_700.0
    moving: float = 120.0
    max_payload_bytes: int = MIB
