"""What is written for workers: the examples are workers, and what is refused of them is named."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from holon.domain.event_types import OF_WAITS
from holon.worker import Result, Worker

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "workers.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def load(number: int, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType(f"example_{number}")
    # Where hints and dataclasses look for the names of their module.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(EXAMPLES[number], str(PAGE), "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_makes_a_worker_with_a_skill(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(number, monkeypatch)
    assert isinstance(module.worker, Worker)
    assert module.worker.skills


async def test_the_example_that_waits_for_an_answer_ends_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = [number for number, text in enumerate(EXAMPLES) if '"approved"' in text]
    module = load(number, monkeypatch)
    monkeypatch.chdir(tmp_path)
    answer = tmp_path / "answers" / "0-a"
    answer.parent.mkdir()
    answer.write_text("rejected\n")
    assert await module.ask("0-a") == Result("rejected")
    assert [skill.statuses for skill in module.worker.skills] == [frozenset(), {"approved", "rejected"}]


@pytest.mark.parametrize("page", ["docs/workers.md", "docs/protocol.md", "proto/holon/rxon/v1/worker.proto"])
def test_every_type_of_event_that_is_refused_of_workers_is_named(page: str) -> None:
    text = (ROOT / page).read_text()
    assert [kind for kind in sorted(OF_WAITS) if f"`{kind}`" not in text] == []
