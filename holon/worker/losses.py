"""The worker SDK: sessions that were lost, or never came to be: what is said of each, and the wait before the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from holon.worker.certificate import Certificate
from holon.worker.channel import Ended
from holon.worker.timing import Timing
from holon.worker.tokens import Tokens

_log = logging.getLogger("holon.worker")


class Losses:
    """Those in a row, for the more there are, the longer is waited.

    Arguments:
        tokens: where short-lived tokens come from, if they are used.

    Attributes:
        shown: the certificate of the last attempt; None where its files could not be read, and there was none.
    """

    def __init__(self, timing: Timing, tokens: Tokens | None) -> None:
        self.shown: Certificate | None = None
        self._timing = timing
        self._tokens = tokens
        self._in_a_row = 0

    def __repr__(self) -> str:
        return f"Losses(in_a_row={self._in_a_row})"

    def forget(self) -> None:
        """Those of before do not count any more."""
        self._in_a_row = 0

    async def wait(self, error: Exception, serving: Sequence[asyncio.Task[None]], *, linked: bool = False) -> None:
        """Say why there is no session, and wait before the next attempt.

        Arguments:
            serving: the streams that we were sent away from, and that serve as long as there is no other.
            linked: whether there was a session until now.
        """
        self._in_a_row += 1
        at_once = self._timing.reconnect_at_once and linked and self._in_a_row == 1
        wait = 0.0 if at_once else self._timing.pause(self._in_a_row)
        if isinstance(error, Ended) and error.refused and not self._shows_another():
            wait = self._timing.pause_refused(self._in_a_row)
            _log.error("%s; trying again in %.0f s", error, wait)
        else:
            _log.warning("%s; trying again in %.1f s", error, wait)
        if await self._ended_meanwhile(wait, serving):
            # Until then nothing was lost, there was nowhere to go; now its node may be about to start again.
            await asyncio.sleep(self._timing.pause(1))
            self.forget()

    async def _ended_meanwhile(self, seconds: float, serving: Sequence[asyncio.Task[None]]) -> bool:
        """Wait so long, or until the next attempt shows another certificate, which may be all it needs.

        Returns:
            whether a stream that still served has ended, with which the wait does too.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while (left := ends - loop.time()) > 0 and not self._is_renewed():
            pause = min(left, self._timing.look_at_files)
            if not serving:
                await asyncio.sleep(pause)
            elif (await asyncio.wait(serving, timeout=pause, return_when=asyncio.FIRST_COMPLETED))[0]:
                return True
        return False

    def _shows_another(self) -> bool:
        """Whether the next attempt shows something else than what was refused."""
        return self._is_renewed() or (self._tokens is not None and self._tokens.distrust())

    def _is_renewed(self) -> bool:
        """Whether there is another certificate than the last attempt has shown."""
        return self.shown is not None and self.shown.renewed()
