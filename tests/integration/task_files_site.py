"""A bucket, and the files of a job in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holon.context import TaskFiles
from holon.storage.blobs import S3Blobs
from holon.task_files import Folder
from tests.s3_server import S3Server

MIB = 2**20
JOB = "0-01a222"
PREFIX = f"jobs/{JOB}/"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
async def files(s3: S3Server, tmp_path: Path) -> AsyncIterator[TaskFiles]:
    made = files_of(s3, tmp_path)
    yield made
    await made.cleanup()


def files_of(s3: S3Server, place: Path, job_id: str = JOB) -> TaskFiles:
    async def mark(job_id: str) -> None:
        marked.append(job_id)

    marked: list[str] = []
    made = TaskFiles(job_id, S3Blobs(s3.client(), retrying=0.2), Folder(place / job_id), mark)
    made.marked = marked  # type: ignore[attr-defined]
    return made
