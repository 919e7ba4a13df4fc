"""Traces as text: what is W3C's `traceparent` is kept as it came, and what is not is no trace."""

from __future__ import annotations

import pytest

from holon.domain.trace import MAX_STATE, headers_of, trace_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("parent", [PARENT, PARENT.replace("-01", "-00"), "cc" + PARENT[2:], f"cc{PARENT[2:]}-more"])
def test_a_traceparent_is_kept_as_it_came(parent: str) -> None:
    assert headers_of(trace_of(parent)) == (parent, "")


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT[:-1],
        f"{PARENT}-more",
        f"{PARENT} ",
        f"{PARENT}\n",
        "ff" + PARENT[2:],
        PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PARENT.replace("b7ad6b7169203331", "0" * 16),
    ],
)
def test_what_is_no_traceparent_is_no_trace(parent: str) -> None:
    assert trace_of(parent, "vendor=1") == ""


def test_a_tracestate_goes_with_its_trace() -> None:
    assert headers_of(trace_of(PARENT, " a=1, b=2 ")) == (PARENT, "a=1, b=2")


@pytest.mark.parametrize("state", ["", "a=\x00", "a=é", "x" * (MAX_STATE + 1)])
def test_a_tracestate_that_is_none_is_left_out(state: str) -> None:
    assert headers_of(trace_of(PARENT, state)) == (PARENT, "")


def test_no_trace_has_no_headers() -> None:
    assert headers_of("") == ("", "")
