"""What a child offers is no more than its parent takes, whatever its workers say of themselves."""

from __future__ import annotations

import pytest

from holon.domain.fleet import Catalog, Machine, Skill
from holon.rxon.v1 import worker_pb2
from holon.uplink import offerings
from tests.integration.a_child import Leaf, a_child
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.offers_heard import Offered, blueprints

pytestmark = pytest.mark.usefixtures("withdrawn_soon")


async def test_whatever_workers_say_of_themselves_the_parent_is_told_no_more_than_it_takes(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    large = [Skill(f"s{n:02}", input_schema={"description": "x" * 60_000, "minProperties": 1}) for n in range(20)]
    machines = tuple(Machine(properties={f"p{n}": "x" * 60_000}) for n in range(32))
    names = [skill.name for skill in large]
    async with a_child(certificates, blueprints(), skills=names) as child, Leaf(child.engine, "w1", *large) as leaf:
        parent = Offered(await child.linked())
        while "s16" not in parent.credits:
            await parent.hear()
        # What is the holon's own goes before what others say, and that stays a part of what a message may be.
        assert "asking" in parent.credits
        assert "s17" not in parent.credits
        await child.engine.workers.offers(leaf.member, Catalog((Skill("s01"),), machines))
        while len(parent.profiles) < 17:
            await parent.hear()
        assert len(parent.profiles) == 17
        assert "asking" in parent.credits
        # Whoever links anew has the same in its Hello.
        child.uplink._link.introduce(worker_pb2.HolonIdentity(holon_id="the-child", uplink_epoch=1))  # type: ignore[union-attr]
        again = await child.linked()
        assert again.hello.ByteSize() < 2**20 + 2**16
        assert len(again.hello.catalog.profiles) == 17
    [said] = [one.message for one in caplog.records if one.name == offerings.__name__]
    assert "too large, so 3 skills and 0 machines are left out" in said


async def test_skills_of_several_workers_have_no_more_patterns_together_than_a_parent_takes(
    certificates: Certificates,
) -> None:
    def of(name: str) -> Skill:
        return Skill(name, input_schema={"patternProperties": {f"^{name}{n}$": {} for n in range(60)}})

    names = ["a", "b", "c", "d", "e"]
    async with (
        a_child(certificates, [], skills=names) as child,
        Leaf(child.engine, "w1", *map(of, names[:3])),
        Leaf(child.engine, "w2", *map(of, names[3:])),
    ):
        parent = Offered(await child.linked())
        await parent.until(a=10, b=10, c=10, d=10)
        while not (await parent.hear()).HasField("heartbeat"):
            pass
        assert "e" not in parent.credits
