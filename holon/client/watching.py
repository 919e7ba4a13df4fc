"""The client: a job followed to its end, through restarts of the node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import grpc
import grpc.aio

from holon.client.calls import CLOSED, Calls, request_of
from holon.client.failures import error_of, is_of_node
from holon.client.shapes import Job, Update, update_of
from holon.client.streams import Streams
from holon.errors import HolonError, ResourceExhausted, Unreachable
from holon.rxon.v1 import job_pb2
from holon.rxon.v1.job_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    from holon.rxon.v1.job_pb2_grpc import JobServiceAsyncStub

# A node gives a sign of life every 20 seconds.
SILENCE_S = 60.0
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
# The connection has gone, or what stood between: without a status of the node's own.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


class _Away(Exception):
    """Internal: the stream has ended before the job did; another may go on after it."""

    def __init__(self, error: HolonError) -> None:
        super().__init__(error.message)
        self.error = error


async def watch(
    streams: Streams, calls: Calls, job_id: str, after: int | None, patience: float, *, logs: bool = False
) -> AsyncGenerator[Update, None]:
    """Follow a job; see `Client.watch`."""
    loop = asyncio.get_running_loop()
    lost_at: float | None = None
    began = False
    pause = FIRST_PAUSE_S
    while True:
        try:
            async with aclosing(_stream(streams, calls, job_id, after, logs=logs)) as messages:
                async for message in messages:
                    calls.reached = began = True
                    lost_at, pause = None, FIRST_PAUSE_S
                    after = message.sequence
                    update = update_of(message)
                    if update is not None:
                        yield update
            return
        except _Away as away:
            lost_at = loop.time() if lost_at is None else lost_at
            # Who has never answered may be no node at all: whoever named it is to hear of that. So he is of a node that
            # is there, and does not take the watch.
            waits = began or (calls.reached and not isinstance(away.error, ResourceExhausted))
            if not waits or loop.time() - lost_at >= patience:
                raise away.error from away
            await asyncio.sleep(max(away.error.retry_after or 0, random.uniform(0, pause)))  # noqa: S311
            pause = min(pause * 2, LAST_PAUSE_S)
            if calls.closed:
                # It was entered when it began: what is under way then has found no answer.
                raise Unreachable(CLOSED.format(calls.url)) from away


async def _stream(
    streams: Streams, calls: Calls, job_id: str, after: int | None, *, logs: bool
) -> AsyncGenerator[job_pb2.WatchJobResponse, None]:
    """One stream, to the end of the job.

    Raises:
        _Away: it has ended before.
        HolonError: what the node refused it with.
        FailedPrecondition: the client is closed.
    """
    calls.check_open()
    request = request_of(job_pb2.WatchJobRequest, job_id=job_id, after_sequence=after, logs_wanted=logs)
    over = False
    with streams.lend() as channel:
        stub = cast("JobServiceAsyncStub", JobServiceStub(channel))
        call = stub.WatchJob(request, metadata=calls.metadata)
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    message = await call.read()
                if not isinstance(message, job_pb2.WatchJobResponse):
                    break
                over = message.HasField("job") and message.job.terminal
                yield message
        except TimeoutError as error:
            raise _Away(Unreachable(f"{calls.url}: no message arrived within {SILENCE_S:g} s")) from error
        except asyncio.CancelledError as error:
            raise calls.meant_by(error) from error
        except grpc.aio.AioRpcError as error:
            told = error_of(error, calls.url)
            if told.retry_after is not None or (error.code() in _LOST and not is_of_node(error)):
                raise _Away(told) from error
            raise told from error
        finally:
            call.cancel()
    if not over:
        raise _Away(Unreachable(f"{calls.url}: the stream ended before the job"))


async def jobs_of(updates: AsyncGenerator[Update, None]) -> AsyncGenerator[Job, None]:
    """A job each time that more of it is known, until its updates end; they are closed with this."""
    job: Job | None = None
    async with aclosing(updates):
        async for update in updates:
            if update.job is not None:
                job = update.job
            elif update.progress is not None and job is not None:
                progress = update.progress
                job = replace(
                    job,
                    progress=progress.percent,
                    progress_message=progress.message,
                    status=progress.status,
                    current_state=progress.current_state,
                )
            else:
                continue
            yield job


async def follow(updates: AsyncGenerator[Update, None], seen: Callable[[Job], None]) -> Job | None:
    """Tell of a job each time that more of it is known, until its updates end; answers with what is known then.

    On cancel the updates are closed.
    """
    job: Job | None = None
    async with aclosing(jobs_of(updates)) as jobs:
        async for job in jobs:
            seen(job)
    return job


async def until_over(
    updates: AsyncGenerator[Update, None], job_id: str, url: str, timeout: float | None, seen: Callable[[Job], None]
) -> Job:
    """The job that is watched, as it ended; as for `Client.wait_for`."""
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout is {timeout}; it must be a number of seconds, or None to wait without a limit")
    last: Job | None = None

    def see(job: Job) -> None:
        nonlocal last
        last = job
        seen(job)

    try:
        async with asyncio.timeout(timeout) as limit:
            job = await follow(updates, see)
    except TimeoutError as error:
        if not limit.expired():
            raise  # of `seen`
        stands = "" if last is None else ": " + ", ".join(filter(None, (last.status, last.progress_message)))
        raise TimeoutError(f"job {job_id} has not ended after {timeout} s, and continues{stands}") from error
    if job is None:
        raise Unreachable(f"{url}: the node sent nothing about job {job_id}")
    return job
