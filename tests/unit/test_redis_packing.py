"""Commands to Redis as they are sent, of words that are packed together or beforehand."""

from __future__ import annotations

import hiredis
import pytest

from holon.storage.redis.packing import Packed, packed

COMMAND = ("EVALSHA", "é", b"\x00\r\n", 7, -1, 1.5, 1e22, "", b"x" * 10_000)


def words_of(sent: bytes) -> list[bytes]:
    """What a server reads of a command."""
    reader = hiredis.Reader()
    reader.feed(sent)
    read: list[bytes] = reader.gets()
    assert reader.gets() is False
    return read


def test_words_are_sent_as_the_server_reads_them() -> None:
    texts = [b"EVALSHA", "é".encode(), b"\x00\r\n", b"7", b"-1", b"1.5", b"1e+22", b"", b"x" * 10_000]
    assert words_of(packed(COMMAND)) == texts


@pytest.mark.parametrize("at", range(len(COMMAND) + 1))
def test_what_is_packed_beforehand_is_sent_as_if_it_were_not(at: int) -> None:
    before, after = Packed.of(COMMAND[:at]), Packed.of(COMMAND[at:])
    assert packed((before, *COMMAND[at:])) == packed((*COMMAND[:at], after)) == packed((before, after))
    assert packed((*COMMAND[:at], before, after, *COMMAND[at:])) == packed((*COMMAND[:at], *COMMAND, *COMMAND[at:]))
    assert (before.words, len(before) + len(after)) == (at, len(packed(COMMAND)) - len(b"*9\r\n"))


@pytest.mark.parametrize("wrong", [None, ["a"]])
def test_what_is_no_word_is_not_sent(wrong: object) -> None:
    for command in ((*COMMAND, wrong), (Packed.of(COMMAND), wrong)):
        with pytest.raises(TypeError):
            packed(command)
