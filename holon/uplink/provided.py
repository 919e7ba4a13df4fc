"""The uplink: what the workers of one node offer, as that node knows it, and as it tells the others of its holon."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace as but

from msgspec import DecodeError
from msgspec.json import Decoder, Encoder

from holon.domain.fleet import Machine, Skill
from holon.domain.matching import Need, Offering, fits
from holon.domain.value import Value, replace
from holon.engine.fleet import Fleet
from holon.ports import MAX_DOCUMENT_BYTES
from holon.uplink.fitting import MAX_PROFILES

# No document unpacks to more.
_MOST_BYTES = 16 * 1024 * 1024


class Passed(Value, gc=True, array_like=False):
    """A skill that is passed on to the parent, as so many workers of a node offer it."""

    skill: Skill
    workers: int


class Holons(Value, gc=True, array_like=False):
    """Workers that are holons, by id, and what each of them takes; nothing, where they take no tasks."""

    workers: frozenset[str]
    offers: frozenset[Offering]


class Equipped(Value, gc=True, array_like=False):
    """What those take who have one of some machines, by their places among those of their node.

    `holon` is the id of the worker, where that is a holon.
    """

    machines: tuple[int, ...]
    offers: frozenset[Offering]
    holon: str = ""


class Provided(Value, gc=True, array_like=False):
    """What the workers of a node offer.

    `skills` are the names of all that they offer, `offers` what those take who take tasks, each once; `holons` are
    those of them that are holons, whose offers are not in `offers`. `passed` is all that they say of the skills that
    are passed on to the parent. `machines` are those behind them, each kind once, as many as a parent is told, and
    `equipped` tells what is offered on which of them.
    """

    skills: frozenset[str] = frozenset()
    offers: frozenset[Offering] = frozenset()
    passed: tuple[Passed, ...] = ()
    machines: tuple[Machine, ...] = ()
    holons: tuple[Holons, ...] = ()
    equipped: tuple[Equipped, ...] = ()

    def can_do(self, need: Need, but: Collection[str] = ()) -> bool:
        """Whether one of these workers could do a task with this need, now or once it has room.

        Arguments:
            but: the ids of workers that do not count, where they are holons.
        """
        if need.skill not in self.skills:
            return False
        if need.resources:
            with_some = [one for one in self.equipped if not one.holon or one.holon not in but]
            return any(fits(need, offer, self.machines_of(one)) for one in with_some for offer in one.offers)
        count = (one.offers for one in self.holons if any(worker not in but for worker in one.workers))
        return any(fits(need, one) for offers in (self.offers, *count) for one in offers)

    def machines_of(self, equipped: Equipped) -> list[Machine]:
        """The machines on which these are offered."""
        return [self.machines[place] for place in equipped.machines]


class Here:
    """What the workers of this node offer, looked up anew once that may have changed.

    Arguments:
        passed: the names of the skills that are passed on.
    """

    def __init__(self, fleet: Fleet, passed: Collection[str]) -> None:
        self._fleet = fleet
        self._passed = tuple(passed)
        self._known = Provided()
        self._changes = 0
        # What each worker says of a skill that is passed on, as text: it is long, and they are many. By the object.
        self._texts: dict[int, tuple[Skill, bytes]] = {}

    def __repr__(self) -> str:
        return f"Here(skills={len(self._known.skills)})"

    def __call__(self) -> Provided:
        """All of it, as it is now."""
        if self._changes != self._fleet.changes:
            passed = tuple(self._all_passed())
            machines = tuple(self._fleet.machines()[:MAX_PROFILES])
            holons = tuple(_alike(self._fleet.holons()))
            equipped = tuple(self._equipped(machines))
            self._known = Provided(self._fleet.names(), self._fleet.offerings(), passed, machines, holons, equipped)
            self._changes = self._fleet.changes
        return self._known

    def _equipped(self, told: Sequence[Machine]) -> Iterator[Equipped]:
        """What is offered on which of these machines, once of those who offer the same."""
        places = {repr(machine): place for place, machine in enumerate(told)}
        found: dict[tuple[str, frozenset[Offering]], set[int]] = {}
        for holon, machines, offers in self._fleet.equipped():
            its = {places[text] for text in map(repr, machines) if text in places}
            if its:
                found.setdefault((holon, offers), set()).update(its)
        for (holon, offers), its in found.items():
            yield Equipped(tuple(sorted(its)), offers, holon)

    def _all_passed(self) -> Iterator[Passed]:
        """What workers say of the skills that are passed on, and how many say the same.

        But for how much they take, and which events they send.
        """
        before, self._texts = self._texts, {}
        offers = self._fleet.offers_of(frozenset(self._passed))
        for skill in self._passed:
            said: Counter[bytes] = Counter()
            for one in offers.get(skill, ()):
                # A parent is told nothing of its events either, and each has a schema of its own.
                known = before.get(id(one)) or (one, _text_of_skill(but(one, credits=None, machines=None, events=None)))
                self._texts[id(one)] = known
                said[known[1]] += 1
            for text in sorted(said):
                yield Passed(_skill_of(text), said[text])


_encode, _decode = Encoder().encode, Decoder(Provided).decode
_text_of_skill, _skill_of = Encoder(order="sorted").encode, Decoder(Skill).decode


def _alike(holons: Mapping[str, frozenset[Offering]]) -> Iterator[Holons]:
    """Holons by what they take: many are alike."""
    found: dict[frozenset[Offering], set[str]] = {}
    for worker_id, offers in holons.items():
        found.setdefault(offers, set()).add(worker_id)
    for offers, workers in found.items():
        yield Holons(frozenset(workers), offers)


def text_of(provided: Provided) -> tuple[bytes, bool]:
    """What a node tells the others, and whether that is all of it.

    Of what is more than a document takes the machines are left out first, then schemas and descriptions, then all that
    is said of the skills that are passed on, and which workers are holons, then skills.
    """
    text, whole = _packed(provided), True
    if len(text) > MAX_DOCUMENT_BYTES:
        provided = replace(provided, machines=(), equipped=())
        text, whole = _packed(provided), False
    if len(text) > MAX_DOCUMENT_BYTES:
        bare = [
            Passed(but(one.skill, input_schema=None, output_schema=None, description=""), one.workers)
            for one in provided.passed
        ]
        text = _packed(replace(provided, passed=tuple(bare)))
    names, offers = sorted(provided.skills), provided.offers.union(*(one.offers for one in provided.holons))
    while len(text) > MAX_DOCUMENT_BYTES:
        some = frozenset(names)
        text = _packed(Provided(some, frozenset(one for one in offers if one.skill in some)))
        names = names[: len(names) // 2]
    return text, whole


def provided_in(text: bytes) -> Provided | None:
    """What a node told; None: it cannot be read."""
    try:
        unpacking = zlib.decompressobj()
        return _decode(unpacking.decompress(text, _MOST_BYTES))
    except (zlib.error, DecodeError):
        return None


def _packed(provided: Provided) -> bytes:
    return zlib.compress(_encode(provided), 1)
