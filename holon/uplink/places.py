"""The uplink: the places of the workers of all nodes of this holon: the node that links hears of those elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import DecodeError
from msgspec.json import Decoder, Encoder

from holon.domain.value import Value
from holon.engine.session import Session
from holon.errors import HolonError
from holon.ports import Document, DocumentHints, OwnDocument, Shared
from holon.uplink.offerings import Offerings
from holon.uplink.providers import Providers

log = logging.getLogger(__name__)

KIND = "places"
# A node tells its places this often where anything has changed, else now and then.
LOOK_S = 1.0
REPEAT_S = 3.0
GOOD_MS = 10_000
# Of more tasks than that the jobs are not told: to the node that links they are no parent's.
MAX_JOBS = 5_000


class Room(Value, gc=True, array_like=False):
    """How many places of a node are idle for a job of each offering, and of which jobs its workers have tasks."""

    idle: Mapping[str, int] = {}
    jobs: Sequence[str] = ()


_encode, _decode = Encoder(order="sorted").encode, Decoder(Room).decode


class Idle:
    """How many places are idle at workers for jobs of whatever offering. Most workers are alike, and counted together.

    Arguments:
        promised: whether those count that calls to the store have for a moment, for what they may find waiting.
    """

    def __init__(self, sessions: Iterable[Session], *, promised: bool = False) -> None:
        self._promised = promised
        # By what they offer, those of workers without a limit of a single offering; and the others, each with its own.
        self._alike: Counter[frozenset[str]] = Counter()
        self._limited: list[tuple[Session, int]] = []
        for session in sessions:
            free = session.free + (session.promised if promised and session.taking else 0)
            if free > 0 and session.limits:
                self._limited.append((session, free))
            elif free > 0:
                self._alike[session.skills] += free

    def __repr__(self) -> str:
        return f"Idle(alike={len(self._alike)}, limited={len(self._limited)})"

    def of(self, needs: frozenset[str]) -> int:
        """How many there are at workers with such skills; with any where none is named."""
        alike = sum(free for skills, free in self._alike.items() if not (needs and needs.isdisjoint(skills)))
        return alike + sum(self._room(session, needs, free) for session, free in self._limited)

    def _room(self, session: Session, needs: frozenset[str], free: int) -> int:
        lefts = (self._left(session, skill, free) for skill in needs & session.skills)
        return max(lefts, default=0) if needs else free

    def _left(self, session: Session, skill: str, free: int) -> int:
        left = session.left_of(skill, promised=self._promised)
        return free if left is None else max(0, min(free, left))


def used(sessions: Collection[Session]) -> int:
    """How many are not, with those that are about to be taken."""
    return sum(len(session.leases) + session.promised for session in sessions)


class Places:
    """Each node that does not link says in the store how many places are idle there; the one that links reads it.

    Arguments:
        sessions: of this node's own workers.
        providers: who knows whether there are other nodes.
        node: names this node, unique in its holon.
        links: whether this node links with the parent.

    Attributes:
        hints: is to be told when documents change; perhaps another node says something new.
        heard: called when another node says something new.
    """

    def __init__(
        self,
        store: Shared,
        sessions: Callable[[], Collection[Session]],
        offerings: Offerings,
        providers: Providers,
        node: str,
        links: Callable[[], bool],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._offerings = offerings
        self._providers = providers
        self._node = node
        self._links = links
        self._elsewhere: Sequence[Room] = ()
        self._read_versions: Sequence[tuple[str, int]] = ()
        self._told: Room | None = None
        self._told_at = 0.0
        self._own = OwnDocument(store, KIND, node)
        self.hints = DocumentHints(KIND)
        self.heard: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"Places(nodes={len(self._elsewhere)})"

    @property
    def told(self) -> bool:
        """Whether any other node has told."""
        return bool(self._elsewhere)

    def for_jobs(self, name: str, jobs: Collection[str]) -> int | None:
        """How many places at other nodes were idle for a job of this offering, or had one of these jobs.

        None: none of those nodes has told. A place that another job takes is one that these have no more.
        """
        told = [room for room in self._elsewhere if name in room.idle]
        return sum(room.idle[name] + sum(one in jobs for one in room.jobs) for room in told) if told else None

    async def run(self) -> None:
        """Tell the node that links, or hear the others, until cancelled; where there is one node, neither."""
        while True:
            # What others tell is hinted at; what the workers here take is not.
            wait = REPEAT_S if self._links() else LOOK_S
            try:
                if self._links():
                    await self._read()
                elif self._providers.others:
                    await self._tell()
            except HolonError as error:
                log.debug("the places of other nodes could not be updated: %s", error.message)
            await self.hints.wait(wait)

    async def _tell(self) -> None:
        sessions, now = self._sessions(), asyncio.get_running_loop().time()
        jobs = [offer.job_id for session in sessions for offer in session.leases.values()]
        idle = Idle(sessions)
        idle_for = {name: idle.of(self._offerings.needs(name)) for name in self._offerings.names}
        room = Room(idle_for, sorted(jobs)[:MAX_JOBS])
        if self._told is not None and now - self._told_at < (REPEAT_S if room == self._told else LOOK_S):
            return
        await self._own.write(_encode(room), GOOD_MS)
        self._told, self._told_at = room, now

    async def _read(self) -> None:
        others = await self._store.documents(KIND) if self._providers.others else ()
        others = [one for one in others if one.key != self._node]
        versions = [(one.key, one.version) for one in others]
        if versions != self._read_versions:
            self._read_versions = versions
            rooms = map(_told_in, others)
            self._elsewhere = [room for room in rooms if room is not None]
            self.heard()


def _told_in(document: Document) -> Room | None:
    try:
        return _decode(document.value)
    except DecodeError:
        log.warning("what node %s reported about its places cannot be read, and is ignored", document.key[:128])
        return None
