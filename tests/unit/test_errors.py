"""What an error says to whoever tries again."""

from __future__ import annotations

from holon.errors import StoreUnavailable


def test_who_tries_again_in_any_case_waits_as_long_as_the_error_says_or_a_second() -> None:
    assert StoreUnavailable("the store is away", retry_after=0.25).again_after == 0.25
    unsaid = StoreUnavailable("the store is away")
    assert (unsaid.again_after, unsaid.retry_after) == (1.0, None)
