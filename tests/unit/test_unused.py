"""What is kept of contracts that nobody has in use: the last ones, and never too much of them."""

from __future__ import annotations

import pytest

from holon.engine.unused import MOST_PATTERNS, Unused


def test_of_too_many_those_are_given_up_that_were_used_longest_ago() -> None:
    unused: Unused[str, int] = Unused(2)
    assert [list(unused.put(key, n, 0)) for n, key in enumerate("abc")] == [[], [], ["a"]]
    assert unused.look_up("b") == 1
    assert list(unused.put("d", 3, 0)) == ["c"]
    assert (len(unused), "b" in unused, "c" in unused) == (2, True, False)


def test_those_with_many_patterns_are_fewer() -> None:
    unused: Unused[str, int] = Unused(100)
    half = MOST_PATTERNS // 2
    assert [list(unused.put(key, 0, n)) for key, n in (("a", half), ("b", half), ("c", 0))] == [[], [], []]
    assert list(unused.put("d", 0, half + 1)) == ["a", "b"]
    assert (len(unused), repr(unused)) == (2, f"<Unused 2 of 100, patterns={half + 1}>")
    assert list(unused.put("e", 0, MOST_PATTERNS + 1)) == ["c", "d", "e"]
    assert (len(unused), repr(unused)) == (0, "<Unused 0 of 100, patterns=0>")


def test_what_is_used_again_counts_no_more_and_what_is_not_there_is_an_error() -> None:
    unused: Unused[str, int] = Unused(1)
    unused.put("a", 7, MOST_PATTERNS)
    assert (unused.take("a"), len(unused)) == (7, 0)
    assert list(unused.put("b", 8, MOST_PATTERNS)) == []
    for ask in (unused.take, unused.look_up):
        with pytest.raises(KeyError):
            ask("a")
