"""Where things are: every key of a partition has its hash tag, so that all of them are in one slot."""

from __future__ import annotations

from typing import Any


class Keys:
    """The keys of one partition, or of what nodes share beside jobs.

    Attributes:
        prefix: what all of them begin with.
        meta: what is known of the partition as a whole.
        declared: what every operation is called with, the number of keys first. One of them never exists: while a slot
            moves to another server and half of its keys are gone, both servers refuse what asks for several keys of
            which one is missing. So no operation runs on a part of what it is about.
    """

    def __init__(self, tag: int | str) -> None:
        self.prefix = f"{{h:{tag}}}:"
        self.meta = f"{self.prefix}meta"
        self.declared: tuple[Any, ...] = (2, self.meta, f"{self.prefix}nothing")


# What nodes share beside jobs has a slot of its own.
SHARED = Keys("r")
