"""Ports: how somebody is told of a job's end."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from holon.domain.value import Value


class Heard(Enum):
    """What became of one try to tell somebody."""

    TOLD = "told"
    # It wants to hear of nothing any more.
    GONE = "gone"
    # Its answer says that it did not take it.
    REFUSED = "refused"
    # It did not answer in time, or its name was not found in time.
    LATE = "late"
    # There was no connection, or it broke before there was an answer.
    UNREACHED = "unreached"
    # It may not be told there: nothing was sent.
    FORBIDDEN = "forbidden"


class Answer(Value):
    """What became of a try, and why in words, for the log.

    `again_after` is after how many milliseconds the receiver wants to be asked again; None: it does not say.
    """

    heard: Heard
    why: str = ""
    again_after: int | None = None


class Delivery(Protocol):
    """What carries messages to those who are to be told."""

    async def send(self, url: str, message_id: str, body: bytes) -> Answer:
        """Try once to tell whoever is at an address, in bounded time; whatever becomes of it is in the answer.

        Arguments:
            message_id: the same for each try of the same message.
            body: a JSON object.
        """
        ...
