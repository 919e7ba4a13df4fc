"""The uplink: what somebody provides now, at whichever node of this holon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet

from holon.domain.matching import Need
from holon.errors import HolonError
from holon.ports import Document, DocumentHints, OwnDocument, Shared
from holon.uplink.provided import Passed, Provided, provided_in, text_of

log = logging.getLogger(__name__)

KIND = "providers"
# What a node says of its workers is good for so long; it says it again before, and at once when it changes.
GOOD_MS = 30_000
REPEAT_S = 10.0
LOOK_S = 1.0


class Providers:
    """Each node says in the store what its workers offer; all nodes know all of it.

    Arguments:
        here: tells what this node's own workers offer.
        skills: tells the names of their skills alone, which are asked for with each task.
        node: names this node, unique in its holon.

    Attributes:
        hints: is to be told when documents change; perhaps another node says something new.
    """

    def __init__(
        self, store: Shared, here: Callable[[], Provided], skills: Callable[[], AbstractSet[str]], node: str
    ) -> None:
        self._store = store
        self._here = here
        self._skills = skills
        self._node = node
        self._elsewhere: Sequence[Provided] = ()
        self._skills_elsewhere: frozenset[str] = frozenset()
        self._told: Provided | None = None
        self._text = b""
        self._own = OwnDocument(store, KIND, node)
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"Providers(here={len(self._skills())}, elsewhere={len(self._skills_elsewhere)})"

    def have(self, skills: Iterable[str]) -> bool:
        """Whether each of these skills has somebody."""
        here = self._skills()
        return all(skill in here or skill in self._skills_elsewhere for skill in skills)

    def elsewhere(self, skill: str) -> bool:
        """Whether a worker of another node has a skill."""
        return skill in self._skills_elsewhere

    def can_do_elsewhere(self, need: Need, but: Collection[str] = ()) -> bool:
        """Whether a worker of another node that takes tasks could do one with this need, now or once it has room.

        Arguments:
            but: the ids of workers that do not count, where they are holons.
        """
        return any(node.can_do(need, but) for node in self._elsewhere)

    def passed(self, skill: str) -> list[Passed]:
        """A skill that is passed on, as the workers of all nodes offer it."""
        return [one for node in (self._here(), *self._elsewhere) for one in node.passed if one.skill.name == skill]

    def nodes(self) -> Sequence[Provided]:
        """What each node has, this one first; the same objects until that is something else."""
        return self._here(), *self._elsewhere

    @property
    def others(self) -> bool:
        """Whether this holon has other nodes that would link with the parent: each of them says something here."""
        return bool(self._elsewhere)

    @property
    def anywhere_else(self) -> bool:
        """Whether another node has any workers."""
        return bool(self._skills_elsewhere)

    async def run(self) -> None:
        """Tell the other nodes, and hear them, until cancelled; what they said last is forgotten with time."""
        loop = asyncio.get_running_loop()
        told_at, read_at, changed = -REPEAT_S, -REPEAT_S, False
        while True:
            now = loop.time()
            try:
                if self._here() != self._told or now - told_at >= REPEAT_S:
                    await self._tell()
                    told_at = now
                if changed or now - read_at >= REPEAT_S:
                    await self._read()
                    read_at, changed = now, False
            except HolonError as error:
                log.warning("the skills of workers of other nodes could not be updated: %s", error.message)
            changed |= await self.hints.wait(LOOK_S)

    async def _tell(self) -> None:
        here = self._here()
        if here != self._told:
            # Should it not be written now, it is by the next try, whatever they offer then.
            self._text, self._told = _text(here), None
        await self._own.write(self._text, GOOD_MS)
        self._told = here

    async def _read(self) -> None:
        others = [one for one in await self._store.documents(KIND) if one.key != self._node]
        self._elsewhere = [_provided(one) for one in others]
        self._skills_elsewhere = frozenset(skill for one in self._elsewhere for skill in one.skills)


def _text(here: Provided) -> bytes:
    text, whole = text_of(here)
    if not whole:
        log.warning(
            "the workers of this node offer too much to share all of it with the other nodes of this holon. Report "
            "fewer machines per worker, or make schemas and descriptions of the skills in UPLINK_SKILLS smaller"
        )
    return text


def _provided(document: Document) -> Provided:
    said = provided_in(document.value)
    if said is None:
        log.error("what node %s reported about its workers cannot be read, and is ignored", document.key[:128])
        return Provided()
    return said
