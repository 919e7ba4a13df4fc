"""What a task asks of its worker beside the skill: said at the call, and part of what the task needs."""

from __future__ import annotations

from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.decisions import AskedTask, DispatchParallel, DispatchTask
from holon.domain.wants import Wants
from holon.errors import BlueprintError


def of_a_task(**said: Any) -> Wants | None:
    actions = ActionFactory()
    actions.dispatch_task("t", {}, {"success": "end"}, **said)
    decision = actions.decision
    assert isinstance(decision, DispatchTask)
    return decision.task.wants


def of_branches(*tasks: dict[str, Any]) -> list[Wants | None]:
    actions = ActionFactory()
    items: list[Any] = [{"task_type": "t", "params": {}, **said} for said in tasks]
    actions.dispatch_parallel(items, "end")
    decision = actions.decision
    assert isinstance(decision, DispatchParallel)
    return [one.wants for one in decision.branches if isinstance(one, AskedTask)]


def test_a_task_asks_for_a_version_and_a_type_alone_or_as_a_branch() -> None:
    assert of_a_task() is None
    assert of_a_task(skill_version=None, skill_type=None) is None
    assert of_a_task(skill_version="2") == Wants("2")
    assert of_a_task(skill_version="2", skill_type="gpu") == Wants("2", "gpu")
    assert of_branches({}, {"skill_type": "gpu"}, {"skill_version": None}, {"skill_version": "1.0"}) == [
        None, Wants("", "gpu"), None, Wants("1.0"),
    ]  # fmt: skip


def test_a_task_requires_hardware_alone_or_as_a_branch() -> None:
    required = {"resources": {"ram_gb": 16, "devices": [{"type": "gpu"}]}}
    text = '{"devices":[{"type":"gpu"}],"ram_gb":16}'
    assert of_a_task(resource_requirements=required) == Wants(resources=text)
    assert of_branches({"resource_requirements": required, "skill_version": "2"}) == [Wants("2", "", text)]
    nothing: Any
    for nothing in (None, {}, {"resources": {}}):
        assert of_a_task(resource_requirements=nothing) is None


@pytest.mark.parametrize(
    ("required", "why"),
    [
        ([], "is a list; give a dict, such as {'resources': {'ram_gb': 16}}"),
        ({"ram_gb": 16}, 'has the unknown key "ram_gb"; use resources'),
        ({"resources": {}, "installed_artifacts": []}, 'has the unknown key "installed_artifacts"; use resources'),
        ({"resources": None}, ".resources is null; give a dict"),
        ({"resources": {"ram_gb": None}}, ".resources.ram_gb is null; give a number"),
    ],
)
def test_what_cannot_be_required_is_refused_at_the_call(required: Any, why: str) -> None:
    with pytest.raises(BlueprintError) as refused:
        of_a_task(resource_requirements=required)
    assert str(refused.value).startswith("dispatch_task: resource_requirements")
    assert why in str(refused.value)
    assert refused.value.code == "ACTION_INVALID"


def test_a_task_says_whom_it_would_rather_have_alone_or_as_a_branch() -> None:
    assert of_a_task(dispatch_strategy="cheapest") == Wants(strategy="cheapest")
    assert of_a_task(dispatch_strategy="overflow", resource_hint="llama 3") == Wants(
        strategy="overflow", hint="llama 3"
    )
    assert of_a_task(dispatch_strategy="default") is None
    assert of_branches({"dispatch_strategy": "round_robin"}, {"resource_hint": "x"}, {"resource_hint": None}) == [
        Wants(strategy="round_robin"), Wants(hint="x"), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            {"dispatch_strategy": "Cheapest"},
            'is "Cheapest"; give one of default, round_robin, least_connections, cheap',
        ),
        ({"dispatch_strategy": ""}, 'is ""; give one of'),
        ({"dispatch_strategy": 1}, "is 1; give one of"),
        ({"dispatch_strategy": ["cheapest"]}, 'is ["cheapest"]; give one of'),
        ({"resource_hint": ""}, 'is ""; give text of 1 to 256 printable characters'),
        ({"resource_hint": "x" * 257}, "give text of 1 to 256"),
        ({"resource_hint": "a\n"}, "give text of 1 to 256"),
        ({"resource_hint": 7}, "is 7; give text"),
    ],
)
def test_a_strategy_that_there_is_not_and_what_is_no_hint_are_refused_at_the_call(
    said: dict[str, Any], why: str
) -> None:
    with pytest.raises(BlueprintError) as refused:
        of_a_task(**said)
    assert str(refused.value).startswith(f"dispatch_task: {next(iter(said))} is ")
    assert why in str(refused.value)


@pytest.mark.parametrize("name", ["skill_version", "skill_type"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (2, "is a number; give text, or None for any"),
        ("", "is empty; give None for any"),
        ("a\nb", r'is "a\\nb"; give at most 128 printable characters, as a worker declares it'),
        ("x" * 129, "give at most 128 printable"),
    ],
)
def test_what_no_worker_can_declare_is_refused_at_the_call(name: str, value: Any, why: str) -> None:
    with pytest.raises(BlueprintError, match=rf"^dispatch_task: {name} (is .*; )?{why}"):
        of_a_task(**{name: value})
    with pytest.raises(BlueprintError, match=f"^dispatch_parallel: task 1: {name} ") as refused:
        of_branches({}, {name: value})
    assert refused.value.code == "ACTION_INVALID"
