"""The command line: ids of jobs, which people type and read by their beginnings."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from os.path import commonprefix
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import typer

from holon.cli.connection import with_client
from holon.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from holon.client import Client

T = TypeVar("T")

JobId: TypeAlias = Annotated[
    str, typer.Argument(metavar="JOB", help="Id of the job, or a beginning of it that no other job has.")
]
_ID = re.compile("[0-9]{1,5}-[0-9a-f]{32}")
_BEGINNING = re.compile("[0-9]{1,5}-[0-9a-f]{0,31}")
# The digits of an id that are its time; those behind it are random.
_TIME_DIGITS = 12


def with_job(job: str, call: Callable[[Client, str], Awaitable[T]]) -> T:
    """As `with_client`, of a call about one job, which gets the whole id.

    Raises:
        NotFound: (JOB_NOT_FOUND) no job's id begins so.
        InvalidArgument: (JOB_ID_AMBIGUOUS) the ids of several jobs do, or the beginning is too short.
    """

    async def go(client: Client) -> T:
        return await call(client, await whole_id(client, job))

    return with_client(go)


async def whole_id(client: Client, given: str) -> str:
    """The whole id of a job by its beginning; raises as `with_job`. What cannot be a beginning is returned as it is."""
    if not _BEGINNING.fullmatch(given):
        return given
    found, truncated = await client.job_ids(given)
    if not found:
        raise NotFound(f"no job of yours has an id that begins with {given}", code="JOB_NOT_FOUND")
    if len(found) > 1:
        more = ", and more" if truncated else ""
        raise InvalidArgument(
            f"{given} is the beginning of several jobs' ids; give more of the one you mean: {', '.join(found)}{more}",
            code="JOB_ID_AMBIGUOUS",
        )
    return found[0]


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """The beginning of each id that tells it from the others; one that is no job's of this version stays whole."""
    sorted_ids = sorted(set(ids))
    alike = [0, *(len(commonprefix(pair)) for pair in pairwise(sorted_ids)), 0]  # noqa: RUF071  no paths
    short: dict[str, str] = {}
    for number, one in enumerate(sorted_ids):
        least = one.find("-") + 1 + _TIME_DIGITS
        size = max(least, alike[number] + 1, alike[number + 1] + 1)
        short[one] = one[:size] if _ID.fullmatch(one) else one
    return short
