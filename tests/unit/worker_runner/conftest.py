"""Runners for handlers; they are closed when their test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.unit.worker_runner.bench import Bench, Make


@pytest.fixture
async def closing() -> AsyncIterator[list[Bench]]:
    benches: list[Bench] = []
    yield benches
    for bench in benches:
        bench.runner.close()


@pytest.fixture
def bench(closing: list[Bench]) -> Make:
    def make(*handlers: Callable[..., Any], **options: Any) -> Bench:
        closing.append(Bench(*handlers, **options))
        return closing[-1]

    return make
