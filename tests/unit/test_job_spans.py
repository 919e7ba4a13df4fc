"""Spans of jobs that are to be created: each ends, whatever becomes of its job."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from holon import Blueprint
from holon.domain.client import Client
from holon.engine.contracts import Contracts
from holon.engine.jobs import Jobs
from holon.engine.page_tokens import PageTokens
from holon.engine.requests import Creating
from holon.errors import InvalidArgument

NOTHING: Any = None

one = Blueprint("one")


@one.handler(is_start=True, is_end=True)
async def start() -> None: ...


class Spans:
    """The spans that were begun; how many of them have ended."""

    trace = ""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.some = asyncio.Event()

    def job(self, *_: Any) -> Spans:
        self.begun += 1
        self.some.set()
        return self

    def end(self) -> None:
        self.ended += 1


def jobs(spans: Spans) -> Jobs:
    store: Any = SimpleNamespace(now=lambda: 1, new_job_id=lambda owner, request_id: "0-a", at_one_place=True)
    blueprints: Any = SimpleNamespace(for_parents=lambda _: (one, ""))
    telemetry: Any = SimpleNamespace(tracing=spans)
    return Jobs(
        store,
        blueprints,
        Contracts(),
        NOTHING,
        NOTHING,
        1000,
        telemetry,
        NOTHING,
        NOTHING,
        1000,
        PageTokens(),
        NOTHING,
    )


async def test_spans_of_a_batch_end_where_its_creator_gives_up_while_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if to look at one job took long.
    monkeypatch.setattr("holon.turns.AT_ONCE_S", -1.0)
    spans = Spans()
    creating = asyncio.create_task(jobs(spans).create_for_parent(Client("ann"), [Creating("one", {})] * 9))
    await spans.some.wait()
    creating.cancel()
    await asyncio.wait([creating])
    assert creating.cancelled()
    assert 0 < spans.begun < 9
    assert spans.ended == spans.begun


async def test_no_span_begins_for_a_job_that_is_refused() -> None:
    spans = Spans()
    [refused] = await jobs(spans).create_for_parent(Client("ann"), [Creating("one", {}, dispatch_timeout=-1.0)])
    assert isinstance(refused, InvalidArgument)
    assert spans.begun == 0
