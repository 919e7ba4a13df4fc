"""Fleets: the skills that workers offer, as their node tells the others: once of those that offer the same."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace as but
from typing import NamedTuple

from msgspec import DecodeError
from msgspec.json import Decoder, Encoder

from holon.domain.matching import Offering
from holon.domain.value import Value, replace
from holon.engine.offered import Known

# What is told of one worker's skills has no more bytes than this, unpacked and packed.
MOST_BYTES = 1024 * 1024
MOST_PACKED = 32 * 1024


class Stock(Value, gc=True, array_like=False):
    """The skills that a worker offers, as they are listed, and as they are matched.

    `keeps_resources`: what is required of a machine is done on one that has it.
    """

    skills: tuple[Known, ...] = ()
    offerings: tuple[Offering, ...] = ()
    keeps_resources: bool = True


class Packed(NamedTuple):
    """A stock as it is told; how many bytes it has unpacked, and whether it is all of it."""

    text: bytes
    size: int
    whole: bool


_encode, _decode = Encoder(order="sorted").encode, Decoder(Stock).decode


def text_of(stock: Stock) -> bytes:
    """A stock as text: the same for workers that offer the same."""
    return _encode(stock)


def packed(stock: Stock, text: bytes) -> Packed:
    """A stock as it is told. Of what is too much schemas and descriptions are left out first, then all of it.

    Arguments:
        text: its text.
    """
    if (whole := _packed(text)) is not None:
        return Packed(whole, len(text), whole=True)
    text = _encode(replace(stock, skills=tuple(map(_bare, stock.skills))))
    if (some := _packed(text)) is not None:
        return Packed(some, len(text), whole=False)
    return nothing()


def nothing() -> Packed:
    """What is told of a worker of whose skills nothing can be."""
    text = _encode(Stock())
    return Packed(zlib.compress(text, 1), len(text), whole=False)


def _packed(text: bytes) -> bytes | None:
    if len(text) > MOST_BYTES:
        return None
    short = zlib.compress(text, 1)
    return short if len(short) <= MOST_PACKED else None


def _bare(known: Known) -> Known:
    """A skill without what takes the most room; it is still told apart from others by its key."""
    skill = but(known.skill, input_schema=None, output_schema=None, description="", events=None)
    return but(known, skill=skill, weight=0)


class Stocked:
    """A stock that another node told, looked up by skill."""

    def __init__(self, stock: Stock) -> None:
        self.known = stock.skills
        self.skills = tuple(one.skill for one in stock.skills)
        self.names = frozenset(one.name for one in self.skills)
        self.keeps_resources = stock.keeps_resources
        self._offered: dict[str, list[Offering]] = {}
        for one in stock.offerings:
            self._offered.setdefault(one.skill, []).append(one)

    def __repr__(self) -> str:
        return f"Stocked(skills={len(self.names)})"

    def offers_of(self, skill: str) -> Sequence[Offering]:
        """What is offered of a skill."""
        return self._offered.get(skill, ())


def stocked_in(text: bytes) -> Stocked | None:
    """What a node told; None: it cannot be read."""
    try:
        return Stocked(_decode(zlib.decompressobj().decompress(text, MOST_BYTES)))
    except (zlib.error, DecodeError):
        return None
