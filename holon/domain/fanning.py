"""The domain: what a handler may ask for at once, tasks and parts of its job, checked at the call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, TypeAlias, TypedDict

from holon.domain.asking import MAPPINGS, Place, asked_part, asked_task, text, wrong
from holon.domain.decisions import AskedPart, AskedTask, DispatchParallel
from holon.domain.plain import obstacle
from holon.domain.strategies import DispatchStrategy
from holon.domain.wants import WANTS

# A step is written in one call, and a Redis before 7 takes no call of over 2^20 words, of which a branch is eight.
MAX_BRANCHES = 100_000
# Each is a job, whose id is in the state of the one above, and that is cancelled before that ends.
MAX_PARTS = 1_000
# What makes an item a part.
_BLUEPRINT = "blueprint_name"
_WANTS = frozenset(WANTS)


class _TaskOptions(TypedDict, total=False):
    """What an item may say of its task, as `dispatch_task` takes it."""

    params: Mapping[str, Any] | None
    priority: float | None
    timeout_seconds: float | None
    dispatch_timeout_seconds: float | None
    result_timeout_seconds: float | None
    max_retries: int | None
    on_lost: float | Literal["wait"] | None
    allowed_skills: Iterable[str] | None
    max_cost: int | None
    skill_version: str | None
    skill_type: str | None
    resource_requirements: Mapping[str, Any] | None
    dispatch_strategy: DispatchStrategy | None
    resource_hint: str | None


class TaskItem(_TaskOptions):
    """An item of `dispatch_parallel` that is a task."""

    task_type: str


class TypeItem(_TaskOptions):
    """The same with `type` in the place of `task_type`."""

    type: str


class _PartOptions(TypedDict, total=False):
    initial_data: Mapping[str, Any] | None
    dispatch_timeout: float | None
    result_timeout: float | None
    max_cost: int | None


class PartItem(_PartOptions):
    """An item of `dispatch_parallel` that is a job of another blueprint, as `run_blueprint` takes it."""

    blueprint_name: str


Item: TypeAlias = TaskItem | TypeItem | PartItem

_TASK_KEYS = frozenset((*TaskItem.__annotations__, *TypeItem.__annotations__))
_PART_KEYS = frozenset(PartItem.__annotations__)


def fan_out(tasks: Any, aggregate_into: Any, fail_fast: Any) -> DispatchParallel:
    """Many tasks and parts, and the state in which their results meet.

    Raises:
        BlueprintError: (ACTION_INVALID) they cannot be; the message says which. Or there are too many.
    """
    target = text("dispatch_parallel", "aggregate_into", aggregate_into)
    if not isinstance(fail_fast, bool):
        raise wrong(f"dispatch_parallel: fail_fast is {fail_fast!r}; give True or False")
    if isinstance(tasks, str | Mapping) or not isinstance(tasks, Iterable):
        raise wrong(f"dispatch_parallel: tasks is a {type(tasks).__name__}; give a list of dicts")
    asked = tuple(_branches(tasks))
    parts = [*map(type, asked)].count(AskedPart)
    if parts > MAX_PARTS:
        raise wrong(
            f"dispatch_parallel: {parts} of its items run blueprints, over the limit of {MAX_PARTS}; give fewer, "
            "larger ones, or let them run blueprints themselves"
        )
    return DispatchParallel(asked, target, fail_fast, parts)


def _branches(tasks: Iterable[Any]) -> Iterator[AskedTask | AskedPart]:
    where, asked = Place(), iter(tasks)
    # The skill of the one before. Before the first there is none, not even None: a task may say that.
    known: Any = where
    for where.index, task in enumerate(islice(asked, MAX_BRANCHES)):
        if type(task) is dict and len(task) == 2 and "task_type" in task and "params" in task:
            # Most say nothing else, and ask for the skill of the one before. There may be thousands, and everybody
            # waits for them: so nothing is called for what need not be looked at.
            skill, params = task["task_type"], task["params"]
            if skill is known and type(params) is dict:
                plain = params.copy()
                if found := obstacle(plain, "params"):
                    raise wrong(f"{where}: {found}")
                yield AskedTask(skill, plain)
                continue
        if isinstance(task, MAPPINGS) and _BLUEPRINT in task:
            yield _part(where, task)
            continue
        one = _task(where, task)
        known = one.skill
        yield one
    for _ in asked:
        raise wrong(f"dispatch_parallel: there are over {MAX_BRANCHES} tasks; give fewer, larger ones")


def _task(where: Place, task: Any) -> AskedTask:
    if not isinstance(task, MAPPINGS):
        raise wrong(f"{where} is a {type(task).__name__}; give a dict with task_type and params, or {_BLUEPRINT}")
    _check_keys(where, task, _TASK_KEYS)
    given = task.get
    skill = given("task_type", given("type"))
    if given("type", skill) != skill:
        raise wrong(f"{where} has task_type {skill!r} and type {task['type']!r}; give only one of them")
    timeouts = given("timeout_seconds"), given("dispatch_timeout_seconds"), given("result_timeout_seconds")
    priority, max_retries, on_lost = given("priority"), given("max_retries"), given("on_lost")
    allowed, max_cost = given("allowed_skills"), given("max_cost")
    wants = {} if _WANTS.isdisjoint(task) else {name: task[name] for name in WANTS if name in task}
    return asked_task(where, skill, given("params"), priority, timeouts, max_retries, on_lost, allowed, max_cost, wants)


def _part(where: Place, part: Mapping[str, Any]) -> AskedPart:
    _check_keys(where, part, _PART_KEYS)
    given = part.get
    times = given("dispatch_timeout"), given("result_timeout")
    return asked_part(where, part[_BLUEPRINT], given("initial_data"), *times, given("max_cost"))


def _check_keys(where: Place, item: Mapping[str, Any], known: frozenset[str]) -> None:
    if not known.issuperset(item):
        unknown = [key for key in item if key not in known]
        raise wrong(f"{where} has the unknown key {unknown[0]!r}; use {', '.join(sorted(known))}")
