"""The domain: which trace a job belongs to, as text.

It is W3C's `traceparent`, then a space and `tracestate` if there is any; the empty text is no trace. What is kept is
passed on unchanged by a node that does not trace.
"""

from __future__ import annotations

import re

MAX_STATE = 512

# A version of its own may add fields after a dash, but not version 00; ff is none, and an id of zeros is none.
_PARENT = re.compile(
    r"(?!ff)(?!00.{53}.)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{1,200})?"
)
_STATE = re.compile(rf"[\x20-\x7e]{{1,{MAX_STATE}}}")


def trace_of(parent: str, state: str = "") -> str:
    """A trace from its two headers; empty when `traceparent` is none. A `tracestate` that is none is left out."""
    if not _PARENT.fullmatch(parent):
        return ""
    state = state.strip()
    return f"{parent} {state}" if _STATE.fullmatch(state) else parent


def headers_of(trace: str) -> tuple[str, str]:
    """`traceparent` and `tracestate` of a trace, each empty when there is none."""
    parent, _, state = trace.partition(" ")
    return parent, state
