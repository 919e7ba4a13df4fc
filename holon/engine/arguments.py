"""The arguments of handlers, found by their names: in the context of the run, and in the data of its job."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from holon.context import JobContext
from holon.domain import schema
from holon.domain.states import Handler
from holon.errors import BlueprintError

_ABSENT = object()
_NAMES_SHOWN = 20
_FIELDS = tuple(JobContext.__dataclass_fields__)


def arguments(handler: Handler, context: JobContext) -> dict[str, Any]:
    """The arguments of a handler, by their names.

    `context` is the whole context. A field of the context wins over data of the same name, `state_history` over
    `initial_data`. `initial_data` is built as the handler's hint says. What is not there keeps its default.

    Arguments:
        handler: the one that runs.
        context: what this run may know.
    Raises:
        BlueprintError: (MISSING_ARGUMENT) a required argument is nowhere.
        InvalidArgument: `initial_data` does not fit the handler's hint.
    """
    given: dict[str, Any] = {}
    for want in handler.wants:
        if want.name == "initial_data":
            given["initial_data"] = schema.build(_hint(handler.function), context.initial_data)
        elif want.name == "context":
            given["context"] = context
        elif want.name == "task_files" and context.task_files is None and not want.required:
            continue
        elif want.name in _FIELDS:
            given[want.name] = getattr(context, want.name)
        else:
            value = context.state_history.get(want.name, context.initial_data.get(want.name, _ABSENT))
            if value is not _ABSENT:
                given[want.name] = value
            elif want.required:
                raise _missing(want.name, context)
    return given


@lru_cache(maxsize=1024)
def _hint(function: Callable[..., Any]) -> Any:
    return schema.hint_of(function, "initial_data")


def _missing(name: str, context: JobContext) -> BlueprintError:
    data = sorted({*context.state_history, *context.initial_data})
    known = ", ".join(data[:_NAMES_SHOWN]) + (f" and {len(data) - _NAMES_SHOWN} more" if data[_NAMES_SHOWN:] else "")
    return BlueprintError(
        f"handler {context.current_state!r} of blueprint {context.blueprint_name!r} requires the argument {name!r}, "
        f"which is neither in the context ({', '.join(_FIELDS)}) nor in the job's data ({known or 'empty'}); give it "
        "a default, or provide it in an earlier step",
        code="MISSING_ARGUMENT",
    )
