"""Matching, of any needs and offerings: keys tell needs apart, and who asks for less finds no fewer workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holon.domain.fleet import Machine
from holon.domain.matching import Need, Offering, fits

NAMES = st.text("abc", max_size=2)
SOME = st.lists(NAMES.filter(bool), max_size=2, unique=True).map(tuple)
REQUIRED = st.sampled_from(["", '{"a":1}', '{"a":2}', '{"a":1,"b":1}'])
NEEDS = st.builds(Need, NAMES, NAMES, NAMES, SOME, st.just(()), st.none() | SOME, st.none(), SOME, REQUIRED)
MACHINES = st.lists(st.builds(Machine, properties=st.dictionaries(NAMES, st.integers(0, 3))), max_size=2)
OFFERINGS = st.builds(Offering, NAMES, NAMES, NAMES, NAMES, st.booleans(), st.none(), SOME.map(frozenset))


@given(one=NEEDS, other=NEEDS)
def test_needs_with_one_key_are_the_same_need(one: Need, other: Need) -> None:
    assert (one.key == other.key) == (one == other)


@given(need=NEEDS, offering=OFFERINGS, machines=MACHINES)
def test_asking_for_less_never_loses_a_worker(need: Need, offering: Offering, machines: list[Machine]) -> None:
    if fits(need, offering, machines):
        assert fits(Need(need.skill, "", "", need.contracts), offering)
        assert fits(Need(need.skill, need.version, need.type, (*need.contracts, "more")), offering)
