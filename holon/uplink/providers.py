"""The uplink: which skills somebody provides now, at whichever node of this holon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import orjson

from holon.errors import HolonError
from holon.ports import MAX_DOCUMENT_BYTES, Document, DocumentHints, Shared

log = logging.getLogger(__name__)

KIND = "providers"
# What a node says of its workers' skills is good for so long; it says it again before, and at once when it changes.
GOOD_MS = 30_000
REPEAT_S = 10.0
LOOK_S = 1.0


class Providers:
    """Each node says in the store which skills its workers have; all nodes know all of them.

    Arguments:
        here: tells the skills of this node's own workers.
        node: names this node, unique in its holon.

    Attributes:
        hints: is to be told when documents change; perhaps another node says something new.
    """

    def __init__(self, store: Shared, here: Callable[[], frozenset[str]], node: str) -> None:
        self._store = store
        self._here = here
        self._node = node
        self._elsewhere: frozenset[str] = frozenset()
        self._told: frozenset[str] | None = None
        self._version = 0
        self.hints = DocumentHints(KIND)

    def __repr__(self) -> str:
        return f"Providers(here={len(self._here())}, elsewhere={len(self._elsewhere)})"

    def have(self, skills: Iterable[str]) -> bool:
        """Whether each of these skills has somebody."""
        here = self._here()
        return all(skill in here or skill in self._elsewhere for skill in skills)

    def elsewhere(self, skill: str) -> bool:
        """Whether a worker of another node has a skill."""
        return skill in self._elsewhere

    @property
    def anywhere_else(self) -> bool:
        """Whether another node has any workers."""
        return bool(self._elsewhere)

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
                log.warning("what workers of other nodes can do is as of before: %s", error.message)
            changed |= await self.hints.wait(LOOK_S)

    async def _tell(self) -> None:
        here = self._here()
        known = await self._store.put_document(KIND, self._node, _text(here), version=self._version, expires_in=GOOD_MS)
        if known is None:
            # It ran out, or is of the process before this one.
            document = await self._store.document(KIND, self._node)
            self._version = 0 if document is None else document.version
            self._told = None
        else:
            self._version, self._told = known, here

    async def _read(self) -> None:
        others = [one for one in await self._store.documents(KIND) if one.key != self._node]
        self._elsewhere = frozenset(skill for document in others for skill in _skills(document))


def _text(skills: Iterable[str]) -> bytes:
    names = sorted(skills)
    while len(text := orjson.dumps(names)) > MAX_DOCUMENT_BYTES:
        names = names[: len(names) * MAX_DOCUMENT_BYTES // (len(text) + 1)]
    return text


def _skills(document: Document) -> list[str]:
    try:
        said = orjson.loads(document.value)
    except ValueError:
        said = None
    if not isinstance(said, list):
        log.error("what node %s said of its workers cannot be read, and is passed over", document.key[:128])
        return []
    return [one for one in said if isinstance(one, str)]
