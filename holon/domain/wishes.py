"""The domain: what a job remembers of the wishes that it took, by which it knows their repeats."""

from __future__ import annotations

from collections.abc import Sequence

from holon.domain.value import Value

# A job remembers so many, the newest.
MOST_WISHES = 64
DECISION = "decision"
SIGNAL = "signal"


class Wish(Value):
    """A decision or a signal (`kind`) that a job took, and which (`word`).

    `request_id` is the client's name for it, and no other's of this kind.
    """

    kind: str
    request_id: str
    word: str


def with_wish(wishes: tuple[Wish, ...], wish: Wish) -> tuple[Wish, ...]:
    """Those that a job remembers once it took one more. What has no request id has no repeat."""
    return (*wishes, wish)[-MOST_WISHES:] if wish.request_id else wishes


def word_of(wishes: Sequence[Wish], kind: str, request_id: str | None) -> str | None:
    """Which decision or signal a request id names; None: none that is remembered."""
    named = (wish.word for wish in reversed(wishes) if (wish.kind, wish.request_id) == (kind, request_id))
    return next(named, None)
