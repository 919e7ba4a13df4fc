"""Hints of a store: told at once, to everybody who hears them, and of jobs only those that are watched."""

from __future__ import annotations

from holon.ports import Hint
from holon.storage.hints import Hints


def test_everybody_is_told_until_he_hears_no_more() -> None:
    hints, one, other = Hints(), list[Hint](), list[Hint]()
    leave = hints.hear(one.append)
    hints.hear(other.append)
    hints.hear(other.append)
    hints.give(Hint(notices=True))
    leave()
    leave()
    hints.give(Hint(stops=True))
    assert one == [Hint(notices=True)]
    assert other == [Hint(notices=True), Hint(notices=True), Hint(stops=True), Hint(stops=True)]


def test_who_leaves_while_others_are_told_keeps_it_from_nobody() -> None:
    hints, told = Hints(), list[Hint]()

    def go(hint: Hint) -> None:
        leave()
        hints.hear(told.append)

    leave = hints.hear(go)
    hints.hear(told.append)
    hints.give(Hint(notices=True))
    assert told == [Hint(notices=True)]
    hints.give(Hint(stops=True))
    assert told == [Hint(notices=True), Hint(stops=True), Hint(stops=True)]


def test_of_jobs_that_nobody_watches_nothing_is_told() -> None:
    hints, told = Hints(), list[Hint]()
    hints.hear(told.append)
    hints.watched.add("a")
    hints.give(Hint(jobs=frozenset({"b"})))
    hints.give(Hint(jobs=frozenset({"a", "b"}), notices=True))
    assert told == [Hint(jobs=frozenset({"a"}), notices=True)]
