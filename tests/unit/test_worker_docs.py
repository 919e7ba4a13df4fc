"""The examples of docs/workers.md are workers."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from holon.worker import Worker

PAGE = Path(__file__).parents[2] / "docs" / "workers.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_makes_a_worker_with_a_skill(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(f"example_{number}")
    # Where hints and dataclasses look for the names of their module.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(EXAMPLES[number], str(PAGE), "exec"), module.__dict__)
    assert isinstance(module.worker, Worker)
    assert module.worker.skills
