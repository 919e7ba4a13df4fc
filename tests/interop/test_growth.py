"""How messages of another version are read: what is new is not seen, and nothing that was said is lost."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2

NEW_MEMBER = bytes([0xA2, 0x06, 0x02, 0x08, 0x01])  # field 100, a message of two bytes


@pytest.mark.parametrize("kind", [worker_pb2.SessionRequest, worker_pb2.SessionResponse])
def test_a_new_kind_of_frame_reads_as_not_set(
    kind: type[worker_pb2.SessionRequest | worker_pb2.SessionResponse],
) -> None:
    assert kind.FromString(NEW_MEMBER).WhichOneof("message") is None


def test_a_relay_keeps_fields_that_it_does_not_know() -> None:
    offer = worker_pb2.TaskOffer(task_id="t", lease_id="l").SerializeToString() + NEW_MEMBER
    assert NEW_MEMBER in worker_pb2.TaskOffer.FromString(offer).SerializeToString()


def test_a_new_status_still_says_whether_the_job_is_over() -> None:
    job = job_pb2.Job.FromString(job_pb2.Job(status="abandoned", terminal=True).SerializeToString())
    assert (job.status, job.terminal) == ("abandoned", True)


@pytest.mark.parametrize(
    ("said", "unsaid", "field"),
    [
        (worker_pb2.Hello(credits=0), worker_pb2.Hello(), "credits"),
        (worker_pb2.Hello(resume=worker_pb2.Resume()), worker_pb2.Hello(), "resume"),
        (worker_pb2.Heartbeat(credits=0), worker_pb2.Heartbeat(), "credits"),
        (worker_pb2.Heartbeat(held=worker_pb2.HeldLeases()), worker_pb2.Heartbeat(), "held"),
        (worker_pb2.Offering(price=0), worker_pb2.Offering(), "price"),
        (worker_pb2.TaskProgress(percent=0), worker_pb2.TaskProgress(), "percent"),
        (worker_pb2.TaskResult(cost=0), worker_pb2.TaskResult(), "cost"),
        (worker_pb2.TaskRejected(cost=0), worker_pb2.TaskRejected(), "cost"),
        (types_pb2.Lineage(budget=0), types_pb2.Lineage(), "budget"),
        (types_pb2.Lineage(skill_limit=types_pb2.SkillLimit()), types_pb2.Lineage(), "skill_limit"),
        (types_pb2.Payload(data=b""), types_pb2.Payload(), "data"),
        (job_pb2.Job(progress=0), job_pb2.Job(), "progress"),
        (job_pb2.WatchJobRequest(after_sequence=0), job_pb2.WatchJobRequest(), "after_sequence"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_and_zero_are_told_apart_where_they_differ(said: Message, unsaid: Message, field: str) -> None:
    assert type(said).FromString(said.SerializeToString()).HasField(field)
    assert not type(unsaid).FromString(unsaid.SerializeToString()).HasField(field)
