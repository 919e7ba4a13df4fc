"""Skills that a child passes on to its parent: what their workers answer goes up as they said it."""

from __future__ import annotations

import pytest

from holon.domain.fleet import Skill
from holon.domain.holarchy import HolonIdentity
from holon.domain.task import Outcome, TaskError
from tests.integration.a_child import Leaf, a_child, answer, offered
from tests.integration.scripted_node import Certificates
from tests.integration.uplink.offers_heard import OCR

pytestmark = pytest.mark.usefixtures("withdrawn_soon")


CAUSE = b'{"code":"C","message":"","holon_id":"","name":"b"}'


@pytest.mark.parametrize(
    ("outcome", "status", "data", "error"),
    [
        (Outcome("success", b'{"text":"a"}'), "success", b'{"text":"a"}', None),
        (Outcome("unsure", b'{"perhaps":"b"}'), "unsure", b'{"perhaps":"b"}', None),
        (
            Outcome("failure", error=TaskError("TRANSIENT_ERROR", "the ink ran", b'{"page":3}')),
            "failure",
            b"",
            ("TRANSIENT_ERROR", "the ink ran", b'{"page":3}'),
        ),
        # What would be taken for levels below it.
        (
            Outcome("failure", error=TaskError("BLURRED", "no", b'{"causes":[%b],"details":[1]}' % CAUSE)),
            "failure",
            b"",
            ("BLURRED", "no", b'{"details":{"causes":[%b],"details":[1]}}' % CAUSE),
        ),
        *(
            (Outcome("failure", error=TaskError("ODD", "no", own)), "failure", b"", ("ODD", "no", own))
            # What a worker calls causes is its own.
            for own in (
                b'{"causes":["damp","dust"]}',
                b'{"causes":[{"code":"C","name":"b"}],"details":[1]}',
                b'{"causes":[{"why":"damp"}],"page":3}',
                b'{"causes":[%b],"page":3}' % CAUSE,
                b'{"causes":[]}',
            )
        ),
        (Outcome("cancelled"), "cancelled", b"", None),
    ],
)
async def test_what_a_worker_says_is_what_the_parent_hears_after_one_try(
    certificates: Certificates, outcome: Outcome, status: str, data: bytes, error: tuple[str, str, bytes] | None
) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child, Leaf(child.engine, "w1", OCR) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "ocr", {"photo": 1})
        assert (await answer(stream)).HasField("accepted")
        await leaf.ends(await leaf.given(), outcome)
        result = (await stream.result()).result
        assert leaf.offers.empty()
        if status == "cancelled":
            # Nobody below may cancel a task of the parent's.
            assert (result.status, result.error.code) == ("failure", "CANCELLED_BY_CHILD")
            return
        assert (result.status, result.data.data) == (status, data)
        if error is not None:
            assert (result.error.code, result.error.message, result.error.details.data) == error
            assert not result.error.causes


async def test_what_a_holon_below_says_of_the_levels_below_it_goes_up_as_such(certificates: Certificates) -> None:
    below = HolonIdentity("below", 1, "a")
    async with (
        a_child(certificates, [], skills=("ocr",)) as child,
        Leaf(child.engine, "w1", Skill("ocr"), holon=below) as leaf,
    ):
        stream = await child.linked()
        await offered(stream, "t1", "ocr", {"photo": 1})
        assert (await answer(stream)).HasField("accepted")
        said = TaskError("BLURRED", "no", b'{"causes":[%b],"details":[1]}' % CAUSE)
        await leaf.ends(await leaf.given(), Outcome("failure", error=said))
        error = (await stream.result()).result.error
        assert ([one.code for one in error.causes], error.details.data) == (["C"], b"[1]")


async def test_a_worker_that_comes_later_may_answer_what_none_did_when_the_task_was_taken(
    certificates: Certificates,
) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child, Leaf(child.engine, "w1", Skill("ocr"), credits=1):
        stream = await child.linked()
        for n in range(2):
            await offered(stream, f"t{n}", "ocr", {"photo": n})
            assert (await answer(stream)).HasField("accepted")
        async with Leaf(child.engine, "w2", OCR) as late:
            given = await late.given()
            await late.ends(given, Outcome("unsure", b'{"text":"b"}'))
            result = (await stream.result()).result
            assert (result.status, result.data.data) == ("unsure", b'{"text":"b"}')


@pytest.mark.parametrize("below", [HolonIdentity("below", 1, "a"), None], ids=["holon", "worker"])
async def test_whether_another_try_may_help_goes_up_as_the_holon_below_said_it(
    certificates: Certificates, below: HolonIdentity | None
) -> None:
    async with a_child(certificates, [], skills=("ocr",)) as child, Leaf(child.engine, "w1", OCR, holon=below) as leaf:
        stream = await child.linked()
        await offered(stream, "t1", "ocr", {"photo": 1})
        assert (await answer(stream)).HasField("accepted")
        error = TaskError("PERMANENT_ERROR", "not now", retryable=True)
        await leaf.ends(await leaf.given(), Outcome("failure", error=error))
        told = (await stream.result()).result.error
        assert (told.code, told.retryable, told.HasField("retryable")) == ("PERMANENT_ERROR", bool(below), bool(below))
