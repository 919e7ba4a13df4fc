"""The tree of a job without any node: what its history amounts to, its fingerprint, its pages, and how it is drawn."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from holon.cli.tree import drawn
from holon.client import HistoryDigest, HistoryEvent, JobSummary, TreeError, TreeNode
from holon.client.shapes import line_of
from holon.domain import events
from holon.domain.digest import Digest, Fingerprint
from holon.domain.tally import Tally, final
from holon.domain.tree import Asked, Kind, Summary, TreePage, Trouble, Visit, shorter
from holon.domain.tree import TreeNode as Node
from holon.domain.value import replace
from holon.engine.page_tokens import MAX_TOKEN, PageTokens
from holon.engine.tree_pages import MOST_OF_ONE, Page, Place, grafted, place_of
from holon.errors import InvalidArgument
from holon.rxon.v1 import worker_pb2
from holon.wire.trees import kept_summary, node_message, page_of, read_summary, summary_message, summary_of

JOB = "0-job"
TOKENS = PageTokens().of("tree", JOB)
LINE = events.HistoryEvent("state_started", 1_000, "start", attempt_number=1, details={"b": 2.5, "a": "\N{SNOWMAN}"})


def tally(*lines: events.HistoryEvent) -> Tally:
    made = Tally(JOB)
    made.take_all(list(enumerate(lines, 1)))
    return made


def sent(step: int, time: int, branches: int = 0) -> events.HistoryEvent:
    if branches:
        return events.HistoryEvent("task_dispatched", time, "s", details={"branches": branches, "step": step})
    return events.HistoryEvent("task_dispatched", time, "s", task_id=f"{JOB}-{step}-0", details={"skill": "work"})


def over(name: str, status: str, time: int, **details: Any) -> events.HistoryEvent:
    told = {"status": status, "skill": "work", **details}
    return events.HistoryEvent(
        "task_finished", time, worker_id="w", attempt_number=1, task_id=f"{JOB}-{name}", details=told
    )


def test_a_fingerprint_is_what_it_says_and_the_same_from_what_a_client_reads() -> None:
    fingerprint = Fingerprint()
    fingerprint.take(7, LINE)
    text = json.dumps(
        [7, "state_started", 1000, "start", None, None, None, None, 1, None, {"a": "\N{SNOWMAN}", "b": 2.5}],
        separators=(",", ":"),
        ensure_ascii=False,
    )
    digest = fingerprint.digest()
    assert digest == Digest(1, 7, 7, hashlib.sha256(text.encode() + b"\n").digest())

    told = HistoryEvent(
        "id", JOB, 7, 1.0, "state_started", "start", None, None, None, None, 1, None, {"b": 2.5, "a": "\N{SNOWMAN}"}
    )
    again = Fingerprint()
    again.take(7, line_of(told))
    assert again.digest() == digest
    other = Fingerprint()
    other.take(7, line_of(dataclasses.replace(told, timestamp=1.001)))
    assert other.digest() != digest


def test_tasks_are_in_the_order_in_which_they_were_sent_from_any_place_on() -> None:
    made = tally(
        sent(0, 10),
        over("0-0", "failure", 11, code="TRANSIENT_ERROR", error="once"),
        over("0-0", "success", 12),
        sent(1, 20, branches=3),
        over("1-2", "failure", 21, code="PERMANENT_ERROR", error="for good"),
        sent(2, 30),
    )
    names = [f"{JOB}-{name}" for name in ("0-0", "1-0", "1-1", "1-2", "2-0")]
    assert [told.id for told in made.tasks()] == names
    for start in range(7):
        assert [told.id for told in made.tasks(start)] == names[start:]
    first, *_, failed, last = made.tasks()
    assert (first.status, first.sent, first.ended, first.error) == ("success", 10, 12, None)
    assert (failed.status, failed.sent, failed.error) == (
        "failure",
        20,
        Trouble("PERMANENT_ERROR", "for good", name="work"),
    )
    assert (last.status, last.skill) == ("", "work")
    assert made.counts() == {"success": 1, "failure": 1, "open": 3}
    assert made.counts(job_is_over=True) == {"success": 1, "failure": 1, "cancelled": 3}
    # One that has done better since is not among what went wrong.
    assert made.errors() == (Trouble("PERMANENT_ERROR", "for good", name="work"),)
    assert [final(told, job_is_over=False) for told in (first, failed, last)] == [True, False, False]
    assert all(final(told, job_is_over=True) for told in (first, failed, last))


def test_of_each_generation_before_another_it_is_told_how_it_failed_and_of_too_many_of_the_newest() -> None:
    def failed(generation: int, time: int) -> events.HistoryEvent:
        return over("0-0", "failure", time, generation=generation, code="C", error=f"e{generation}", cost=generation)

    made = tally(sent(0, 10), failed(1, 11), failed(2, 13), over("0-0", "success", 15, generation=3, cost=7))
    (told,) = made.tasks()
    assert (told.generation, told.cost) == (3, 10)
    told_of = [(one.generation, one.sent, one.ended, one.cost) for one in made.earlier(told, 3)]
    assert told_of == [(1, 10, 11, 1), (2, 11, 13, 2)]
    assert [one.generation for one in made.earlier(told, 2)] == [1]
    many = tally(sent(0, 10), *(failed(generation, generation) for generation in range(1, 151)))
    (last,) = many.tasks()
    assert [one.generation for one in many.earlier(last, 151)] == list(range(51, 151))
    # A history of before did not say it.
    before = tally(sent(0, 10), over("0-0", "failure", 11), over("0-0", "success", 12))
    assert before.earlier(next(before.tasks()), 2) == []


def test_what_the_attempts_of_a_task_cost_is_told_together_late_ones_included() -> None:
    late = events.HistoryEvent("result_superseded", 14, worker_id="w", task_id=f"{JOB}-0-0", details={"cost": 4})
    nonsense = {"a": -1, "b": True, "c": "7", "d": 2**60}
    made = tally(
        sent(0, 10, branches=3),
        late,
        over("0-0", "failure", 11, code="TRANSIENT_ERROR", error="once", cost=1),
        over("0-0", "success", 12, cost=2),
        late,
        over("0-1", "success", 13),
        *(over("0-2", "success", 15, cost=cost) for cost in nonsense.values()),
    )
    assert [told.cost for told in made.tasks()] == [11, None, None]


def test_a_task_that_ended_as_it_waited_is_that_of_its_last_attempt() -> None:
    waited = replace(over("0-0", "failure", 3, attempts=[["w", 1, 1, 2]]), worker_id=None, attempt_number=0)
    for earlier in ([], [over("0-0", "failure", 2)]):
        (told,) = tally(sent(0, 1), *earlier, waited).tasks()
        assert (told.worker_id, told.attempt, told.ended) == ("w", 1, 3)
    (never,) = tally(sent(0, 1), replace(waited, details={**waited.details, "attempts": []})).tasks()
    assert (never.worker_id, never.attempt) == ("", 0)


def test_what_a_late_attempt_cost_is_told_before_any_has_ended_in_time() -> None:
    late = events.HistoryEvent("result_superseded", 11, worker_id="w", task_id=f"{JOB}-0-0", details={"cost": 4})
    made = tally(sent(0, 10, branches=2), late)
    assert [(told.status, told.cost) for told in made.tasks()] == [("", 4), ("", None)]


def test_states_are_told_with_their_times_and_a_handler_that_is_tried_again_is_one_stay() -> None:
    stays = [("a", 1), ("a", 2), ("b", 5)]
    made = tally(*(events.HistoryEvent("state_started", time, state) for state, time in stays))
    assert made.visits(None) == (Visit("a", 1, 5), Visit("b", 5))
    assert made.visits(9) == (Visit("a", 1, 5), Visit("b", 5, 9))


@pytest.mark.parametrize("place", [Place(), Place(7), Place(7, "", 3), Place(7, "8~x", 3), Place(7, "8~AAAA", 3)])
def test_a_place_is_said_by_its_token(place: Place) -> None:
    assert place_of(place.token(TOKENS), TOKENS) == place


OF_ANOTHER_STORE = Place(7).token(PageTokens(b"x" * 32).of("tree", JOB))


@pytest.mark.parametrize("token", ["x", "-1", "1", "AAAA", "AAA=", "\N{SNOWMAN}", OF_ANOTHER_STORE])
def test_a_token_that_says_none_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        place_of(token, TOKENS)


def test_the_token_of_a_tree_grows_little_with_each_holon_below() -> None:
    token = ""
    for _ in range(64):
        token = Place(99_999, f"9~{token}", 1_000).token(TOKENS)
    assert len(token) < MAX_TOKEN


def node(name: str, parent: str = "", **more: Any) -> Node:
    return replace(Node(name, parent, Kind.JOB, "h", "j", "n", "running"), **more)


def test_a_page_takes_what_fits_and_a_tree_below_has_an_end() -> None:
    page = Page(3)
    assert page.add([node("a")])
    assert not page.add([node("b"), node("c"), node("d")])
    assert page.add([node("b"), node("c")])
    assert (page.left, page.done().token) == (0, "")
    heavy = [node(str(number), state="x" * 1_000) for number in range(990)]
    page = Page(1_000)
    assert page.add(heavy[:1])
    assert not page.add(heavy[1:])
    more = TreePage((node("x"),), "on")
    assert Place(1, "", 5).below(more) == Place(1, "on", 6)
    assert Place(1, "", 5).below(TreePage((), "on")) == Place(1, "on", 6)
    assert Place(1, "", MOST_OF_ONE).below(more) is None
    assert Place(1, "", 5).below(TreePage((node("x"),))) is None


def test_names_below_are_unique_at_any_depth_and_no_longer() -> None:
    below = TreePage((node("a"), node("b", "a")))
    one, two = grafted("t1", below), grafted("t2", below)
    assert len({each.id for each in one + two}) == 4
    assert [each.parent for each in one] == ["t1", one[0].id]
    for _ in range(10):
        one = grafted("t1", TreePage(tuple(one)))
    assert len(one[0].id) == 24


def test_what_is_below_is_reported_where_another_holon_told_it_and_not_of_a_part_here() -> None:
    below = TreePage((node("part"), node("told", "part", reported=True)))
    assert [each.reported for each in grafted("t1", below)] == [False, True]


FULL = Summary(
    "h", "j", "failed", "s", 5, 1, 4, (("success", 2),), (("finished", 1),), (Trouble("C", "m", "h", "n"),),
    (Visit("s", 1, 4),), Digest(3, 1, 3, b"x" * 32), truncated=True, cost=7,
)  # fmt: skip


def test_what_is_told_comes_over_the_wire_as_it_was() -> None:
    assert summary_of(summary_message(FULL)) == FULL
    sent = node(
        "a", worker_id="w", error=Trouble("C", "m", "h", "n"), created_at=1, finished_at=2, offline=True, as_of=3,
        reported=True, digest=FULL.digest, summary=FULL, progress=0.0, attempt=2, state="s", cost=0,
    )  # fmt: skip
    page = worker_pb2.TreePage(nodes=[node_message(sent)], next_page_token="on")
    assert page_of(page, Asked(size=5), "h", frozenset()) == TreePage((sent,), "on")


def test_what_is_told_is_kept_as_it_came_and_read_when_it_is_wanted() -> None:
    assert read_summary(kept_summary(summary_message(FULL), 10_000)) == FULL
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_summary(b"\xff")
    with pytest.raises(InvalidArgument, match="lacks a valid holon_id or job_id"):
        read_summary(b"")
    with pytest.raises(InvalidArgument, match="lacks a valid holon_id or job_id"):
        kept_summary(summary_message(replace(FULL, job_id="no id")), 10_000)


def test_of_what_is_longer_than_may_be_kept_as_much_is_kept_as_may_be() -> None:
    states = tuple(Visit(f"state-{number}", number, number) for number in range(500))
    message = summary_message(replace(FULL, states=states, truncated=False))
    kept = kept_summary(message, 5_000)
    assert len(kept) <= 5_000
    told = read_summary(kept)
    assert 0 < len(told.states) < 500
    assert told == replace(FULL, states=states[-len(told.states) :], truncated=True)
    with pytest.raises(InvalidArgument, match="over the limit of 65536"):
        kept_summary(summary_message(replace(FULL, state="s" * 70_000)), 5_000)


def test_what_is_too_long_to_be_told_loses_its_oldest_first_and_says_so() -> None:
    told = replace(FULL, truncated=False)
    steps = []
    while (told.states, told.errors, told.tasks) != ((), (), ()):
        told = shorter(told)
        steps.append((len(told.states), len(told.errors), len(told.tasks)))
        assert told.truncated
    assert steps == [(0, 1, 1), (0, 0, 1), (0, 0, 0)]
    # Each time is another message: a long one is short after a few.
    many = tuple((str(number), 1) for number in range(1_000))
    told = replace(FULL, states=(), errors=(), digest=None, tasks=many, jobs=many[:10])
    for _ in range(10):
        told = shorter(told)
    assert (told.tasks, told.jobs) == ((), ())


def shown(name: str, parent: str = "", kind: str = "job", **more: Any) -> TreeNode:
    plain = TreeNode(
        name, parent, kind, "here", "j1", "", name, "running", "", None, 0, "", None, None, None, False, None, False,
        None, None, None,
    )  # fmt: skip
    return dataclasses.replace(plain, **more)


def test_a_tree_is_drawn_with_where_each_part_runs() -> None:
    nodes = [
        shown("top", current_state="start", progress=40.0),
        shown("work", "top", "task", task_id="j1-0-0", worker_id="w1", attempt=2),
        shown("census", "top", "task", task_id="j1-0-1", worker_id="child", generation=2),
        shown("census.1", "census", "task", task_id="j1-0-1", worker_id="child", status="failure", generation=1),
        shown(
            "below", "census", holon_id="there", offline=True, as_of=0.0, status="failed",
            error=TreeError("C", "line\nbreak", "there", "n"), digest=HistoryDigest(3, 1, 3, "ab", ()),
            summary=JobSummary({"open": 2}, {"finished": 1}, (), (), False, 3), cost=3,
        ),
        shown("leaf", "below", "task", task_id="j2-0-0", holon_id="there"),
        # Of a circle, or of what was not shown.
        shown("lost", "nowhere", "task", task_id="x"),
        shown("top", "leaf"),
    ]  # fmt: skip
    lines = list(drawn(nodes))
    as_of = lines[4].partition("as of ")[2]
    assert lines == [
        "job top  j1  running  in start  40%",
        "├─ task work  #0-0  running  attempt 2  by w1",
        "└─ task census  #0-1  running  generation 2  by child",
        "   ├─ task census.1  #0-1  failure  generation 1  by child",
        f"   └─ job below  j1  failed  cost 3  at holon there  (offline, as of {as_of}",
        "      │  tasks: 2 open; jobs below: 1 finished",
        "      │  C: line break",
        "      │  history 3:ab",
        "      └─ task leaf  #0-0  running",
        "task lost  #x  running",
    ]
    assert list(drawn([])) == []
    assert dataclasses.asdict(nodes[0])["node_id"] == "top"
