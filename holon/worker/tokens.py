"""The worker SDK: short-lived tokens, exchanged before a session opens and renewed while it is open."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import grpc.aio

from holon.rxon.v1 import token_pb2, types_pb2, worker_pb2
from holon.wire.address import NodeUrl
from holon.worker.channel import Ended, refusal_of
from holon.worker.settings import Credentials
from holon.worker.timing import Timing

if TYPE_CHECKING:
    from holon.worker.session import Session

_log = logging.getLogger("holon.worker")

EXCHANGE = f"/{token_pb2.DESCRIPTOR.services_by_name['TokenService'].full_name}/ExchangeToken"
# A refused token is not presented again; what else went wrong may pass.
_REFUSED = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.ALREADY_EXISTS}
)
_RENEW_AT = 2 / 3
# Of workers with short-lived tokens.
REAUTHENTICATE = types_pb2.CAPABILITY_REAUTHENTICATE


@dataclass(frozen=True, slots=True)
class Grant:
    """What an exchange gave; times are of the loop's clock.

    Attributes:
        certificate: what the connection showed that it was exchanged on; it is good there alone.
        renew_at: when the next one is due.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    certificate: bytes = field(repr=False)
    renew_at: float


class Tokens:
    """The worker's tokens. One exchange runs at a time, whoever asks; its request is the same until it is answered.

    Arguments:
        worker_id: whom they are for; empty takes the one that the certificate proves.
    """

    def __init__(self, credentials: Credentials, worker_id: str, timing: Timing) -> None:
        self._credentials = credentials
        self._worker_id = worker_id
        self._timing = timing
        self._grant: Grant | None = None
        self._doubted = False
        # Begins with the first try and ends with an answer: a lost one is then given again.
        self._request: token_pb2.ExchangeTokenRequest | None = None
        self._one = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Tokens({'none' if self._grant is None else 'some'})"

    @property
    def due_in(self) -> float:
        """Seconds until the next exchange is due."""
        return max(0.0, self._grant.renew_at - asyncio.get_running_loop().time()) if self._grant is not None else 0.0

    async def fresh(self, channel: grpc.aio.Channel, url: NodeUrl, certificate: bytes) -> Grant:
        """What is not due for renewal, and good on this connection; exchanged now, if there is none.

        Arguments:
            channel: to a node, at this address.
            certificate: what the channel shows; another one than before when it was renewed.
        Raises:
            Ended: the node could not be asked, or gives none.
        """
        async with self._one:
            now = asyncio.get_running_loop().time()
            if self._grant is None or now >= self._grant.renew_at or certificate != self._grant.certificate:
                self._grant = await self._exchange(channel, url, certificate)
            return self._grant

    async def keep_renewed(self, session: Session) -> None:
        """Renew the token in time while a session lives, and tell its node; one that does not hear of it ends it."""
        losses = 0
        told = self._grant
        while REAUTHENTICATE in session.welcome.capabilities:
            await asyncio.sleep(self._timing.pause(losses) if losses else self.due_in)
            try:
                grant = await self.fresh(session.channel, session.url, session.shown.pem)
            except Ended as end:
                losses += 1
                _log.warning("the access token could not be renewed; the worker tries again: %s", end)
                continue
            losses = 0
            if grant is not told:
                told = grant
                renewal = worker_pb2.Reauthenticate(access_token=grant.access_token)
                session.put_control(worker_pb2.SessionRequest(reauthenticate=renewal))

    def distrust(self) -> bool:
        """A session was refused, perhaps for its token: show another one next.

        Returns:
            whether that may help soon: the one that was refused was not itself shown for that reason.
        """
        doubted, self._doubted = self._doubted, True
        if self._grant is None:
            return False
        self._grant = replace(self._grant, renew_at=0.0)
        return not doubted

    def trust(self) -> None:
        """A session has opened with what is there."""
        self._doubted = False

    async def _exchange(self, channel: grpc.aio.Channel, url: NodeUrl, certificate: bytes) -> Grant:
        hints = replace(self._credentials.hints, pem=certificate)
        if self._grant is not None and self._grant.refresh_token:
            try:
                request = token_pb2.ExchangeTokenRequest(refresh_token=self._grant.refresh_token)
                return await self._ask(channel, certificate, request)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSED:
                    raise refusal_of(error, url, hints) from error
                _log.warning("%s: the node did not accept the refresh token: %s", url, error.details())
                self._grant = None
        try:
            return await self._ask(channel, certificate, self._by_credential(url))
        except grpc.aio.AioRpcError as error:
            raise refusal_of(error, url, hints) from error

    def _by_credential(self, url: NodeUrl) -> token_pb2.ExchangeTokenRequest:
        if url.secure and self._credentials.certificate is not None:
            return token_pb2.ExchangeTokenRequest(certificate=token_pb2.CertificateCredential())
        return token_pb2.ExchangeTokenRequest(worker_token=self._credentials.token)

    async def _ask(
        self, channel: grpc.aio.Channel, certificate: bytes, request: token_pb2.ExchangeTokenRequest
    ) -> Grant:
        request.worker_id = self._worker_id
        if self._request is not None:
            request.request_id = self._request.request_id
        if request != self._request:
            request.request_id = secrets.token_urlsafe(16)
            self._request = request
        exchange: grpc.aio.UnaryUnaryMultiCallable[token_pb2.ExchangeTokenRequest, token_pb2.ExchangeTokenResponse] = (
            channel.unary_unary(
                EXCHANGE,
                request_serializer=token_pb2.ExchangeTokenRequest.SerializeToString,
                response_deserializer=token_pb2.ExchangeTokenResponse.FromString,
            )
        )
        try:
            given = await exchange(request, timeout=self._timing.welcome)
        except grpc.aio.AioRpcError as error:
            if error.code() in _REFUSED:
                self._request = None
            raise
        self._request = None
        now, lasts = asyncio.get_running_loop().time(), given.expires_in.seconds + given.expires_in.nanos / 1e9
        return Grant(given.access_token, given.refresh_token, certificate, now + _RENEW_AT * lasts)
