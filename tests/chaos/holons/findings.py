"""Chaos of holons: what came out of a run, at each level, as it can be seen from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from holon.client import Client, TreeNode
from tests.chaos.holons.blueprints import errand
from tests.chaos.holons.family import ABOVE, LEAVES, LEVELS, ROOT, path
from tests.chaos.notes import Note
from tests.chaos.record import Record, Told, read_jobs
from tests.chaos.story import FAULT

# So often a tree is asked for, as long as a part of it is told from what was told before.
ASKED = 5


@dataclass(frozen=True)
class Findings:
    """All that is known of a run.

    Attributes:
        notes: what everybody wrote down, by who it was.
        told: the jobs of each holon with their histories, by the holon and the job's id.
        trees: of the root's jobs, by the job's id.
        prints: the fingerprint of each job that a tree names, as its holon's own history has it.
        names: of holons, by their ids.
        left: what was left over.
        calm_at: when all was to be over, in epoch milliseconds; then everybody was asked to leave.
        impatient: whether a child that was away for long may have lost what it had.
    """

    notes: Mapping[str, list[Note]]
    told: Mapping[str, dict[str, Told]]
    trees: Mapping[str, Sequence[TreeNode]]
    prints: Mapping[str, str]
    names: Mapping[str, str]
    left: Sequence[str]
    calm_at: int
    impatient: bool

    def of(self, name: str, *whats: str) -> Iterator[Note]:
        """Somebody's notes of some kinds."""
        return (note for note in self.notes.get(name, ()) if note.what in whats)

    def of_leaves(self, *whats: str) -> Iterator[Note]:
        """The same, of all leaves."""
        return (note for leaf in LEAVES for note in self.of(leaf, *whats))

    def record(self, holon: str) -> Record:
        """What is known of one holon: its jobs, and the notes of those who serve it."""
        below = [name for name, above in ABOVE.items() if above == holon]
        by = {name: self.notes.get(name, []) for name in (*below, *(("client",) if holon == ROOT else ()))}
        return Record(by, self.told[holon])

    @cached_property
    def cancelled(self) -> dict[str, int]:
        """When the root had been told to cancel, by unit, in epoch milliseconds."""
        return {note.facts["unit"]: note.at for note in self.of("client", "cancelled")}

    @cached_property
    def failed(self) -> Counter[str]:
        """How often the leaves failed, by unit: then whoever has the work is to try again."""
        return Counter(note.facts["unit"] for note in self.of_leaves("failed"))

    @cached_property
    def accepted(self) -> dict[str, str]:
        """The root's jobs, by unit."""
        return {note.facts["unit"]: note.facts["job"] for note in self.of("client", "accepted")}

    @cached_property
    def asked(self) -> dict[str, str]:
        """What was asked for, by unit."""
        return {note.facts["unit"]: note.facts["blueprint"] for note in self.of("client", "asked")}

    @cached_property
    def units(self) -> dict[str, str]:
        """Of whose errand a job is, for each job of any holon that anybody wrote down."""
        units = {job: unit for unit, job in self.accepted.items()}
        for name in LEVELS:
            units |= {note.facts["job"]: errand(note.facts["unit"]) for note in self.of(name, "job")}
        for job, nodes in self.trees.items():
            if job in units:
                units |= {node.job_id: units[job] for node in nodes if node.job_id}
        return units

    def linked_since(self, leaf: str, until: int) -> int:
        """When everybody from a leaf to the root was last linked again before a time; 0 if they always were."""
        own = path(leaf)
        places = {*own, *(f"{name}->{ABOVE[name]}" for name in own if name in ABOVE)}
        linked = [note.at for name in own for note in self.of(name, "linked")]
        over = [note.at for note in self.of("chaos", FAULT) if "over" in note.facts and note.facts["target"] in places]
        return max((at for at in (*linked, *over) if at <= until), default=0)


async def read(clients: Mapping[str, Client]) -> tuple[dict[str, dict[str, Told]], dict[str, list[TreeNode]]]:
    """Every job of every holon, and the trees of the root's."""
    told = {name: await read_jobs([client]) for name, client in clients.items()}
    trees = {job: await _whole_tree(clients[ROOT], job) for job in told[ROOT]}
    return told, trees


async def _whole_tree(root: Client, job: str) -> list[TreeNode]:
    """A tree of which all levels are there, if they can be had.

    A page is what could be had within two seconds, which may be too short on a machine that has much else to do. A
    holon that is linked and never tells is found all the same.
    """
    nodes: list[TreeNode] = []
    for _ in range(ASKED):
        nodes = [node async for node in root.tree(job, digests=True)]
        if not any(node.offline for node in nodes):
            break
    return nodes


async def fingerprints(
    clients: Mapping[str, Client], names: Mapping[str, str], trees: Mapping[str, Sequence[TreeNode]]
) -> dict[str, str]:
    """Those of all jobs that the trees name, of as many lines as were told of."""
    prints = {}
    for nodes in trees.values():
        for node in nodes:
            if node.kind == "job" and node.digest is not None and (name := names.get(node.holon_id)):
                digest = await clients[name].fingerprint(node.job_id, node.digest.event_count)
                prints[node.job_id] = digest.sha256
    return prints
