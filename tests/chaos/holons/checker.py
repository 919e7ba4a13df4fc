"""Chaos of holons: the checker. Each promise is one question to what came out of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from holon.client import TreeNode
from tests.chaos import checker
from tests.chaos.checker import Broken
from tests.chaos.holons.blueprints import CLEAN, LEAF, WORK, errand, units
from tests.chaos.holons.family import LEAVES, LEVELS, ROOT
from tests.chaos.holons.findings import Findings
from tests.chaos.notes import Note

# How long a cancel may take from when all are linked: it is a second at a quiet machine, and this at any.
CANCEL_MS = 10_000


def check(found: Findings) -> list[Broken]:
    """Everything that did not hold; each is of the root's job that it belongs to, by unit."""
    return [broken for question in QUESTIONS for broken in question(found)]


def every_job_ends_as_it_should(found: Findings) -> Iterator[Broken]:
    """I1: an accepted job of the root's is over, and finished with one result of each of its units, or cancelled."""
    for broken in checker.accepted_implies_terminal(found.record(ROOT)):
        yield _of(found, broken)
    done = {f"{note.facts['unit']} {note.facts['run']}" for note in found.of_leaves("did")}
    for unit, blueprint in found.asked.items():
        told = found.told[ROOT].get(found.accepted.get(unit, ""))
        if told is None:
            continue
        job, code = told.job, told.job.error.code if told.job.error is not None else ""
        if job.status == "finished":
            tokens = job.result["tokens"]
            if sorted(token.split()[0] for token in tokens) != units(blueprint, unit):
                yield Broken("I3", unit, f"it ended with {tokens}, and has {units(blueprint, unit)}")
            if unknown := set(tokens) - done:
                yield Broken("I3", unit, f"no leaf has done {sorted(unknown)}, with which it ended")
        elif job.status != "cancelled" or unit not in found.cancelled:
            yield Broken("I1", unit, f"a job {blueprint} is {job.status} {code}")


def each_level_keeps_its_promises(found: Findings) -> Iterator[Broken]:
    """I2, I3, I5: at each level a result is applied once, and what was committed is in the history."""
    for name in LEVELS:
        record = found.record(name)
        for question in OF_EACH:
            yield from (_of(found, broken, name) for broken in question(record))
        for job, told in found.told[name].items():
            if not told.job.terminal:
                yield _of(found, Broken("I1", job, f"it is {told.job.status} in {told.job.current_state}"), name)
            if [event.sequence for event in told.history] != list(range(1, len(told.history) + 1)):
                yield _of(found, Broken("I2", job, "its history has gaps"), name)


def one_job_an_origin(found: Findings) -> Iterator[Broken]:
    """I2: what a parent asks for is one job of its child's; one more each time it failed, and where it was lost."""
    for name in LEVELS:
        jobs: dict[tuple[str, str], list[str]] = {}
        for note in found.of(name, "job"):
            own = jobs.setdefault((note.facts["blueprint"], note.facts["unit"]), [])
            # One whose process died before it was stored was never there, though its handler ran.
            if note.facts["job"] in found.told[name] and note.facts["job"] not in own:
                own.append(note.facts["job"])
        for (blueprint, unit), made in jobs.items():
            ended = [found.told[name][job].job.status for job in made]
            earlier = Counter(ended[:-1])
            failed = found.failed[unit] if blueprint == WORK else 0
            cancelled = earlier["cancelled"] if found.impatient else 0
            # What it has done while nobody waited for it any more is asked for again where another fails at it then.
            again = earlier["failed"] + (earlier["finished"] if found.impatient else 0)
            if earlier.total() > cancelled + min(again, failed):
                yield Broken("I2", errand(unit), f"{name} made {made} of {blueprint} {unit}; they are {ended}")


def leaves_work_once(found: Findings) -> Iterator[Broken]:
    """P1: a unit is begun once, but for what failed or died, and once more where a child was away for too long."""
    begun: dict[str, list[Note]] = {}
    for leaf in LEAVES:
        births = [note.at for note in found.of(leaf, "born")]
        runs: dict[str, list[Note]] = {}
        for note in found.of(leaf, "began"):
            runs.setdefault(note.facts["unit"], []).append(note)
        for unit, notes in runs.items():
            # What a process that died had begun counts for nothing.
            lost = {
                first.facts["run"]
                for first, second in pairwise(notes)
                if any(first.at <= b <= second.at for b in births)
            }
            begun.setdefault(unit, []).extend(note for note in notes if note.facts["run"] not in lost)
    for unit, notes in begun.items():
        if len(notes) > 1 + found.failed[unit] + found.impatient:
            yield Broken("P1", errand(unit), f"{unit} was begun by {[(note.by, note.facts['task']) for note in notes]}")


def cancels_reach_the_leaves(found: Findings) -> Iterator[Broken]:
    """P2: what was begun for a job is over with it: done, or halted, or lost with its leaf."""
    for leaf in LEAVES:
        births = [note.at for note in found.of(leaf, "born")]
        over = {note.facts["run"] for note in found.of(leaf, "did", "failed", "halted") if note.at <= found.calm_at}
        for note in found.of(leaf, "began"):
            if note.facts["run"] not in over and not any(note.at <= birth for birth in births):
                yield Broken("P2", errand(note.facts["unit"]), f"{leaf} has not ended {note.facts['unit']}")
    for unit, taken in cancel_times(found):
        if taken > CANCEL_MS:
            yield Broken("P2", unit, f"its cancel came to a leaf {taken} ms after all were linked")


def cancel_times(found: Findings) -> Iterator[tuple[str, int]]:
    """For each unit that was halted, or begun although it was cancelled: how long after all were linked, in ms."""
    for note in found.of_leaves("halted", "began"):
        cancelled = found.cancelled.get(errand(note.facts["unit"]))
        if cancelled is not None and note.at > cancelled and not note.facts["unit"].endswith(CLEAN):
            yield errand(note.facts["unit"]), note.at - max(cancelled, found.linked_since(note.by, note.at))


def trees_tell_what_happened(found: Findings) -> Iterator[Broken]:
    """P3: what the root shows below its jobs is what is there, and the fingerprints are those of its history."""
    for job, nodes in found.trees.items():
        for node in nodes:
            if node.kind == "job" and (wrong := _wrong(found, node)):
                yield _of(found, Broken("P3", job, f"its tree has a job {node.name} {node.job_id} {wrong}"))
        told = found.told[ROOT][job]
        if told.job.status == "finished":
            done = sum(node.kind == "task" and node.name == LEAF and node.status == "success" for node in nodes)
            if done != len(told.job.result["tokens"]):
                yield _of(found, Broken("P3", job, f"its tree has {done} tasks of leaves that were done"))


def _wrong(found: Findings, node: TreeNode) -> str:
    name = found.names.get(node.holon_id, "")
    told = found.told.get(name, {}).get(node.job_id)
    if told is None:
        return f"at {name or node.holon_id}, which does not know it"
    if node.status != told.job.status:
        return f"{node.status}, and it is {told.job.status} at {name}"
    if node.digest is not None and found.prints[node.job_id] != node.digest.sha256:
        return f"with another history than it has at {name}"
    return ""


def nothing_is_left(found: Findings) -> Iterator[Broken]:
    """I6: when all is over, no store has anything under way."""
    for what in found.left:
        yield Broken("I6", "", f"left over: {what}")


OF_EACH = (
    checker.one_result_a_task,
    checker.nothing_superseded_is_applied,
    checker.committed_is_told,
    checker.leases_are_one_workers,
)
QUESTIONS: tuple[Callable[[Findings], Iterator[Broken]], ...] = (
    every_job_ends_as_it_should,
    each_level_keeps_its_promises,
    one_job_an_origin,
    leaves_work_once,
    cancels_reach_the_leaves,
    trees_tell_what_happened,
    nothing_is_left,
)


def _of(found: Findings, broken: Broken, where: str = ROOT) -> Broken:
    return Broken(broken.number, found.units.get(broken.job, ""), f"at {where}: job {broken.job}: {broken.what}")
