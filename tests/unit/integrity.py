"""Blueprints whose handlers are read, and what is found of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from holon.domain.blueprint import Blueprint
from holon.domain.integrity import check


def found(one: Blueprint) -> list[tuple[str, str | None]]:
    return [(problem.severity, problem.state) for problem in check(one)]


def blueprint(start: Callable[..., Awaitable[Any]], *ends: str) -> Blueprint:
    one = Blueprint("one")
    one.handler("start", is_start=True)(start)
    for name in ends:

        async def end() -> None: ...

        one.handler(name, is_end=True)(end)
    return one
