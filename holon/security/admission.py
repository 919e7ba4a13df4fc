"""Who is let in at the worker door, as whom, and until when: asked at every call, and again while a session lives."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

from cryptography import x509

from holon.clock import Time
from holon.domain.fleet import Proof
from holon.errors import InvalidArgument, PermissionDenied, Unauthenticated, Violation
from holon.security.identity import Identity, certificates_in, check_length, identify, is_identity
from holon.security.sts.access_tokens import SESSION, AccessToken
from holon.security.tokens import digest_of
from holon.security.trust import Path, Trust
from holon.security.worker_rules import Standing, WorkerRules

MISMATCH = "WORKER_ID_MISMATCH"
# Past so many certificates what was worked out of them is worked out again.
_REMEMBERED = 4096
_SHOWN = 128


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Who calls, by what was presented with the call; without a certificate, by a token.

    Attributes:
        identity: what the certificate says.
        presented: what came with it towards an authority.
        token: the digest of the token.
        access: what the access token says; beside a certificate, it is bound to that.
    """

    identity: Identity | None = None
    presented: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    token: bytes | None = field(default=None, repr=False)
    access: AccessToken | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What it has proven to be called; empty where that is nothing of its own."""
        if self.access is not None:
            return self.access.worker_id
        return self.identity.name if self.identity is not None else ""

    @property
    def sender(self) -> str | bytes | None:
        """What tells its requests from those of others; None: it has presented nothing."""
        return self.name or self.token


class Until(NamedTuple):
    """When what was let in ends if nothing changes. Both are infinite where that is never.

    Attributes:
        at_ms: in epoch milliseconds, by the clock that it ends by: a certificate by another one than a token.
        left_ms: in how many milliseconds.
    """

    at_ms: float
    left_ms: float


class Reader(Protocol):
    """Who reads access tokens."""

    async def read(self, text: str) -> AccessToken:
        """What a token says, if it is good; raises Unauthenticated."""
        ...

    def check(self, token: AccessToken) -> int:
        """How many milliseconds a token that was read is good still; raises Unauthenticated or PermissionDenied."""
        ...

    def credential_of(self, digest: bytes) -> str:
        """What a static token, of this digest, is known by in access tokens."""
        ...


class Admission:
    """Says who a caller is and which worker it may be, by the rules and authorities of now.

    Arguments:
        clock: by which certificates end.
        rules: who may be which worker.
        trust: the authorities of certificates; None where there are none.
        shared: the token of all workers that have none of their own; empty: there is none.
    """

    def __init__(
        self, clock: Time, rules: WorkerRules | None = None, trust: Trust | None = None, shared: str = ""
    ) -> None:
        self._clock = clock
        self._rules = rules or WorkerRules()
        self._trust = trust
        self._shared = digest_of(shared) if shared else None
        # By the certificate, with what came with it last.
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}
        self._paths: WeakKeyDictionary[Identity, Path] = WeakKeyDictionary()
        self._listeners: list[Callable[[frozenset[str] | None], None]] = []
        self._reader: Reader | None = None

    def __repr__(self) -> str:
        return f"Admission({self._rules!r}, {self._trust!r}, shared token={self._shared is not None})"

    def use(self, *, rules: WorkerRules | None = None, trust: Trust | None = None) -> None:
        """Go by other rules or authorities from now on; who listens looks at what it has let in."""
        self._rules = rules or self._rules
        if trust is not None:
            self._trust = trust
            self._paths.clear()
        self.changed()

    @property
    def takes_tokens(self) -> bool:
        """Whether access tokens are let in, and so newer ones in the streams that they have opened."""
        return self._reader is not None

    def take(self, reader: Reader) -> None:
        """Let access tokens in as well, which this one reads."""
        self._reader = reader

    def changed(self, workers: frozenset[str] | None = None) -> None:
        """Who is let in may be others than before, of these workers, or None: of all; have those who listen look."""
        for listener in self._listeners:
            listener(workers)

    def on_change(self, listener: Callable[[frozenset[str] | None], None]) -> None:
        """Have this called after each change: whoever is in, of these workers or of all, may be no longer welcome."""
        self._listeners.append(listener)

    def by_certificate(self, leaf: bytes, chain: bytes) -> Caller:
        """Who presented a certificate.

        Arguments:
            leaf: PEM; empty when there was none.
            chain: the rest of what was presented, PEM; empty when there is none.
        Raises:
            Unauthenticated, PermissionDenied: it is not, or no longer, one to be let in.
        """
        before, caller = self._callers.get(leaf, (b"", None))
        if caller is None or before != chain:
            check_length(chain.count(b"-----BEGIN"))
            caller = Caller(identify(leaf), certificates_in(chain))
            if len(self._callers) >= _REMEMBERED:
                self._callers.clear()
            self._callers[leaf] = chain, caller
        self.check(caller)
        return caller

    async def by_bearer(self, caller: Caller, token: str) -> Caller:
        """Who presented an access token, beside what is known of the caller.

        Raises:
            Unauthenticated, PermissionDenied: it is not, or no longer, taken.
            StoreUnavailable: this node cannot tell yet.
        """
        if self._reader is None:
            raise _invalid("this node does not accept access tokens")
        bearer = Caller(caller.identity, caller.presented, access=await self._reader.read(token))
        self.check(bearer, bearer.access.worker_id if bearer.access else "")
        return bearer

    def by_token(self, token: str | None) -> Caller:
        """Who presented a token; None when there was none.

        Raises:
            Unauthenticated: TOKEN_INVALID; it is nobody's.
        """
        if self._shared is None and not self._rules.has_tokens:
            raise _invalid(
                "this port accepts no worker: the node has no GLOBAL_WORKER_TOKEN; its operator must set one"
            )
        if not token:
            raise _invalid("no worker token in the metadata; send `authorization: Bearer <token>`, or x-worker-token")
        caller = Caller(token=digest_of(token))
        self.check(caller)
        return caller

    def worker_of(self, caller: Caller, claimed: str) -> str:
        """The id of the worker that a caller is.

        Arguments:
            claimed: what it says; empty takes what it proved.
        Raises:
            PermissionDenied: WORKER_ID_MISMATCH, or REVOKED; it is another's id.
            InvalidArgument: nothing is claimed, and nothing or several ids are proven; or what is claimed is no id.
        """
        if claimed and not is_identity(claimed):
            # Before any rule is asked about it, which may take longer the longer it is.
            if caller.identity is None:
                raise _unclaimed("must be 1 to 253 letters, digits or characters of . _ : / -")
            raise PermissionDenied(
                f"the certificate names {caller.identity.name!r}, and this node knows no such worker", code=MISMATCH
            )
        worker_id = claimed or self._proven(caller)
        self._check_worker(caller, worker_id)
        return worker_id

    def is_own(self, caller: Caller, worker_id: str) -> bool:
        """Whether what a caller proves is this worker's alone, and not any id's that the caller may choose."""
        rule = self._rules.standing(worker_id).rule
        if rule is not None and rule.name == worker_id and (rule.tokens or rule.certified):
            return True
        return caller.identity is not None and caller.identity.name == worker_id

    def proof(self, caller: Caller, worker_id: str) -> Proof:
        """What proves that a caller is this worker, which `worker_of` has checked."""
        if caller.identity is not None:
            return Proof.CERTIFICATE
        return Proof.SHARED_TOKEN if self._rules.standing(worker_id).rule is None else Proof.TOKEN

    def is_holon(self, worker_id: str) -> bool:
        """Whether the rules say that this worker is a holon; no other may say so of itself."""
        rule = self._rules.standing(worker_id).rule
        return rule is not None and rule.holon

    def check(self, caller: Caller, worker_id: str = "") -> Until:
        """Look again at a caller that was let in, perhaps as a worker.

        Returns:
            until when it counts if nothing changes.
        Raises:
            Unauthenticated, PermissionDenied: it would not be let in any more.
        """
        until = _NEVER
        if caller.identity is not None:
            until = self._check_certificate(caller, caller.identity)
        if caller.token is not None:
            self._check_token(caller.token)
        if caller.access is not None:
            until = min(until, self._check_access(caller.access, caller.identity), key=_left)
        if worker_id:
            self._check_worker(caller, worker_id)
        return until

    # What is looked at ------------------------------------------------------------------------------------------------

    def _check_certificate(self, caller: Caller, identity: Identity) -> Until:
        now = self._clock.now_ms()
        identity.check(now)
        if self._rules.revoked.names(identity.certificate, identity.thumbprint):
            raise PermissionDenied("this certificate was revoked by the node's operator", code="REVOKED")
        if self._trust is None:
            return Until(identity.expires_at_ms, identity.expires_at_ms - now)
        path = self._paths.get(identity)
        if path is None or now >= path.expires_at_ms:
            path = self._paths[identity] = self._trust.path(identity.certificate, caller.presented, now)
        at = min(path.expires_at_ms, self._trust.check(path, now))
        return Until(at, at - now)

    def _check_token(self, digest: bytes) -> None:
        if not self._is_shared(digest) and self._rules.of_token(digest) is None:
            raise _invalid("no worker of this node has this worker token; it may have been replaced, or be incomplete")

    def _is_shared(self, digest: bytes) -> bool:
        return self._shared is not None and hmac.compare_digest(self._shared, digest)

    def _check_access(self, access: AccessToken, identity: Identity | None) -> Until:
        if self._reader is None:
            raise _invalid("this node does not accept access tokens")
        left = self._reader.check(access)
        if SESSION not in access.scopes:
            raise _invalid(f"the access token does not have the scope {SESSION}")
        bound = access.thumbprint
        if identity is None and bound is not None:
            raise _invalid("the access token is bound to a certificate, but this connection has none")
        if identity is not None and (bound is None or not hmac.compare_digest(bound, identity.thumbprint)):
            raise _invalid("the access token is bound to another certificate than that of this connection")
        return Until(access.expires_at * 1000, left)

    def _check_worker(self, caller: Caller, worker_id: str) -> None:
        standing = self._rules.standing(worker_id)
        if self._rules.revoked.names_worker((worker_id, *standing.ids)):
            raise PermissionDenied(f"worker {worker_id[:_SHOWN]!r} was revoked by the node's operator", code="REVOKED")
        if caller.identity is not None and not standing.allows_certificate(caller.identity):
            raise PermissionDenied(
                f"the certificate names {caller.identity.name!r}, which is not the worker {worker_id[:_SHOWN]!r}; "
                "send its own worker id, or none",
                code=MISMATCH,
            )
        if caller.access is not None:
            self._check_bearer(caller, caller.access, standing, worker_id)
        elif caller.identity is None and not (caller.token and standing.allows_token(caller.token, self._shared)):
            shared = caller.token is not None and self._is_shared(caller.token)
            why = (
                "GLOBAL_WORKER_TOKEN is only for workers without a table"
                if shared
                else ("the token of this worker is set")
            )
            raise PermissionDenied(
                f"this token does not belong to the worker {worker_id[:_SHOWN]!r}; {why} in workers.toml of the node",
                code=MISMATCH,
            )

    def _check_bearer(self, caller: Caller, access: AccessToken, standing: Standing, worker_id: str) -> None:
        if access.worker_id != worker_id:
            raise PermissionDenied(
                f"the access token belongs to {access.worker_id!r}, not to the worker {worker_id[:_SHOWN]!r}",
                code=MISMATCH,
            )
        if not access.credential and caller.identity is None:
            raise _invalid("the access token was issued for a certificate, but this connection has none")
        if access.credential:
            known = (self._reader.credential_of(one) for one in standing.tokens(self._shared)) if self._reader else ()
            if access.credential not in known:
                raise _invalid("the token that this access token was issued for no longer belongs to the worker")

    def _proven(self, caller: Caller) -> str:
        if caller.access is not None:
            return caller.access.worker_id
        if caller.identity is not None:
            ids = self._rules.of_certificate(caller.identity)
            if not ids:
                raise PermissionDenied(
                    f"the certificate names {caller.identity.name!r}, which is not a worker of this node", code=MISMATCH
                )
            if len(ids) == 1:
                return ids[0]
            raise _unclaimed(f"is needed: the certificate is for {len(ids)} workers")
        rule = self._rules.of_token(caller.token) if caller.token is not None else None
        if rule is not None and not rule.is_pattern:
            return rule.name
        raise _unclaimed("is needed: several workers share this token")


_NEVER = Until(math.inf, math.inf)
_left = attrgetter("left_ms")


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, code="TOKEN_INVALID")


def _unclaimed(reason: str) -> InvalidArgument:
    return InvalidArgument(f"worker_id {reason}", details=[Violation("worker_id", reason)])
