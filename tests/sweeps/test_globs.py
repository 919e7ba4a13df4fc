"""Patterns of ids, any two of them: those that share a name are found to overlap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holon.security.globs import matches, overlap

PATTERN = st.text("ab*?", max_size=6)


@given(PATTERN, PATTERN, st.text("ab", max_size=6))
def test_patterns_that_share_a_name_overlap(one: str, other: str, name: str) -> None:
    if matches(one, name) and matches(other, name):
        assert overlap(one, other)
