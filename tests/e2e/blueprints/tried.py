"""Blueprints for end-to-end tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from holon import Blueprint
from holon.context import ActionFactory

echo = Blueprint("echo", api_endpoint="/jobs/echo", api_version="v1")


@echo.handler(is_start=True)
async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.send_event("asked", initial_data.get("n"))
    actions.dispatch_task("echo", initial_data, {"success": "finished"})


@echo.handler(is_end=True)
async def finished(echo: int) -> dict[str, Any]:
    return {"echo": echo}


fan = Blueprint("fan", api_endpoint="/jobs/fan", api_version="v1")


@fan.handler("start", is_start=True)
async def spread(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    count = initial_data["branches"]
    actions.dispatch_parallel([{"task_type": "echo", "params": {"n": n}} for n in range(count)], "gathered")


@fan.aggregator
async def gathered(aggregation_results: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
    state_history["sum"] = sum(result["data"]["echo"] for result in aggregation_results.values())
    actions.go_to("done")


@fan.handler(is_end=True)
async def done(sum: int) -> dict[str, Any]:  # noqa: A002  a key of the data
    return {"sum": sum}


deadly = Blueprint("deadly", api_endpoint="/jobs/deadly", api_version="v1")


@deadly.handler("start", is_start=True)
async def crash(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    """Kills its node; with `once` only the first time, and fails the second."""
    notes = Path(initial_data["once"]) if "once" in initial_data else None
    runs = len(notes.read_text("ascii")) if notes is not None and notes.exists() else 0
    if notes is not None:
        notes.write_text("x" * (runs + 1), "ascii")
    if runs == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if runs == 1:
        raise RuntimeError("not yet")
    actions.go_to("end")


@deadly.handler("end", is_end=True)
async def never() -> None: ...


poison = Blueprint("poison", api_endpoint="/jobs/poison", api_version="v1")


@poison.handler("start", is_start=True)
async def send(actions: ActionFactory) -> None:
    actions.dispatch_task("die", {}, {"success": "end"})


@poison.handler("end", is_end=True)
async def survived() -> None: ...


asks = Blueprint("asks", api_endpoint="/jobs/asks", api_version="v1")


@asks.handler("start", is_start=True)
async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.await_human_approval("chat", f"Go on with {initial_data['n']}?", {"yes": "rest", "no": "given_up"})


@asks.handler
async def rest(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.sleep(initial_data.get("seconds", 0), "rested")


@asks.handler(is_end=True)
async def rested(state_history: dict[str, Any]) -> dict[str, Any]:
    return state_history


@asks.handler(is_end=True)
async def given_up(state_history: dict[str, Any]) -> dict[str, Any]:
    return state_history


ticks = Blueprint("ticks", api_endpoint="/jobs/ticks", api_version="v1")


@ticks.handler("start", is_start=True)
async def count(initial_data: dict[str, Any], state_history: dict[str, Any], actions: ActionFactory) -> None:
    if "n" in state_history:
        state_history["had"] = [*state_history.get("had", []), state_history.pop("n")]
    if len(state_history.get("had", [])) == initial_data["wanted"]:
        actions.go_to("end")
    else:
        actions.await_signal({"tick": "start"})


@ticks.handler("end", is_end=True)
async def counted(had: list[int]) -> list[int]:
    return had
