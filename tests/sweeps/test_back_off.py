"""The back-off between tries, after any number of failures and with any luck."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holon.domain.retries import back_off
from holon.domain.task import RetryPolicy

POLICY = RetryPolicy(max_retries=3, first_ms=1_000, longest_ms=60_000)


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_the_back_off_is_a_whole_number_between_nothing_and_its_longest(failures: int, chance: float) -> None:
    wait = back_off(POLICY, failures, chance)
    assert isinstance(wait, int)
    assert 0 <= wait <= POLICY.longest_ms
