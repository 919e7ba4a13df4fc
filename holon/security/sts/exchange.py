"""The application service of tokens: a certificate, a static token or a refresh token buys an access token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from holon.errors import InvalidArgument, PermissionDenied, Unauthenticated, Violation
from holon.ports import Shared
from holon.randomness import random_id
from holon.security.admission import Admission, Caller
from holon.security.sts.access_tokens import SESSION, AccessToken, AccessTokens, UnknownKey, invalid
from holon.security.sts.families import Families, Granted
from holon.security.sts.ring import Schedule
from holon.security.sts.sealing import Sealer
from holon.security.sts.state import LOOK_EVERY_S, TokenState

SCOPES = (SESSION,)
MAX_REQUEST_ID = 128
# How long somebody elsewhere may keep the public keys: a new one is told for twice that before it signs.
KEPT_S = LOOK_EVERY_S
# How much longer than its last token a key is believed.
_SLACK_MS = 60_000


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How long what lasts, in milliseconds.

    Attributes:
        issuer: what tokens name as their issuer: the holon's id.
        access: an access token.
        refresh: a refresh token.
        rotation: a signing key, until the next one signs.
    """

    issuer: str = "holon"
    access: int = 900_000
    refresh: int = 86_400_000
    rotation: int = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an exchange gives. Times are epoch milliseconds of the store. Without a family there is no refresh token."""

    access_token: str
    expires_at: int
    worker_id: str
    scopes: tuple[str, ...]
    now: int
    refresh_token: str = ""
    refresh_expires_at: int = 0


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        kid: what tokens name it by.
        active_at: from when tokens are signed with it, in epoch milliseconds; None: they already are.
        ends_at: until when tokens signed with it are taken; None while it is in use.
    """

    kid: str
    public: Ed25519PublicKey
    active_at: int | None
    ends_at: int | None


class Exchange:
    """Gives, reads and ends tokens.

    Arguments:
        store: where keys and families are.
        now: the store's clock, in epoch milliseconds.
        admission: who says which worker a credential stands for.
        sealer: through which keys and families go into the store.
        admit: lets a worker's exchange pass as far as its limit goes, and raises ResourceExhausted beyond; None: all.
    """

    def __init__(
        self,
        store: Shared,
        now: Callable[[], int],
        admission: Admission,
        settings: TokenSettings,
        sealer: Sealer,
        admit: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        notice = round(2 * KEPT_S * 1000)
        self._schedule = Schedule(settings.rotation, notice, settings.access + _SLACK_MS)
        self.state = TokenState(store, now, self._schedule, sealer)
        self.issuer = settings.issuer
        self._access = AccessTokens(settings.issuer, lambda: self.state.ring, self._schedule, now)
        self._families = Families(store, self.state, now, settings.refresh, settings.access + _SLACK_MS, sealer)
        self._admission = admission
        self._admit = admit
        self._lifetime = settings.access
        self._refresh = settings.refresh + _SLACK_MS
        self._now = now
        admission.take(self)
        self.state.on_ended(admission.changed)

    def __repr__(self) -> str:
        return f"Exchange({self.issuer}, {self.state!r})"

    # What is given ----------------------------------------------------------------------------------------------------

    async def by_certificate(self, caller: Caller, worker_id: str, request_id: str, scopes: Sequence[str]) -> Tokens:
        """Tokens for the certificate of the caller's own connection.

        Arguments:
            worker_id: whom they are for; empty takes the one that the credential proves.
            request_id: new for each exchange.
            scopes: what they are for; empty takes all.
        Raises:
            Unauthenticated, PermissionDenied: the credential does not stand for this worker.
            InvalidArgument: no request id, or no worker where none alone is proven.
            AlreadyExists: (REQUEST_ID_REUSED).
            ResourceExhausted: (RATE_LIMITED) the worker exchanges too often.
        """
        if caller.identity is None:
            raise Unauthenticated("this connection has no certificate", code="NO_CERTIFICATE")
        worker_id = self._admission.worker_of(caller, worker_id)
        return await self._first(caller, caller, worker_id, caller.identity.thumbprint, request_id, scopes, "")

    async def by_worker_token(
        self, caller: Caller, token: str, worker_id: str, request_id: str, scopes: Sequence[str]
    ) -> Tokens:
        """Tokens for a worker's static token; as `by_certificate`."""
        proven = self._admission.by_token(token)
        worker_id = self._admission.worker_of(proven, worker_id)
        digest = proven.token or b""
        known_by = self.credential_of(digest)
        return await self._first(caller, proven, worker_id, digest, request_id, scopes, known_by)

    async def _first(
        self,
        caller: Caller,
        proven: Caller,
        worker_id: str,
        proof: bytes,
        request_id: str,
        scopes: Sequence[str],
        credential: str,
    ) -> Tokens:
        """What a credential buys: a family of tokens; or where it does for whatever id is named, one token alone.

        Families are stored by worker, so whoever can name any could fill the store with them.
        """
        _check_request(request_id)
        granted_for = _scopes(scopes)
        if self._admit is not None:
            await self._admit(worker_id)
        if self._admission.is_own(proven, worker_id):
            certified = caller.identity is not None
            granted = await self._families.begin(worker_id, proof, request_id, granted_for, credential, certified)
            return self._of_family(caller, granted)
        return self._tokens(caller, worker_id, granted_for, credential, self._now(), token_id=random_id()[:22])

    async def by_refresh_token(self, caller: Caller, token: str, worker_id: str, request_id: str) -> Tokens:
        """Tokens for a refresh token, which is used up by it; as `by_certificate`.

        Raises:
            Unauthenticated: TOKEN_INVALID; TOKEN_REUSED: it was used before, which has ended its family.
        """
        _check_request(request_id)
        # A token that is not the caller's is not used up by it.
        proven = await self._owner_of(token)
        if worker_id not in ("", proven):
            raise PermissionDenied("the refresh token belongs to another worker", code="WORKER_ID_MISMATCH")
        if caller.identity is not None:
            self._admission.worker_of(caller, proven)
        if self._admit is not None:
            await self._admit(proven)
        granted = await self._families.go_on(token, request_id, has_certificate=caller.identity is not None)
        return self._of_family(caller, granted)

    async def _owner_of(self, refresh_token: str) -> str:
        """The worker of a refresh token. One that is none of ours may be of a new secret: the store is asked then."""
        try:
            return self._families.worker_of(refresh_token)
        except Unauthenticated:
            await self._look()
        return self._families.worker_of(refresh_token)

    def _of_family(self, caller: Caller, granted: Granted) -> Tokens:
        family = granted.family
        # The same each time that this exchange is repeated.
        token_id = self.state.ring.keyed("token", family.family_id, str(family.generation))[:22]
        given = self._tokens(
            caller,
            granted.worker_id,
            family.scopes,
            family.credential,
            family.at,
            token_id=token_id,
            family=family.family_id,
        )
        return replace(given, refresh_token=granted.refresh_token, refresh_expires_at=family.expires_at)

    def _tokens(
        self,
        caller: Caller,
        worker_id: str,
        scopes: tuple[str, ...],
        credential: str,
        at: int,
        *,
        token_id: str,
        family: str = "",
    ) -> Tokens:
        access = AccessToken(
            worker_id,
            scopes,
            family,
            token_id,
            # Rounded apart: nobody finds it too new, and it lasts what it is said to.
            at // 1000,
            -(-(at + self._lifetime) // 1000),
            caller.identity.thumbprint if caller.identity is not None else None,
            credential,
        )
        access = self._access.signed_now(access)
        # Whoever would be refused with it is not given it.
        self._admission.check(Caller(caller.identity, caller.presented, access=access), worker_id)
        return Tokens(self._access.sign(access), access.expires_at * 1000, worker_id, scopes, self._now())

    async def revoke(self, refresh_token: str) -> str:
        """End the family of a refresh token, used or not, and all of its access tokens; unknown ones are no matter.

        Returns:
            the worker whose family has ended by this; empty where none has.
        """
        return await self._families.revoke(refresh_token)

    def key_set(self) -> list[PublicKey]:
        """The keys that are, or soon will be, in use.

        Raises:
            StoreUnavailable: they could not be read yet.
        """
        ring = self.state.ring
        return [
            PublicKey(
                key.kid,
                key.public,
                key.active_at if key.active_at > self._now() else None,
                ring.ends_at(key, self._schedule),
            )
            for key in ring.keys
        ]

    # What it is made with ---------------------------------------------------------------------------------------------

    async def rotate_signing_key(self, *, revoke: bool) -> PublicKey:
        """Make another key that signs access tokens, at every node once it can be known to all.

        Arguments:
            revoke: take no token any more that another key has signed; then the new one signs at once. Sessions that
                were opened by such tokens end.
        Raises:
            ResourceExhausted: (TOO_MANY_KEYS) so many are in use still.
            StoreUnavailable: nothing has changed, or it is not known.
        """
        ring = await self.state.rotate(lambda ring, now: ring.with_new_key(now, self._schedule, revoke=revoke))
        newest = ring.keys[-1].kid
        return next(key for key in self.key_set() if key.kid == newest)

    async def rotate_refresh_secret(self, *, revoke: bool) -> None:
        """Make refresh tokens of another secret from now on; raises as `rotate_signing_key`.

        Arguments:
            revoke: take none any more that was made before: whoever has one is to present its credential again.
        """
        await self.state.rotate(lambda ring, now: ring.with_new_secret(now, self._refresh, revoke=revoke))

    # What is taken ----------------------------------------------------------------------------------------------------

    async def read(self, text: str) -> AccessToken:
        """What an access token says. A key unknown here may be new: the store is asked, once a second at most.

        Raises:
            Unauthenticated: TOKEN_INVALID, TOKEN_EXPIRED.
            StoreUnavailable: there are no keys yet.
        """
        try:
            return self._access.verify(text)
        except UnknownKey:
            pass
        try:
            await self._look()
            return self._access.verify(text)
        except UnknownKey as error:
            raise invalid("the access token was not issued by this holon") from error

    async def _look(self) -> None:
        """Look at what other nodes have made meanwhile, if the store answers."""
        with suppress(TimeoutError):
            await self.state.look()

    def check(self, token: AccessToken) -> int:
        """See that an access token that was read is still taken.

        Returns:
            for how many milliseconds more.
        Raises:
            Unauthenticated: TOKEN_EXPIRED, or TOKEN_INVALID.
            PermissionDenied: REVOKED.
        """
        left = self._access.check(token)
        if self.state.ended(token.family):
            raise PermissionDenied("the access token was revoked", code="REVOKED")
        return left

    def credential_of(self, digest: bytes) -> str:
        """What a static token is known by in access tokens: nobody can find it out from there."""
        return self.state.ring.keyed("credential", digest)[:22]


def _check_request(request_id: str) -> None:
    if not 1 <= len(request_id) <= MAX_REQUEST_ID:
        raise _wrong("request_id", f"must be 1 to {MAX_REQUEST_ID} characters, new for each exchange")


def _scopes(asked: Sequence[str]) -> tuple[str, ...]:
    if unknown := sorted(set(asked) - set(SCOPES)):
        raise _wrong("scopes", f"has {unknown[0][:64]!r}; use {', '.join(SCOPES)}")
    return tuple(sorted(set(asked))) or SCOPES


def _wrong(field: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])
