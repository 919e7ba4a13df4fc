"""The worker door: TokenService, where workers get and renew their access tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holon.errors import HolonError
from holon.rxon.v1 import token_pb2
from holon.security.refused import Refused
from holon.security.sts.access_tokens import ALGORITHM
from holon.security.sts.exchange import KEPT_S, Exchange, Tokens
from holon.telemetry.audit import note
from holon.transports.grpc.caller import acting, caller
from holon.transports.grpc.calls import invalid, unary
from holon.transports.grpc.hello import check_claim
from holon.wire.values import duration, timestamp

SERVICE = "holon.rxon.v1.TokenService"
# Answers are small, whatever is asked.
MAX_BYTES = 64 * 1024
_DER = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class TokenService:
    """Answers the calls of one door.

    Arguments:
        exchange: who gives tokens.
        refused: hears of those who are given none.
    """

    def __init__(self, exchange: Exchange, refused: Refused) -> None:
        self._exchange = exchange
        self._refused = refused

    def __repr__(self) -> str:
        return f"TokenService({self._exchange!r})"

    def handler(self) -> grpc.GenericRpcHandler:
        """The service's calls by name."""
        calls = {
            "ExchangeToken": unary("ExchangeToken", token_pb2.ExchangeTokenRequest, self._told_exchange, MAX_BYTES),
            "RevokeToken": unary("RevokeToken", token_pb2.RevokeTokenRequest, self._told_revocation, MAX_BYTES),
            "GetKeySet": unary("GetKeySet", token_pb2.GetKeySetRequest, self._keys, MAX_BYTES),
        }
        return grpc.method_handlers_generic_handler(SERVICE, calls)

    async def _told_exchange(self, request: token_pb2.ExchangeTokenRequest) -> token_pb2.ExchangeTokenResponse:
        with self._telling("ExchangeToken"):
            answer = await self._exchanged(request)
        kind = request.WhichOneof("credential") or ""
        note("token_exchanged", acting(answer.worker_id), on=kind)
        return answer

    async def _told_revocation(self, request: token_pb2.RevokeTokenRequest) -> token_pb2.RevokeTokenResponse:
        with self._telling("RevokeToken"):
            worker_id = await self._exchange.revoke(request.refresh_token)
        if worker_id:
            note("token_revoked", acting(worker_id))
        return token_pb2.RevokeTokenResponse()

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Tell of a call that is refused: whoever reaches the door may make these."""
        try:
            yield
        except HolonError as error:
            self._refused.call(error, acting(), f"/{SERVICE}/{name}")
            raise

    async def _exchanged(self, request: token_pb2.ExchangeTokenRequest) -> token_pb2.ExchangeTokenResponse:
        asked = (request.worker_id, request.request_id)
        kind = request.WhichOneof("credential")
        if kind == "certificate":
            return _given(await self._exchange.by_certificate(caller(), *asked, request.scopes))
        if kind == "worker_token":
            check_claim(caller(), request.worker_id)
            token = request.worker_token
            return _given(await self._exchange.by_worker_token(caller(), token, *asked, request.scopes))
        if kind == "refresh_token":
            if request.scopes:
                raise invalid("scopes", "cannot be changed: they are those of the first exchange; leave them out")
            return _given(await self._exchange.by_refresh_token(caller(), request.refresh_token, *asked))
        raise invalid("credential", "is needed: send certificate, worker_token or refresh_token")

    async def _keys(self, _: token_pb2.GetKeySetRequest) -> token_pb2.GetKeySetResponse:
        answer = token_pb2.GetKeySetResponse(issuer=self._exchange.issuer, cache_for=duration(round(KEPT_S * 1000)))
        for key in self._exchange.key_set():
            shown = answer.keys.add(key_id=key.kid, algorithm=ALGORITHM, public_key=key.public.public_bytes(*_DER))
            if key.active_at is not None:
                shown.not_before.CopyFrom(timestamp(key.active_at))
            if key.ends_at is not None:
                shown.not_after.CopyFrom(timestamp(key.ends_at))
        return answer


def _given(tokens: Tokens) -> token_pb2.ExchangeTokenResponse:
    return token_pb2.ExchangeTokenResponse(
        access_token=tokens.access_token,
        expires_in=duration(tokens.expires_at - tokens.now),
        expires_at=timestamp(tokens.expires_at),
        refresh_token=tokens.refresh_token,
        refresh_expires_in=duration(tokens.refresh_expires_at - tokens.now) if tokens.refresh_token else None,
        worker_id=tokens.worker_id,
        scopes=tokens.scopes,
    )
