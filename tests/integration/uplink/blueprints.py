"""What a child does for its parent in these tests."""

from __future__ import annotations

from typing import Any

from holon.context import ActionFactory, JobContext
from holon.domain.blueprint import Blueprint
from holon.domain.task import SUCCESS, Outcome

DONE = Outcome(SUCCESS, b"{}")


def blueprints() -> list[Blueprint]:
    work = Blueprint("work", "/work")

    @work.handler(is_start=True)
    async def start(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(
            "leaf", {}, transitions={"success": "end", "cancelled": "tidy"}, priority=initial_data.get("priority", 0)
        )

    @work.handler
    async def tidy(context: JobContext, actions: ActionFactory) -> None:
        actions.dispatch_task(context.initial_data.get("tidies", "nobody"), {}, transitions={"success": "end"})

    @work.handler(is_end=True)
    async def end() -> None: ...

    named = Blueprint("named")

    @named.handler(is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["of"], {}, transitions={"success": "done"})

    @named.handler(is_end=True)
    async def done() -> None: ...

    spread = Blueprint("spread")

    @spread.handler(is_start=True)
    async def fan(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_parallel([{"task_type": one, "params": {}} for one in initial_data["of"]], "gathered")

    @spread.handler(is_end=True)
    async def gathered() -> None: ...

    fails = Blueprint("fails")

    @fails.handler(is_start=True)
    async def choose(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.go_to(initial_data["end"])

    @fails.handler("for_now", is_end=True, outcome="failed", retry=True)
    async def for_now() -> dict[str, str]:
        return {"why": "the tide"}

    @fails.handler("partly", is_end=True, status="partial")
    async def partly() -> dict[str, int]:
        return {"pages": 3}

    @fails.handler("for_good", is_end=True, outcome="failed")
    async def for_good() -> None: ...

    return [work, named, spread, fails]


def a_line() -> Blueprint:
    """Three dispatches, one after the other."""
    line = Blueprint("line")

    @line.handler(is_start=True)
    async def first(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, transitions={"success": "second"})

    @line.handler(progress_weight=2)
    async def second(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, transitions={"success": "third", "again": "first"})

    @line.handler
    async def third(actions: ActionFactory) -> None:
        actions.dispatch_task("leaf", {}, transitions={"success": "over"})

    @line.handler(is_end=True)
    async def over() -> None: ...

    return line


def in_parts() -> list[Blueprint]:
    """`outer` runs `inner`, that `asks`, and that asks for what it is told to ask for."""
    outer, inner, asks = (Blueprint(name, internal=name != "outer") for name in ("outer", "inner", "asks"))
    for one, below in ((outer, "inner"), (inner, "asks")):

        @one.handler("start", is_start=True)
        async def start(initial_data: dict[str, Any], actions: ActionFactory, below: str = below) -> None:
            actions.run_blueprint(below, initial_data, {"success": "end"})

    @asks.handler("ask", is_start=True)
    async def ask(initial_data: dict[str, Any], actions: ActionFactory) -> None:
        actions.dispatch_task(initial_data["of"], {}, {"success": "end"})

    for one in (outer, inner, asks):

        @one.handler("end", is_end=True)
        async def end() -> None: ...

    return [outer, inner, asks]
