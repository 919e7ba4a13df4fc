"""The guide to blueprints: its examples are whole files, and load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from holon.context import JobContext
from holon.domain.decisions import AskedPart, AskedTask, DispatchParallel, GoTo, RunBlueprint
from holon.engine.arguments import arguments
from holon.engine.loader import examine

GUIDE = Path(__file__).parents[2] / "docs" / "blueprints.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def load(text: str, folder: Path) -> Any:
    file = folder / "example.py"
    file.write_text(text, encoding="utf-8")
    report = examine([file])
    assert report.problems == ()
    # One that is only a part of it may stand beside it.
    (_, blueprint), *_ = report.blueprints
    return blueprint


async def run(blueprint: Any, state: str, **fields: Any) -> Any:
    given = {"initial_data": {}, **fields}
    context = JobContext(job_id="j", blueprint_name=blueprint.name, current_state=state, **given)
    handler = blueprint.states[state].handler(context.initial_data, context.state_history)
    answer = await handler.function(**arguments(handler, context))
    return context.actions.decision or answer


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_guide_loads_without_a_problem(text: str, tmp_path: Path) -> None:
    assert load(text, tmp_path).path.startswith("/api/v1/jobs/")


async def test_the_order_example_gets_an_instance_of_its_class(tmp_path: Path) -> None:
    (text,) = [one for one in EXAMPLES if "class Order" in one]
    order, history = load(text, tmp_path), {}  # type: ignore[var-annotated]
    data = {"customer": "c", "lines": [{"sku": "a"}, {"sku": "b", "amount": 2}]}
    assert await run(order, "start", initial_data=data, state_history=history) == GoTo("done")
    assert (await run(order, "done", state_history=history)).pieces == 3


async def test_the_book_example_tells_why_it_gave_up(tmp_path: Path) -> None:
    (text,) = [one for one in EXAMPLES if "give_up" in one]
    error = {"code": "RESULT_TIMEOUT", "message": "Task failed", "details": None}
    assert await run(load(text, tmp_path), "give_up", state_history={"error": error}) == {
        "why": "RESULT_TIMEOUT",
        "said": "Task failed",
    }


async def test_the_publish_example_has_its_words_counted_first(tmp_path: Path) -> None:
    (text,) = [one for one in EXAMPLES if "run_blueprint" in one]
    decision = await run(load(text, tmp_path), "start", initial_data={"text": "so it is"})
    assert isinstance(decision, RunBlueprint)
    assert decision.part == AskedPart("check", {"text": "so it is"})


async def test_the_count_example_adds_up_what_its_branches_answered(tmp_path: Path) -> None:
    (text,) = [one for one in EXAMPLES if "aggregate_into" in one]
    count, history = load(text, tmp_path), {}  # type: ignore[var-annotated]
    decision = await run(count, "start", initial_data={"files": ["a", "b"]})
    assert isinstance(decision, DispatchParallel)
    assert [branch.params for branch in decision.branches if isinstance(branch, AskedTask)] == [
        {"file": "a"},
        {"file": "b"},
    ]
    results = {"t1": {"status": "success", "data": {"lines": 3}}, "t2": {"status": "success", "data": {"lines": 4}}}
    assert await run(count, "add_up", state_history=history, aggregation_results=results) == GoTo("done")
    assert await run(count, "done", state_history=history) == {"lines": 7}
