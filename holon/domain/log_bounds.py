"""The domain: how much a line of a task's log may say, for both sides of a worker's stream."""

from __future__ import annotations

# In bytes: of UTF-8, and of JSON.
MAX_TEXT = 8_192
MAX_FIELDS = 8_192


def left_out(size: int) -> dict[str, str]:
    """What a line says in the place of fields that have so many bytes of JSON, which is too much."""
    return {"fields_left_out": f"{size} bytes of JSON, over the limit of {MAX_FIELDS}"}
