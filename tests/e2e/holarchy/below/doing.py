"""Blueprints for tests of holons: what a child does for its parent."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from holon import Blueprint
from holon.context import ActionFactory

# Nobody but a parent may start it.
work = Blueprint("work")


class Asked(TypedDict, total=False):
    """What `work` takes."""

    n: int
    seconds: float


class Done(TypedDict):
    """What it gives."""

    echo: int | None


@work.handler(is_start=True)
async def start(initial_data: Asked, actions: ActionFactory) -> None:
    actions.dispatch_task("echo", dict(initial_data), {"success": "worked", "cancelled": "clean"})


@work.handler(is_end=True)
async def worked(echo: int | None = None) -> Done:
    return {"echo": echo}


@work.handler
async def clean(actions: ActionFactory) -> None:
    actions.dispatch_task("echo", {"n": -1}, {"success": "cleaned"})


@work.handler(is_end=True, outcome="failed")
async def cleaned() -> None: ...


# As `work`, a level further down.
pass_on = Blueprint("pass_on")


@pass_on.handler("start", is_start=True)
async def passing(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.dispatch_task(initial_data["skill"], initial_data.get("params", {}), {"success": "end"})


@pass_on.handler("end", is_end=True)
async def passed(state_history: dict[str, Any]) -> dict[str, Any]:
    return state_history


# It gives `mortal` up to three prices of its worker, and a level further up seven.
spend = Blueprint("spend", price=3)


@spend.handler("start", is_start=True)
async def spending(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.dispatch_task("mortal", initial_data, {"success": "end"}, max_retries=0)


@spend.handler("end", is_end=True)
async def spent() -> None: ...


have_spent = Blueprint("have_spent", price=7)


@have_spent.handler("start", is_start=True)
async def having_spent(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.dispatch_task("spend", initial_data, {"success": "end"}, max_cost=3, max_retries=0)


@have_spent.handler("end", is_end=True)
async def had_spent() -> None: ...


lose = Blueprint("lose")


@lose.handler("start", is_start=True, is_end=True, outcome="failed")
async def lost() -> dict[str, Any]:
    return {"why": "on purpose"}


break_down = Blueprint("break_down")


@break_down.handler("start", is_start=True)
async def broken(actions: ActionFactory) -> None:
    actions.dispatch_task("fail", {"code": "PERMANENT_ERROR"}, {"success": "end"})


@break_down.handler("end", is_end=True)
async def unreached() -> None: ...


lie = Blueprint("lie")


@lie.handler("start", is_start=True, is_end=True)
async def lied() -> Done:
    # That is the lie.
    return {"echo": "text"}  # type: ignore[typeddict-item]


steps = Blueprint("steps")


@steps.handler("start", is_start=True)
async def first(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.dispatch_task("tell", {"upto": initial_data["first"]}, {"success": "second"})


@steps.handler
async def second(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    actions.dispatch_task("tell", {"upto": initial_data["second"]}, {"success": "third"})


@steps.handler("third", is_end=True)
async def third() -> list[int]:
    await asyncio.sleep(0)
    return [1, 2, 3]


consult = Blueprint("consult")


@consult.handler("start", is_start=True)
async def consulting(actions: ActionFactory) -> None:
    actions.await_human_approval("chat", "Publish?", {"yes": "end", "no": "again"})


@consult.handler("again")
async def consulting_again(actions: ActionFactory) -> None:
    actions.run_blueprint("deciding", {}, {"success": "end"})


@consult.handler("end", is_end=True)
async def consulted(state_history: dict[str, Any]) -> dict[str, Any]:
    return state_history


# A part of a job, which asks itself.
deciding = Blueprint("deciding", internal=True)


@deciding.handler("start", is_start=True)
async def deciding_it(actions: ActionFactory) -> None:
    actions.await_human_approval("chat", "And now?", {"yes": "end"})


@deciding.handler("end", is_end=True)
async def decided(state_history: dict[str, Any]) -> dict[str, Any]:
    return state_history


secret = Blueprint("secret", internal=True)


@secret.handler("start", is_start=True, is_end=True)
async def kept() -> None: ...
