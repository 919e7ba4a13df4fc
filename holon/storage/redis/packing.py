"""Commands as they are sent to the server: each word with its length, and before them how many there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, TypeAlias

import hiredis

from holon.domain.value import Value

Word: TypeAlias = str | bytes | int | float


class Packed(Value):
    """Words of a command that are packed already, where they are many: so they need not be all packed at once.

    `words` is how many they are.
    """

    words: int
    text: bytes

    @classmethod
    def of(cls, words: Iterable[Word]) -> Self:
        """Pack words."""
        given = tuple(words)
        command: bytes = hiredis.pack_command(given)  # type: ignore[arg-type]  # as if a command were one word
        return cls(len(given), command[command.index(b"\n") + 1 :])

    def __len__(self) -> int:
        """How many bytes it has."""
        return len(self.text)


def packed(command: tuple[Any, ...]) -> bytes:
    """A command, ready to be sent; of its words some may be packed.

    Raises:
        TypeError: a word is none.
    """
    try:
        whole: bytes = hiredis.pack_command(command)
    except TypeError:
        return _of_parts(command)
    return whole


def _of_parts(command: tuple[Any, ...]) -> bytes:
    parts: list[Packed] = []
    waiting: list[Word] = []
    for word in command:
        if isinstance(word, Packed):
            parts += (Packed.of(waiting), word)
            waiting = []
        else:
            waiting.append(word)
    parts.append(Packed.of(waiting))
    return b"".join([b"*%d\r\n" % sum(part.words for part in parts), *(part.text for part in parts)])
