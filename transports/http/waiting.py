"""The HTTP door: a wait for an answer, and what ends it early."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from holon.security.clients import Credential
from holon.transports.http.hurry import Hurry


class Waiting:
    """What is in this block (`async with`) is ended after so many seconds, or once the client wants its answer at once.

    Arguments:
        credential: the client's; once it is taken back, the block is ended, and raises Unauthenticated (TOKEN_INVALID).
    """

    __slots__ = ("_credential", "_hurry", "_limit")

    def __init__(self, seconds: float, hurry: Hurry, credential: Credential) -> None:
        self._limit = asyncio.timeout(seconds)
        self._hurry = hurry
        self._credential = credential

    def __repr__(self) -> str:
        return f"Waiting({self._limit!r})"

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._hurry.tell(self._end)
        self._credential.tell(self._end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._hurry.forget()
        self._credential.forget(self._end)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._credential.revoked:
                raise self._credential.taken_back() from None
            return True
        return False

    def _end(self) -> None:
        if not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())
