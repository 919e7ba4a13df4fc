"""WatchJob: what tasks write in their logs, for who asks for it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from holon.domain.client import Client
from holon.domain.log_lines import Logged, LogLine
from holon.engine.feeds import MOST_LOGGED, Happened, Update
from holon.rxon.v1 import job_pb2, types_pb2, worker_pb2
from holon.wire.values import json_payload
from tests.integration.grpc_node import CLIENT, JOBS, Node, Wire, result, update, updates
from tests.integration.watching import Response, Watch, watch


class Logs(Watch):
    """A watcher who wants them."""

    def __init__(self, node: Node, job_id: str) -> None:
        request = job_pb2.WatchJobRequest(job_id=job_id, logs_wanted=True)
        method: Any = node.channel.unary_stream
        self.call = method(JOBS + "WatchJob")(request.SerializeToString(), metadata=CLIENT)


async def writes(worker: Wire, offer: worker_pb2.TaskOffer, *texts: str, **more: Any) -> None:
    """A task writes lines, and the node has read them."""
    lines = [types_pb2.LogLine(text=text, level=types_pb2.LOG_LEVEL_WARNING, **more) for text in texts]
    await worker.send(updates(update(offer, logs=worker_pb2.TaskLogs(lines=lines))))
    await worker.beat()


def texts_of(told: list[Response]) -> list[str]:
    return [line.text for one in told for line in one.logs.lines]


async def test_lines_are_told_as_they_come_to_who_wants_them_and_to_nobody_else(node: Node) -> None:
    job_id = await node.create()
    wants, does_not = Logs(node, job_id), watch(node, job_id)
    first = await wants.next()
    await does_not.next()
    worker = await node.worker()
    offer = await worker.offer()
    await writes(worker, offer, "one", "two", fields=json_payload(b'{"n": 1}'))
    told = (await wants.until("logs"))[-1]
    assert (told.logs.task_id, told.logs.attempt) == (offer.task_id, 1)
    assert [(one.text, one.level, one.fields.data) for one in told.logs.lines] == [
        ("one", types_pb2.LOG_LEVEL_WARNING, b'{"n": 1}'),
        ("two", types_pb2.LOG_LEVEL_WARNING, b'{"n": 1}'),
    ]
    assert told.sequence >= first.sequence
    await writes(worker, offer, "three")
    await worker.send(updates(result(offer, {})))
    rest = await wants.rest()
    assert texts_of(rest) == ["three"]
    assert rest[-1].job.terminal
    assert not texts_of(await does_not.rest())


async def test_lines_that_cannot_be_are_refused_and_the_session_goes_on(node: Node) -> None:
    job_id = await node.create()
    stream = Logs(node, job_id)
    await stream.next()
    worker = await node.worker()
    offer = await worker.offer()
    bad = types_pb2.LogLine(text="bad", fields=json_payload(b"[]"))
    await worker.send(updates(update(offer, logs=worker_pb2.TaskLogs(lines=[bad]))))
    refused = await worker.refused()
    assert (refused.error.field_violations[0].field, refused.task_id) == ("logs.lines[0].fields", offer.task_id)
    other = worker_pb2.TaskUpdate(task_id=offer.task_id, lease_id="another", logs=worker_pb2.TaskLogs())
    await worker.send(updates(other))
    assert (await worker.refused()).error.reason == "TASK_NOT_HELD"
    await writes(worker, offer, "good")
    assert texts_of(await stream.until("logs")) == ["good"]


async def test_who_reads_slowly_is_told_the_newest_lines_and_holds_up_nobody(node: Node) -> None:
    job_id = await node.create()
    worker = await node.worker()
    offer = await worker.offer()
    following = node.engine.watching.follow(Client("default"), job_id, None, logs=True)
    await anext(following)
    for number in range(MOST_LOGGED + 5):
        await worker.send(updates(update(offer, logs=worker_pb2.TaskLogs(lines=[types_pb2.LogLine(text=str(number))]))))
    await worker.beat()
    told: list[Any] = [await anext(following) for _ in range(MOST_LOGGED)]
    assert [one.logged.lines[0].text for one in told] == [str(number) for number in range(5, MOST_LOGGED + 5)]
    await following.aclose()


async def test_who_is_told_lines_without_end_is_told_what_happens_too(node: Node) -> None:
    job_id = await node.create()
    said = Logged("t", 1, (LogLine(0, "info", "again"),))
    kinds: list[type[Update]] = []
    async with aclosing(node.engine.watching.follow(Client("default"), job_id, 0, logs=True)) as told:
        async for update_ in told:
            kinds.append(type(update_))
            # Whoever is slower than they are written finds more of them each time.
            node.engine.log_lines.said(job_id, said)
            if Happened in kinds or len(kinds) > 10 * MOST_LOGGED:
                break
    assert Happened in kinds
