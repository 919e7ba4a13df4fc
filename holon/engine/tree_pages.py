"""Pages of a tree: where one begins, how much it takes, and how the tree that another holon told is hung into it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

from msgspec.msgpack import Decoder, Encoder

from holon.domain.tree import MAX_TREE_BYTES, TreeNode, TreePage, weight
from holon.domain.value import Value, replace
from holon.engine.page_tokens import ListTokens, bytes_of, foreign, text_of

# How many nodes, and pages, one task may have below it: a holon below may have no end.
MOST_OF_ONE = 100_000
# A page is to fit into its limit also where it is passed on.
_PAGE_BYTES = MAX_TREE_BYTES - 128 * 1024
_ENCODER = Encoder()
_DECODER = Decoder()
_GENERATION = re.compile(r"(\d{1,9})(?:~([!-~]*))?", re.ASCII)


class Place(Value):
    """Where a page begins: at the task of this number, or behind that in the tree below it.

    `inner` is where in that one, None before the task itself; `seen` is how much of it was told.
    """

    task: int = 0
    inner: str | None = None
    seen: int = 0

    def token(self, tokens: ListTokens) -> str:
        """Its page token, among those of the tree."""
        generation, tilde, inner = (self.inner or "").rpartition("~")
        # A token in a token, level by level: as bytes each grows by a few only.
        return tokens.seal(
            _ENCODER.encode(
                (self.task, self.seen, self.inner is not None, generation + tilde, bytes_of(inner) or inner)
            )
        )

    def below(self, under: TreePage) -> Place | None:
        """Where it goes on behind a page of the tree below its task; None: with the next task."""
        seen = self.seen + max(1, len(under.nodes))
        return Place(self.task, under.token, seen) if under.token and seen < MOST_OF_ONE else None


class GenerationPlace(Value):
    """Where a page begins below a task: at this generation of it, or at `inner` in the tree of its job.

    `inner` is None before the generation itself.
    """

    generation: int = 0
    inner: str | None = None

    @property
    def token(self) -> str:
        """What says it, as a part of the token of a `Place`."""
        return str(self.generation) if self.inner is None else f"{self.generation}~{self.inner}"

    def of(self, generation: int) -> str | None:
        """Where it begins in the tree of a generation's job; None: at the generation itself."""
        return self.inner if self.generation == generation else None


def generation_place_of(token: str) -> GenerationPlace:
    """The place that such a token says; the beginning for none.

    Raises:
        InvalidArgument: it says none.
    """
    if not token:
        return GenerationPlace()
    found = _GENERATION.fullmatch(token)
    if found is None:
        raise foreign()
    return GenerationPlace(int(found[1]), found[2])


def place_of(token: str, tokens: ListTokens) -> Place:
    """The place that a token says; the beginning for none.

    Raises:
        InvalidArgument: the token is not of this tree.
    """
    place = tokens.open(token)
    if not place:
        return Place()
    task, seen, inside, generation, inner = _DECODER.decode(place)
    inner = generation + (text_of(inner) if isinstance(inner, bytes) else inner)
    return Place(task, inner if inside else None, seen)


class Page:
    """Nodes of one page, as many as it may have."""

    def __init__(self, size: int) -> None:
        self._nodes: list[TreeNode] = []
        self._size = size
        self._bytes = 0

    @property
    def left(self) -> int:
        """How many more it takes."""
        return self._size - len(self._nodes) if self._bytes < _PAGE_BYTES else 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self._nodes

    def add(self, nodes: Sequence[TreeNode]) -> bool:
        """Take these, or none of them where they are too many; an empty page takes what came as one page."""
        size = sum(map(weight, nodes))
        if self._nodes and nodes and (len(nodes) > self.left or self._bytes + size > _PAGE_BYTES):
            return False
        self._nodes += nodes
        self._bytes += size
        return True

    def done(self, token: str = "") -> TreePage:
        """All of it, and the token of the next one; empty: there is none."""
        return TreePage(tuple(self._nodes), token)


def grafted(task_id: str, under: TreePage) -> list[TreeNode]:
    """The tree below a task, as a part of this one: names are unique here too, and no longer at any depth."""
    return [
        replace(node, id=_name(task_id, node.id), parent=_name(task_id, node.parent) if node.parent else task_id)
        for node in under.nodes
    ]


def _name(task_id: str, node_id: str) -> str:
    return blake2b(f"{task_id} {node_id}".encode(), digest_size=12).hexdigest()
