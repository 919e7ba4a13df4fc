"""Who the clients are: each known by the digests of its tokens, in a table that a reload replaces as a whole."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from holon.domain.client import ADMIN, DEFAULT, Client
from holon.errors import PermissionDenied, Unauthenticated
from holon.security.refused import Refused
from holon.security.tokens import digest_of
from holon.telemetry.metrics import AccessMetrics

_INVALID = "TOKEN_INVALID"


@dataclass(frozen=True, slots=True)
class Entry:
    """One client, and the SHA-256 digests of the tokens that are its."""

    client: Client
    digests: frozenset[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a new table changed, by the names of clients: new ones, those that are gone, and those that lost tokens."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    narrowed: tuple[str, ...]


class Credential:
    """A token that is good, and whose. A later table may take it back, or say something else of its client.

    Attributes:
        client: who presents it, as the newest table has it.
        revoked: whether it has stopped being good.
    """

    __slots__ = ("_calls", "client", "digest", "revoked")

    def __init__(self, digest: bytes, client: Client) -> None:
        self.digest = digest
        self.client = client
        self.revoked = False
        self._calls: set[Callable[[], None]] = set()

    def __repr__(self) -> str:
        return f"Credential({self.client.name}, revoked={self.revoked}, watched={len(self._calls)})"

    def revoke(self) -> None:
        """Let it be good no more, and tell who asked for that."""
        self.revoked = True
        for call in tuple(self._calls):
            call()

    @asynccontextmanager
    async def while_good(self) -> AsyncIterator[None]:
        """What is in this block goes on for as long as it is good.

        Raises:
            Unauthenticated: (TOKEN_INVALID) it was taken back meanwhile; the block was cancelled.
        """
        loop = asyncio.get_running_loop()

        def end() -> None:
            scope.reschedule(loop.time())

        try:
            async with asyncio.timeout(None) as scope:
                self.tell(end)
                try:
                    yield
                finally:
                    self.forget(end)
        except TimeoutError:
            if not self.revoked:
                raise
            raise self.taken_back() from None

    def tell(self, call: Callable[[], None]) -> None:
        """Have this called once it is good no more, until `forget`; at once when it is so already."""
        self._calls.add(call)
        if self.revoked:
            call()

    def forget(self, call: Callable[[], None]) -> None:
        """Call this no more."""
        self._calls.discard(call)

    def taken_back(self) -> Unauthenticated:
        """What a call of its client is told that was under way when it was taken back."""
        return Unauthenticated("Unauthorized: this token was removed", code=_INVALID)


class Clients:
    """Knows every client by its tokens. It keeps their digests, not the tokens.

    Arguments:
        entries: the first table; no token is in it twice. An empty one refuses every call.

    Attributes:
        refused: hears of every call that a door refused because of who makes it.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.metrics = AccessMetrics()
        self.refused = Refused(self.metrics.refused.add)
        self._by_digest: dict[bytes, Credential] = {}
        self.replace(entries)

    def __repr__(self) -> str:
        return f"Clients({', '.join(sorted(self.names)) or 'closed'})"

    @property
    def names(self) -> frozenset[str]:
        """The names of all clients."""
        return frozenset(one.client.name for one in self._by_digest.values())

    def admit(self, presented: str | None, missing: str = "no client token") -> Credential:
        """The credential that a call presents.

        Arguments:
            missing: what a caller without a token is told: how the door takes one.
        Raises:
            Unauthenticated: (TOKEN_INVALID) no token was presented, or one that nobody has, or nobody has any.
        """
        if not self._by_digest:
            raise Unauthenticated(
                "this node accepts no client: it has no CLIENT_TOKEN and no CLIENTS_CONFIG_PATH; its operator must "
                "set one",
                code=_INVALID,
            )
        if not presented:
            raise Unauthenticated(missing, code=_INVALID)
        digest = digest_of(presented)
        found = self._by_digest.get(digest)
        # How long the look into the table takes says nothing of a token: where a digest stands in it cannot be chosen.
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise Unauthenticated("Unauthorized: Invalid token", code=_INVALID)
        return found

    def digests_of(self, name: str) -> list[bytes]:
        """The digests of the tokens of those who see an owner's jobs; none of a client that there is not."""
        return [digest for digest, one in self._by_digest.items() if one.client.sees(name)]

    def replace(self, entries: Iterable[Entry]) -> Replaced:
        """Take a new table; what is not in it is revoked before this returns, and new tokens are good from then on."""
        table: dict[bytes, Credential] = {}
        for entry in entries:
            for digest in entry.digests:
                known = self._by_digest.get(digest)
                if known is None or known.client.name != entry.client.name:
                    known = Credential(digest, entry.client)
                known.client = entry.client
                table[digest] = known
        before, names, self._by_digest = self._by_digest, self.names, table
        revoked = [one for digest, one in before.items() if table.get(digest) is not one]
        for one in revoked:
            one.revoke()
        left = self.names
        narrowed = {one.client.name for one in revoked} & left
        return Replaced(*(tuple(sorted(some)) for some in (left - names, names - left, narrowed)))


def sole(token: str) -> list[Entry]:
    """The table of a node whose clients share one token, its operator's: the jobs are the client `default`'s."""
    if not token:
        return []
    operator = Client(DEFAULT, plan=DEFAULT, roles=frozenset({ADMIN}))
    return [Entry(operator, frozenset({digest_of(token)}))]


def check_role(client: Client, role: str, what: str) -> None:
    """Return when a client may do what needs a role; nothing needs the empty one.

    Raises:
        PermissionDenied: it may not; the message names `what`.
    """
    if not client.may(role):
        raise PermissionDenied(
            f"{what} needs the role {role!r}, which the client {client.name!r} does not have; "
            "use an administrator's token"
        )
