"""The worker door reads any bytes at all: what is wrong is refused by name, and nobody else notices."""

from __future__ import annotations

from hypothesis import given

from holon.rxon.v1 import types_pb2, worker_pb2
from tests.fuzz.choices import ENTROPY, EXAMPLES, Choices
from tests.fuzz.messages import wrong
from tests.fuzz.streams import Request, Response, Stream
from tests.fuzz.world import FAULTS, World, a_world
from tests.integration.grpc_node import update

LEASE = types_pb2.LeaseRef(task_id="0-0123456789abcdef-1-0", lease_id="0123456789abcdef")
HELLO = Request(
    hello=worker_pb2.Hello(
        worker_id="evil",
        credits=3,
        catalog=worker_pb2.Catalog(
            offerings=[worker_pb2.Offering(skill="evil", input_schema=types_pb2.Payload(data=b'{"type":"object"}'))],
            profiles=[worker_pb2.Profile(resources=types_pb2.Resources(devices=[types_pb2.Device(type="gpu")]))],
        ),
        resume=worker_pb2.Resume(session_id="s", leases=[LEASE]),
        labels={"a": "b"},
    )
)
ERROR = types_pb2.TaskError(code="PERMANENT_ERROR", message="m", details=types_pb2.Payload(data=b"{}"))
VALID = (
    HELLO,
    Request(catalog=HELLO.hello.catalog),
    Request(heartbeat=worker_pb2.Heartbeat(sequence=1, credits=2, held=worker_pb2.HeldLeases(leases=[LEASE]))),
    Request(
        task_updates=worker_pb2.TaskUpdates(
            updates=[
                update(LEASE, accepted=worker_pb2.TaskAccepted()),
                update(LEASE, rejected=worker_pb2.TaskRejected(reason="BUSY", message="no")),
                update(LEASE, progress=worker_pb2.TaskProgress(percent=50, message="half")),
                update(
                    LEASE,
                    result=worker_pb2.TaskResult(status="success", data=types_pb2.Payload(data=b'{"a":1}')),
                ),
                update(LEASE, result=worker_pb2.TaskResult(status="failure", error=ERROR)),
            ]
        )
    ),
    Request(drain=worker_pb2.Drain(reason="home")),
)


def test_any_bytes_are_refused_by_name_and_nobody_else_notices() -> None:
    with a_world() as world:

        @EXAMPLES
        @given(ENTROPY)
        def any_bytes(entropy: bytes) -> None:
            world.run(example(world, Choices(entropy)))

        any_bytes()


async def example(world: World, choices: Choices) -> None:
    said: list[Response] = []
    stream = Stream(said.append)
    serving = world.serve(stream)
    stream.say(wrong(choices, Request, HELLO) if choices.one_in(4) else HELLO)
    for _ in range(1 + choices.below(4)):
        stream.say(wrong(choices, Request, *VALID))
    await world.until(lambda: not stream.unheard or serving.done())
    stream.half_close()
    await world.until(serving.done)
    serving.result()
    assert stream.ended is not None
    assert stream.ended not in FAULTS
    for one in said:
        assert one.WhichOneof("message")
        assert one.session_error.error.code not in [fault.value[0] for fault in FAULTS]
    if choices.one_in(8):
        await world.good_job()
    world.check()
