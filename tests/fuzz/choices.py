"""Choices made of bytes: hypothesis varies the bytes, and what is built of them follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st

T = TypeVar("T")

# Enough for a few dozen choices; what is left undecided is the first of its alternatives.
ENTROPY = st.binary(min_size=64, max_size=300)
# Examples share a node, so that a failure may need those before it: it is reported as it was found, not shrunk.
EXAMPLES = settings(max_examples=2_000, phases=(Phase.explicit, Phase.reuse, Phase.generate), print_blob=True)


class Choices:
    """A row of decisions. Where the bytes have run out, each is the simplest one: no, 0, the first."""

    def __init__(self, entropy: bytes) -> None:
        self._entropy = entropy
        self._at = 0

    def __repr__(self) -> str:
        return f"Choices({self._entropy[self._at :]!r})"

    @property
    def over(self) -> bool:
        """Whether nothing more is decided."""
        return self._at >= len(self._entropy)

    def byte(self) -> int:
        """0 to 255."""
        self._at += 1
        return 0 if self._at > len(self._entropy) else self._entropy[self._at - 1]

    def below(self, limit: int) -> int:
        """0 to `limit` - 1."""
        number = self.byte()
        return (number if limit <= 256 else number << 8 | self.byte()) % limit

    def one_in(self, times: int) -> bool:
        """Yes about once in so many times."""
        return self.below(times) == times - 1

    def of(self, alternatives: Sequence[T]) -> T:
        """One of them."""
        return alternatives[self.below(len(alternatives))]

    def bytes(self, length: int) -> bytes:
        """So many bytes."""
        return bytes(self.byte() for _ in range(length))

    def weighted(self, *alternatives: tuple[int, Callable[[], Any]]) -> Any:
        """What one of them makes, by weight; the weights are 256 at most together."""
        at = self.below(sum(weight for weight, _ in alternatives))
        for weight, make in alternatives:
            if at < weight:
                return make()
            at -= weight
        raise AssertionError("the weights were added up before")
