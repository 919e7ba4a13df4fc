"""Handlers that ask for the files of their job: found before any job runs."""

from __future__ import annotations

from typing import Any

import pytest

from holon import Blueprint
from holon.context import ActionFactory, JobContext
from holon.domain import integrity
from holon.engine.arguments import arguments
from holon.engine.blueprints import Blueprints, lacks_files
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError


def blueprint(start: Any) -> Blueprint:
    bp = Blueprint("one")
    bp.handler("start", is_start=True)(start)

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def by_name(task_files: Any, actions: ActionFactory) -> None:
    actions.go_to("end")


async def by_default(actions: ActionFactory, task_files: Any = None) -> None:
    actions.go_to("end")


async def by_context(context: Any) -> None:
    context.task_files.path("x")
    context.actions.go_to("end")


async def inside(context: Any) -> None:
    def place() -> Any:
        return context.task_files.path("x")

    place()
    context.actions.go_to("end")


async def without(context: Any, actions: ActionFactory) -> None:
    actions.go_to("end")


@pytest.mark.parametrize(
    ("handler", "files", "needs"),
    [
        (by_name, True, True),
        (by_default, True, False),
        (by_context, True, True),
        (inside, True, True),
        (without, False, False),
    ],
)
def test_who_asks_for_files_is_known_and_not_run_before_the_job_is_stored(
    handler: Any, files: bool, needs: bool
) -> None:
    bp = blueprint(handler)
    (state,) = bp.states["start"].handlers
    assert (state.files, state.needs_files, state.prompt) == (files, needs, not files)
    assert bp.has_files is files
    assert integrity.check(bp) == []
    assert (lacks_files(bp) is not None) is needs
    Blueprints(Contracts()).register(bp)
    if needs:
        with pytest.raises(BlueprintError, match="S3_ENDPOINT_URL") as refused:
            Blueprints(Contracts(), files=False).register(bp)
        assert refused.value.code == "TASK_FILES_OFF"
    else:
        Blueprints(Contracts(), files=False).register(bp)


def test_an_argument_with_a_default_keeps_it_where_there_are_no_files() -> None:
    context = JobContext("j", "one", "start", {"task_files": "a client's"})
    given = arguments(blueprint(by_default).states["start"].handlers[0], context)
    assert given == {"actions": context.actions}
