"""Schemas that several tests of contracts make."""

from __future__ import annotations

from typing import Any


def chain(length: int, times: int) -> dict[str, Any]:
    """Definitions that each refer `times` to the next."""
    parts: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"} for _ in range(times)]} for n in range(length)
    }
    return {"$defs": parts | {f"a{length}": {"type": "integer"}}, "$ref": "#/$defs/a0"}
