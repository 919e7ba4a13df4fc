"""Chaos of holons: one seed: a holarchy of three levels, jobs, what fails; then calm, and the checker."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from holon.client import Client
from holon.errors import HolonError
from tests.chaos.checker import Broken
from tests.chaos.holons.asking import Asking
from tests.chaos.holons.checker import cancel_times, check
from tests.chaos.holons.failing import Failing
from tests.chaos.holons.family import ABOVE, CHILDREN, CLIENT, LEAVES, LEVELS, LINKS, PARENTS, ROOT, Family
from tests.chaos.holons.fate import Amounts, Fate, draw
from tests.chaos.holons.findings import Findings, fingerprints, read
from tests.chaos.holons.story import shortest
from tests.chaos.notes import Note
from tests.chaos.record import read_notes
from tests.chaos.services import service_of

LOOK_S = 0.1
# Of the client while things fail, and of those that look at what came of it.
PATIENCE_S, CALM_PATIENCE_S = 2.0, 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be.

    Attributes:
        seed: of all that is left to chance.
        storage: of the root: `sqlite://` or `redis://`.
        jobs: how many the root is asked for.
        seconds: how long they are asked for, and things begin to fail.
        faults: how many there are, deaths at a moment not among them.
        deaths: how many of those.
        calm_s: how long every job may take to be over once nothing fails any more.
        broken: the promises that the nodes are to break, for the checker's own tests.
    """

    seed: int
    storage: str = "sqlite://"
    jobs: int = 24
    seconds: float = 4.0
    faults: int = 5
    deaths: int = 2
    calm_s: float = 45.0
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run came to.

    Attributes:
        broken: the promises that did not hold.
        wrong: what else must not have happened.
        story: of the job that broke a promise with the fewest lines; empty when none did.
        ends: how the root's jobs ended, counted.
        faults: what failed, counted, deaths at a moment among them.
        cancels: how long after all were linked a cancel came to a leaf, for each, in milliseconds.
        begun: how many units the leaves began.
        took_s, calm_s: how long it took in all, and from the last fault until every job was over.
    """

    broken: Sequence[Broken]
    wrong: Sequence[str]
    story: str
    ends: Counter[str]
    faults: Counter[str]
    cancels: Sequence[int]
    begun: int
    took_s: float
    calm_s: float

    @property
    def good(self) -> bool:
        """Whether all held."""
        return not (self.broken or self.wrong)


@dataclass(slots=True)
class _Seen:
    """What the run itself learned."""

    left: list[str] = field(default_factory=list)
    calm_s: float = 0.0


class HolonChaos:
    """One run.

    Arguments:
        folder: where files, notes and logs go.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._token = secrets.token_urlsafe(24)
        self._seen = _Seen()

    async def run(self) -> Verdict:
        """Run it; raises BenchError when it cannot be made."""
        plan, began = self._plan, time.monotonic()
        amounts = Amounts(plan.jobs, plan.seconds, plan.faults, plan.deaths)
        fate = draw(plan.seed, amounts, PARENTS, CHILDREN, LEAVES, LINKS)
        store = service_of(plan.storage, self._folder, 1)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(store)
            family = Family(self._folder, plan.seed, fate, store, self._token, plan.broken)
            await family.enter(stack)
            async with asyncio.TaskGroup() as group:
                for life in family.lives.values():
                    group.create_task(life.start(), name=life.name)
            failing = Failing(family)
            async with self._root(family, PATIENCE_S) as root, asyncio.TaskGroup() as group:
                group.create_task(Asking(root, fate.errands, self._folder).run(), name="asking")
                group.create_task(failing.run(), name="failing")
            found = await self._calm(family, fate)
        faults = failing.counts + Counter(
            f"died {death.moment}" for death in fate.deaths if (self._folder / f"{death.node}.died").exists()
        )
        wrong = [line for life in family.lives.values() for line in (*life.wrong, *life.errors()[:5])]
        broken = check(found)
        ends = Counter(told.job.status for told in found.told[ROOT].values())
        cancels = sorted(taken for _, taken in cancel_times(found))
        begun = sum(1 for _ in found.of_leaves("began"))
        took_s = time.monotonic() - began
        story = shortest(found, broken)
        return Verdict(broken, wrong, story, ends, faults, cancels, begun, took_s, self._seen.calm_s)

    async def _calm(self, family: Family, fate: Fate) -> Findings:
        """Nothing fails: every job ends, at every level. Then all leave, and nothing is left."""
        async with AsyncExitStack() as stack:
            clients = {ROOT: await stack.enter_async_context(self._root(family, CALM_PATIENCE_S))}
            for name in CHILDREN:
                clients[name] = await stack.enter_async_context(
                    Client(f"unix:{family.socket(name)}", "", timeout=CALM_PATIENCE_S)
                )
            await self._until_over(clients)
            calm_at = time.time_ns() // 1_000_000
            names = {(await client.node.info()).holon_id: name for name, client in clients.items()}
            told, trees = await read(clients)
            prints = await fingerprints(clients, names, trees)
        for name in (*LEAVES, *reversed(LEVELS)):
            await family.lives[name].stop()
        left = [*self._seen.left, *(f"{name}: {what}" for name in LEVELS for what in family.stores[name].left())]
        notes: dict[str, list[Note]] = read_notes(self._folder)
        return Findings(notes, told, trees, prints, names, left, calm_at, fate.impatient)

    async def _until_over(self, clients: Mapping[str, Client]) -> None:
        began = time.monotonic()
        while left := [what for name, client in clients.items() if (what := await _under_way(name, client))]:
            if time.monotonic() - began > self._plan.calm_s:
                self._seen.left += [f"{what} after {self._plan.calm_s:g} s of calm" for what in left]
                break
            await asyncio.sleep(LOOK_S)
        self._seen.calm_s = time.monotonic() - began

    def _root(self, family: Family, patience_s: float) -> Client:
        url = f"grpcs://localhost:{family.links[CLIENT].port}"
        return Client(url, self._token, family.ca(ROOT), timeout=patience_s)


async def _under_way(name: str, client: Client) -> str:
    """What is not over at a holon, and which of its children are not there to tell how it went."""
    try:
        stats = await client.node.stats()
        linked = {one.worker_id async for one in client.node.list_workers(connected=True)}
    except HolonError as error:
        return f"{name}: no answer: {error}"
    away = sum(ABOVE[child] == name and child not in linked for child in CHILDREN)
    held = {**stats.jobs, "queued": stats.tasks_queued, "leased": stats.tasks_leased, "holons away": away}
    under_way = ", ".join(f"{count} {what}" for what, count in held.items() if count)
    return f"{name}: {under_way}" if under_way else ""
