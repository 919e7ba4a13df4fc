"""Chaos: the jobs. What they end with says whose results were applied, by the worker's own token."""

from __future__ import annotations

import asyncio
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

BRANCHES = 6
WORK = "work"
NOBODY = "nobody-has-this"
LOST = "lost"

one = Blueprint("one", api_version="v1", api_endpoint="/one")
chain = Blueprint("chain", api_version="v1", api_endpoint="/chain")
fan = Blueprint("fan", api_version="v1", api_endpoint="/fan")
alone = Blueprint("alone", api_version="v1", api_endpoint="/alone")
think = Blueprint("think", api_version="v1", api_endpoint="/think")
lost = Blueprint(LOST, api_version="v1", api_endpoint="/lost")
ALL = (one, chain, fan, alone, think, lost)


def _work(n: int, seconds: float) -> dict[str, Any]:
    return {"n": n, "seconds": seconds}


@one.handler(is_start=True)
async def ask(n: int, seconds: float, actions: ActionFactory) -> None:
    """One task."""
    actions.dispatch_task(WORK, _work(n, seconds), {"success": "answered"})


@one.handler(is_end=True)
async def answered(n: int, token: str) -> dict[str, Any]:
    """Whose answer it was."""
    return {"n": n, "tokens": [token]}


@chain.handler(is_start=True)
async def first(n: int, seconds: float, actions: ActionFactory) -> None:
    """Three tasks, one after the other."""
    actions.dispatch_task(WORK, _work(n, seconds), {"success": "second"})


@chain.handler
async def second(n: int, seconds: float, token: str, state_history: dict[str, Any], actions: ActionFactory) -> None:
    """The next."""
    state_history["tokens"] = [*state_history.get("tokens", ()), token]
    actions.dispatch_task(WORK, _work(n, seconds), {"success": "third"})


@chain.handler
async def third(n: int, seconds: float, token: str, state_history: dict[str, Any], actions: ActionFactory) -> None:
    """The last."""
    state_history["tokens"] = [*state_history["tokens"], token]
    actions.dispatch_task(WORK, _work(n, seconds), {"success": "linked"})


@chain.handler(is_end=True)
async def linked(n: int, token: str, tokens: list[str]) -> dict[str, Any]:
    """Whose answers they were."""
    return {"n": n, "tokens": [*tokens, token]}


@fan.handler(is_start=True)
async def split(n: int, seconds: float, actions: ActionFactory) -> None:
    """Some tasks at once."""
    actions.dispatch_parallel([{"task_type": WORK, "params": _work(n, seconds)}] * BRANCHES, aggregate_into="gather")


@fan.aggregator
async def gather(
    n: int, aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory
) -> None:
    """Those of the branches that did not fail."""
    state_history["tokens"] = [one["data"]["token"] for one in aggregation_results.values() if one.get("data")]
    state_history["branches"] = len(aggregation_results)
    actions.go_to("gathered")


@fan.handler(is_end=True)
async def gathered(n: int, tokens: list[str], branches: int) -> dict[str, Any]:
    """Whose answers they were."""
    return {"n": n, "tokens": tokens, "branches": branches}


@alone.handler(is_start=True)
async def begin(actions: ActionFactory) -> None:
    """No task at all."""
    actions.go_to("arrived")


@alone.handler(is_end=True)
async def arrived(n: int) -> dict[str, Any]:
    """Its number."""
    return {"n": n, "tokens": []}


@think.handler(is_start=True)
async def ponder(seconds: float, state_history: dict[str, Any], actions: ActionFactory) -> None:
    """A handler that may be cut short, and then runs again."""
    await asyncio.sleep(seconds)
    state_history["thoughts"] = 1
    actions.go_to("doubt")


@think.handler
async def doubt(seconds: float, thoughts: int, state_history: dict[str, Any], actions: ActionFactory) -> None:
    """Another, which waits for nobody else."""
    await asyncio.sleep(seconds)
    state_history["thoughts"] = thoughts + 1
    actions.go_to("known")


@think.handler(is_end=True)
async def known(n: int, thoughts: int) -> dict[str, Any]:
    """How often it was thought about, as far as it counts."""
    return {"n": n, "tokens": [], "thoughts": thoughts}


@lost.handler(is_start=True)
async def hope(actions: ActionFactory) -> None:
    """Nobody can do it."""
    actions.dispatch_task(NOBODY, {}, {"success": "found"})


@lost.handler(is_end=True)
async def found(n: int) -> dict[str, Any]:
    """It never comes here."""
    return {"n": n, "tokens": []}
