"""Families of refresh tokens: each buys its successor once; whoever brings one that was used ends the family.

A reply can be lost, and then an honest worker brings a used token: the same request, soon and before the successor was
used, is answered as it was. Tokens are worked out of the holon's secret, so that they can be, and only their digests
are stored.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import msgpack

from holon.errors import AlreadyExists, HolonError, ResourceExhausted, Unauthenticated, Unavailable
from holon.ports import Change, Document, Shared, change_document, place_of
from holon.security.identity import is_identity
from holon.security.sts.access_tokens import invalid
from holon.security.sts.sealing import Sealer
from holon.security.sts.state import TokenState

log = logging.getLogger(__name__)

KIND = "token_families"
# How long the same request is answered with the same tokens.
REPEAT_MS = 30_000
# Of one worker; a process that starts anew begins one. The one that was used least recently makes room.
MOST = 8
# The form before knows no family that began with a token beside a certificate.
_FORM, _FORM_BEFORE = 3, 2
_TOKEN = re.compile(r"hrt_([A-Za-z0-9_-]{43})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})\.(.{1,253})")


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family stands. Times are epoch milliseconds.

    Attributes:
        family_id: its name.
        generation: how many tokens it has had, from 1.
        current: the digest of the token that is good.
        previous: that of the one before; empty at first.
        request_id: of the exchange that made the current one.
        at: when that was.
        expires_at: when the current one ends.
        scopes: what its access tokens are for.
        credential: what the static token is known by that it began with; empty where that was a certificate.
        certified: whether it began on a connection with a certificate, to which its access tokens are bound.
        ended: whether none of its refresh tokens is good any more.
    """

    family_id: str
    generation: int
    current: bytes
    previous: bytes
    request_id: str
    at: int
    expires_at: int
    scopes: tuple[str, ...]
    credential: str
    certified: bool
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """A family after an exchange, and the refresh token that is good now."""

    worker_id: str
    family: Family
    refresh_token: str


class Families:
    """Begins, follows and ends families. Each exchange is one change of the worker's document.

    Arguments:
        store: where they are.
        state: the holon's secret, and what was ended.
        now: the store's clock, in epoch milliseconds.
        lifetime_ms: how long a refresh token is good.
        access_ms: how long an access token may still be taken after that it was given.
        sealer: through which families go into the store.
    """

    def __init__(
        self,
        store: Shared,
        state: TokenState,
        now: Callable[[], int],
        lifetime_ms: int,
        access_ms: int,
        sealer: Sealer,
    ) -> None:
        self._store = store
        self._state = state
        self._now = now
        self._lifetime = lifetime_ms
        self._access = access_ms
        self._sealer = sealer

    def __repr__(self) -> str:
        return f"Families(lifetime_ms={self._lifetime})"

    async def begin(
        self, worker_id: str, proof: bytes, request_id: str, scopes: tuple[str, ...], credential: str, certified: bool
    ) -> Granted:
        """Begin a family; the same request again, soon, is answered with the same.

        Arguments:
            proof: what proved the worker, by its digest.
            credential, certified: as in `Family`.
        Raises:
            AlreadyExists: (REQUEST_ID_REUSED) the request was made before, and its tokens were used, or it is too late.
        """
        family_id = self._state.ring.keyed("family", worker_id, proof, request_id, " ".join(scopes))

        def change(families: dict[str, Family], now: int) -> Family:
            known = families.get(family_id)
            if known is not None:
                if not known.ended and known.generation == 1 and now - known.at <= REPEAT_MS:
                    return known
                raise _reused()
            current = _digest(self._tokens(worker_id, family_id, 1)[0])
            expires_at = now + self._lifetime
            return Family(family_id, 1, current, b"", request_id, now, expires_at, scopes, credential, certified)

        return self._granted(worker_id, await self._change(worker_id, change))

    async def go_on(self, refresh_token: str, request_id: str, *, has_certificate: bool) -> Granted:
        """Take a refresh token, and make its successor.

        Arguments:
            has_certificate: whether the connection does: without, a family that began on one that did goes nowhere.
        Raises:
            Unauthenticated: TOKEN_INVALID; TOKEN_REUSED: it was used before, which has ended its family.
        """
        worker_id, family_id, generation = self._read(refresh_token)
        presented = _digest(refresh_token)
        reused = False

        def change(families: dict[str, Family], now: int) -> Family:
            family = families.get(family_id)
            if family is None:
                raise invalid("the refresh token has expired; authenticate again")
            if family.ended:
                return family
            if family.certified and not has_certificate:
                raise invalid(
                    "the tokens were issued on a connection with a certificate, but this connection has none; "
                    "refresh them on one with it"
                )
            if hmac.compare_digest(family.current, presented):
                successor = _digest(self._tokens(worker_id, family_id, generation + 1)[0])
                return replace(
                    family,
                    generation=generation + 1,
                    current=successor,
                    previous=presented,
                    request_id=request_id,
                    at=now,
                    expires_at=now + self._lifetime,
                )
            same = family.request_id == request_id and now - family.at <= REPEAT_MS
            if same and hmac.compare_digest(family.previous, presented):
                return family
            nonlocal reused
            reused = True
            return replace(family, ended=True)

        family = await self._change(worker_id, change)
        if family.ended:
            # Also where it was before: who ended it may not have come so far.
            await self._end_access(worker_id, family_id)
            if not reused:
                raise invalid("the family of the refresh token was revoked; authenticate again")
            raise Unauthenticated(
                "the refresh token was used before, so its family was revoked. Somebody else may have it; "
                "authenticate again",
                code="TOKEN_REUSED",
            )
        return self._granted(worker_id, family)

    def worker_of(self, refresh_token: str) -> str:
        """The worker of a token that was made here, be it good still or not.

        Raises:
            Unauthenticated: TOKEN_INVALID.
        """
        return self._read(refresh_token)[0]

    async def revoke(self, refresh_token: str) -> str:
        """End the family of a token; one that is none has no family to end.

        Returns:
            the worker whose family that was; empty where nothing has ended that had not before.
        """
        try:
            worker_id, family_id, _ = self._read(refresh_token)
        except Unauthenticated:
            return ""

        def change(families: dict[str, Family], _: int) -> Family:
            family = families.get(family_id)
            if family is None or family.ended:
                raise _Over
            return replace(family, ended=True)

        try:
            await self._change(worker_id, change)
        except _Over:
            # Its access tokens may be good for a while all the same, if that was by its age or for others' sake.
            return worker_id if await self._end_access(worker_id, family_id) else ""
        await self._end_access(worker_id, family_id)
        return worker_id

    async def _end_access(self, worker_id: str, family_id: str) -> bool:
        """End what its access tokens are good for as well; where the store takes it: they do not last long."""
        try:
            return await self._state.end(worker_id, family_id, self._access)
        except ResourceExhausted as error:
            facts = {"worker_id": worker_id}
            log.error(
                "access tokens of worker %s cannot be revoked, and stay valid until they expire: %s",
                worker_id,
                error.message,
                extra=facts,
            )
            return False

    async def _change(self, worker_id: str, change: Callable[[dict[str, Family], int], Family]) -> Family:
        place = place_of(KIND, worker_id)

        def changed(stored: Document | None) -> tuple[Family, Change | None]:
            now = self._now()
            families = {} if stored is None else _unpacked(self._sealer.open(*place, stored.value), now)
            family = change(families, now)
            if families.get(family.family_id) == family:
                return family, None
            families[family.family_id] = family
            newest = sorted(families.values(), key=lambda one: one.at)[-MOST:]
            return family, Change(self._sealer.seal(*place, _packed(newest)), self._lifetime)

        return await change_document(self._store, KIND, worker_id, changed)

    def _granted(self, worker_id: str, family: Family) -> Granted:
        """What is given of a family; it may have been asked for before there was another secret."""
        for token in self._tokens(worker_id, family.family_id, family.generation):
            if hmac.compare_digest(_digest(token), family.current):
                return Granted(worker_id, family, token)
        raise _reused()

    def _tokens(self, worker_id: str, family_id: str, generation: int) -> list[str]:
        """One refresh token as each secret makes it, the one of now first."""
        macs = self._state.ring.refreshing("refresh", worker_id, family_id, str(generation))
        return [f"hrt_{family_id}.{generation}.{mac}.{worker_id}" for mac in macs]

    def _read(self, refresh_token: str) -> tuple[str, str, int]:
        """The worker, family and generation of a token that was made here."""
        found = _TOKEN.fullmatch(refresh_token)
        if found is not None and is_identity(found[4]):
            family_id, generation, worker_id = found[1], int(found[2]), found[4]
            ours = self._tokens(worker_id, family_id, generation)
            if any(hmac.compare_digest(one.encode(), refresh_token.encode()) for one in ours):
                return worker_id, family_id, generation
        raise invalid("the refresh token was not issued by this holon")


class _Over(Exception):
    """Expected: there is no family any more that could be ended."""


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _reused() -> HolonError:
    return AlreadyExists(
        "this request_id was used for an earlier exchange, whose answer cannot be repeated; use a new one",
        code="REQUEST_ID_REUSED",
    )


def _packed(families: list[Family]) -> bytes:
    rows = [
        (one.family_id, one.generation, one.current, one.previous, one.request_id, one.at, one.expires_at,
         one.scopes, one.credential, one.ended)
        for one in families
    ]  # fmt: skip
    # A node of the release before can read the rest.
    beside = [one.family_id for one in families if one.certified and one.credential]
    packed: bytes = msgpack.packb((_FORM, rows, beside) if beside else (_FORM_BEFORE, rows))
    return packed


def _unpacked(stored: bytes, now: int) -> dict[str, Family]:
    form, rows, *more = msgpack.unpackb(stored)
    if form not in (_FORM, _FORM_BEFORE):
        raise Unavailable(f"the token families in the store have the format {form!r}, which this version cannot read")
    beside: set[str] = set(*more)
    families = []
    for *facts, scopes, credential, ended in rows:
        certified = not credential or facts[0] in beside
        families.append(Family(*(*facts, tuple(scopes), credential, certified, ended)))
    return {one.family_id: one for one in families if one.expires_at > now}
