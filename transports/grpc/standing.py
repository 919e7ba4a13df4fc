"""The worker door: whether the worker of a stream is still let in, and the tokens by which it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from holon.domain.fleet import Proof
from holon.errors import HolonError, PermissionDenied
from holon.rxon.v1 import worker_pb2
from holon.security.admission import Admission, Caller, Until
from holon.transports.grpc.hello import worker_of
from holon.transports.grpc.outgoing import Outgoing
from holon.wire.bell import Bell


class Standing:
    """Who opened a stream, and may go on.

    Arguments:
        start: begins a part of the session.

    Attributes:
        caller: by what it proves itself now.
        worker_id: whose the stream is, once that is proven; empty before.
        renewed: rings when it proves itself by something newer.
        renewing: the part that looks at a new token, while there is one.
    """

    def __init__(
        self,
        admission: Admission,
        caller: Caller,
        start: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self.caller = caller
        self.worker_id = ""
        self.renewed = Bell()
        self.renewing: asyncio.Task[None] | None = None
        self._admission = admission
        self._start = start
        self._renewal: tuple[int, str] | None = None

    def __repr__(self) -> str:
        return f"Standing({self.worker_id or 'not known yet'})"

    def identify(self, hello: worker_pb2.Hello) -> None:
        """Find out whose the stream is; raises as `worker_of`."""
        self.worker_id = worker_of(hello, self.caller, self._admission)

    @property
    def renews(self) -> bool:
        """Whether it may go on by new tokens."""
        return self._admission.takes_tokens

    @property
    def proof(self) -> Proof:
        """What proves the worker's id."""
        return self._admission.proof(self.caller, self.worker_id)

    @property
    def is_holon(self) -> bool:
        """Whether the worker may be one."""
        return self._admission.is_holon(self.worker_id)

    def check(self) -> Until:
        """Return until when it is let in; raises as `Admission.check` when it is not."""
        return self._admission.check(self.caller, self.worker_id)

    def check_holon(self) -> None:
        """Raises PermissionDenied: (NOT_A_HOLON) the worker may be none any more."""
        if not self.is_holon:
            raise PermissionDenied(f"worker {self.worker_id!r} is no longer a holon on this node", code="NOT_A_HOLON")

    def renew(self, outgoing: Outgoing, frame: int, token: str) -> None:
        """A newer token takes the place of one that was not looked at yet. Most sessions never have one."""
        self._renewal = (frame, token)
        if self.renewing is None or self.renewing.done():
            self.renewing = self._start(self._renew(outgoing), "renewal")

    async def _renew(self, outgoing: Outgoing) -> None:
        """Go on by a new access token if it is good for this worker; by the old one, where it is not."""
        while self._renewal is not None:
            (frame, token), self._renewal = self._renewal, None
            try:
                caller = await self._admission.by_bearer(self.caller, token)
                until = self._admission.check(caller, self.worker_id)
            except HolonError as error:
                outgoing.refuse(frame, error)
                continue
            self.caller = caller
            self.renewed.ring()
            outgoing.renewed(until.at_ms)
