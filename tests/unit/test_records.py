"""Records of older schemas are read as what they mean today."""

from __future__ import annotations

import msgpack

from holon.domain.job import Job
from holon.domain.value import replace
from holon.storage.records import decode_job, encode_job, unpack


def test_a_job_that_was_written_before_clients_had_plans_has_none() -> None:
    job = Job("0-a", "bp", "ann", {"n": 1}, "start", plan="gold", client_params=b'{"limit":5}', priority=2.5)
    assert decode_job(encode_job(job)) == job
    *fields, _ = unpack("job", encode_job(job))
    assert decode_job(msgpack.packb((2, *fields))) == replace(job, priority=None)
    *fields, _, _ = fields
    assert decode_job(msgpack.packb((1, *fields))) == replace(job, plan="unknown", client_params=b"", priority=None)
