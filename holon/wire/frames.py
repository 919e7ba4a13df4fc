"""The wire: frames of items that are encoded already, so that none is copied into a message and encoded again.

A message's field is its tag, its length and its bytes, and a repeated field one such after the other; see the encoding
page of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from google.protobuf.message import Message

_LENGTH_DELIMITED = 2


def frames_of(frame: type[Message], batch: str, items: str) -> Callable[[Sequence[bytes]], bytes]:
    """A function that makes a frame, as bytes, of the items of one batch, as bytes.

    Arguments:
        frame: the message; its field named `batch` holds a message, whose repeated field named `items` holds them.
    """
    outer = frame.DESCRIPTOR.fields_by_name[batch]
    if outer.message_type is None:
        raise TypeError(f"{batch} holds no message")
    around, before = _tag(outer.number), _tag(outer.message_type.fields_by_name[items].number)
    # Items of a kind are of few lengths.
    length = lru_cache(maxsize=1024)(_varint)

    def made(encoded: Sequence[bytes]) -> bytes:
        inner = b"".join([part for item in encoded for part in (before, length(len(item)), item)])
        return around + _varint(len(inner)) + inner

    return made


def member_of(message: type[Message], field: str) -> Callable[[bytes], bytes]:
    """A function that makes a message, as bytes, with nothing but one member, from the bytes of that.

    Put after the bytes of a message of the same kind it is that one's member.
    """
    tag = _tag(message.DESCRIPTOR.fields_by_name[field].number)
    return lambda encoded: tag + _varint(len(encoded)) + encoded


def _tag(number: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED)


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)
