"""Jobs as parts of others: what is decided of them, without any node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holon.context import ActionFactory, PartItem, TaskItem
from holon.domain import asking, ends, fanning, integrity
from holon.domain.blueprint import Blueprint
from holon.domain.branches import branch_result
from holon.domain.causes import cause, causes_in, with_causes
from holon.domain.change import Change
from holon.domain.children import RUN_BLUEPRINT, is_nodes_own, part_of
from holon.domain.decisions import AskedPart, AskedTask, DispatchParallel, RunBlueprint
from holon.domain.events import BranchesDone, CancelRequested, HistoryEvent, TaskEnded
from holon.domain.fleet import is_name
from holon.domain.job import Job, JobError, Status, Waiting
from holon.domain.reactions import react
from holon.domain.tally import Tally
from holon.domain.task import Outcome, TaskError
from holon.domain.value import replace
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.engine.loader import examine
from holon.errors import BlueprintError
from tests.unit.machine import ANN, NOW, after, decided, ended, error_of, job, state, types

ASKED = RunBlueprint(AskedPart("part", {"n": 1}, child_job_id="0-c"), {"success": "end", "failure": "mend"})


def above(**transitions: str) -> Job:
    """A job that waits for its part."""
    return job(status=Status.WAITING_FOR_CHILD, step=5, waiting=Waiting(4, transitions), parts=("0-c",))


# What is asked for -----------------------------------------------------------------------------------------------


def test_a_part_is_one_task_that_no_worker_can_offer_and_no_blueprint_ask_for_otherwise() -> None:
    change = decided(ASKED)
    assert (change.job.status, change.job.parts) == (Status.WAITING_FOR_CHILD, ("0-c",))
    assert change.job.waiting == Waiting(4, {"success": "end", "failure": "mend"})
    (spec,) = change.tasks
    assert (spec.skill, part_of(spec.params).job_id, part_of(spec.params).initial_data) == (
        RUN_BLUEPRINT,
        "0-c",
        {"n": 1},
    )
    assert not is_name(RUN_BLUEPRINT)
    with pytest.raises(BlueprintError, match="which no worker can offer"):
        ActionFactory().dispatch_task(RUN_BLUEPRINT, {}, {})
    with pytest.raises(BlueprintError, match="which no worker can offer"):
        ActionFactory().dispatch_parallel([{"task_type": RUN_BLUEPRINT, "params": {}}], "end")


def test_its_history_names_the_job_and_what_it_runs() -> None:
    change = decided(ASKED)
    assert types(change) == ["state_finished", "sub_blueprint_started"]
    line = change.history[-1]
    assert (line.task_id, line.details["child_job_id"], line.details["blueprint"]) == ("0-a-4-0", "0-c", "part")


def test_neither_times_nor_retries_of_the_job_above_bound_the_wait_but_its_deadline() -> None:
    (spec,) = decided(ASKED, job(dispatch_timeout=7, result_timeout=8)).tasks
    assert (spec.dispatch_timeout, spec.result_timeout, spec.retry.max_retries) == (None, None, 0)
    assert spec.execution_timeout > 9 * 366 * 86_400_000
    (spec,) = decided(ASKED, job(deadline=NOW + 500)).tasks
    assert spec.result_timeout == 500


def test_what_the_job_above_may_use_keeps_no_part_from_beginning_that_keeps_to_it() -> None:
    assert decided(ASKED, job(allowed_skills=())).job.status is Status.WAITING_FOR_CHILD


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("",), "blueprint_name is ''"),
        (("part", [1]), "initial_data is a list"),
        (("part", {"n": float("nan")}), "initial_data"),
        (("part", {}, ["end"]), "transitions is a list"),
        (("part", {}, {"success": ""}), "the state for 'success'"),
        (("part", {}, {}, 0), "dispatch_timeout is 0"),
        (("part", {}, {}, None, "1"), "result_timeout is '1'"),
    ],
)
def test_what_cannot_be_asked_for_is_said_at_the_call(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(BlueprintError, match="run_blueprint: ") as refused:
        ActionFactory().run_blueprint(*arguments)
    assert says in refused.value.message


def test_running_a_blueprint_is_a_decision_like_any_other() -> None:
    actions = ActionFactory()
    actions.run_blueprint("part", {"n": 1}, {"success": "end"}, 3, 4.5)
    assert actions.decision == RunBlueprint(AskedPart("part", {"n": 1}, 3.0, 4.5), {"success": "end"})
    with pytest.raises(BlueprintError, match="already called run_blueprint"):
        actions.go_to("end")
    assert asking.ways("x", None) == {}


# Several at once --------------------------------------------------------------------------------------------------

MANY = DispatchParallel(
    (AskedPart("part", {"n": 1}, child_job_id="0-c"), AskedTask("t", {}), AskedPart("part", {}, child_job_id="0-d")),
    "end",
    parts=2,
)


def test_parts_are_branches_beside_tasks_and_the_history_names_each() -> None:
    change = decided(MANY, job(allowed_skills=("t",), deadline=NOW + 500))
    assert (change.job.status, change.job.parts) == (Status.WAITING_FOR_PARALLEL, ("0-c", "0-d"))
    assert [(one.index, one.skill, one.branch) for one in change.tasks] == [
        (0, RUN_BLUEPRINT, True),
        (1, "t", True),
        (2, RUN_BLUEPRINT, True),
    ]
    assert (change.tasks[2].retry.max_retries, change.tasks[2].result_timeout) == (0, 500)
    assert types(change) == ["state_finished", "task_dispatched", "sub_blueprint_started", "sub_blueprint_started"]
    assert [line.task_id for line in change.history[2:]] == ["0-a-4-0", "0-a-4-2"]
    assert decided(MANY, job(allowed_skills=())).job.error is not None


def test_a_fan_out_without_parts_leaves_none_that_clean_up_to_a_later_cancel() -> None:
    cleaning = job(cancelling=True, parts=("0-c",))
    assert decided(DispatchParallel((AskedTask("t", {}),), "end"), cleaning).job.parts == ()


@pytest.mark.parametrize(("failed", "cancels"), [(0, ()), (1, ("0-c", "0-d"))])
def test_once_all_have_ended_the_job_has_no_parts_and_those_that_were_given_up_end(
    failed: int, cancels: tuple[str, ...]
) -> None:
    waits = replace(decided(MANY).job, step=5)
    change = after(waits, BranchesDone(4, failed))
    assert (change.job.current_state, change.job.parts, change.cancels) == ("end", (), cancels)
    assert after(waits, ANN).cancels == after(waits, BranchesDone(4, 1, fail_fast=True)).cancels == ("0-c", "0-d")


def test_an_aggregator_sees_no_worker_where_a_node_has_done_it() -> None:
    seen = branch_result("0-a", "0-a-4-0", Outcome("success", worker_id="@node"), {"n": 1}, None)
    assert (seen["job_id"], seen["worker_id"], seen["data"]) == ("0-a", None, {"n": 1})
    waits = replace(decided(MANY).job, step=5)
    failed = "0-a-4-0", Outcome("cancelled", worker_id="@node")
    change = react(waits, BranchesDone(4, 1, fail_fast=True), {}, None, NOW, failed)
    assert change is not None
    assert error_of(change).message.endswith("fail_fast is set: its child job ended as cancelled")


def test_a_tally_knows_which_branches_are_parts() -> None:
    tally = Tally("0-a")
    tally.take_all(list(enumerate(decided(MANY).history, 1)))
    assert [(told.id, told.skill, told.child_job_id) for told in tally.tasks()] == [
        ("0-a-4-0", RUN_BLUEPRINT, "0-c"),
        ("0-a-4-1", "", ""),
        ("0-a-4-2", RUN_BLUEPRINT, "0-d"),
    ]
    assert [told.child_job_id for told in tally.tasks(2)] == ["0-d"]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"blueprint_name": ""}, "task 1: blueprint_name is ''"),
        ({"blueprint_name": "part", "params": {}}, "task 1 has the unknown key 'params'; use blueprint_name"),
        ({"blueprint_name": "part", "initial_data": 1}, "task 1: initial_data is a int"),
        ({"blueprint_name": "part", "result_timeout": 0}, "task 1: result_timeout is 0"),
        ({"blueprint_name": "part", "max_cost": -1}, "task 1: max_cost is -1"),
    ],
)
def test_an_item_that_cannot_be_a_part_is_said_at_the_call(item: Any, says: str) -> None:
    with pytest.raises(BlueprintError, match="dispatch_parallel: ") as refused:
        ActionFactory().dispatch_parallel([{"task_type": "t"}, item], "end")
    assert (says in refused.value.message, refused.value.code) == (True, "ACTION_INVALID")


def test_parts_among_tasks_are_read_and_counted_up_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    actions, task = ActionFactory(), TaskItem(task_type="t", params={})
    part: PartItem = {"blueprint_name": "part", "initial_data": {"n": 1}, "dispatch_timeout": 2, "max_cost": 3}
    actions.dispatch_parallel([task, part, task], "end")
    asked = AskedTask("t", {}), AskedPart("part", {"n": 1}, 2.0, None, 3), AskedTask("t", {})
    assert actions.decision == DispatchParallel(asked, "end", parts=1)
    monkeypatch.setattr(fanning, "MAX_PARTS", 1)
    with pytest.raises(BlueprintError, match="2 of its items run blueprints, over the limit of 1"):
        ActionFactory().dispatch_parallel([part, task, part], "end")


# How it ends -----------------------------------------------------------------------------------------------------


def test_the_job_above_goes_on_with_the_result_and_has_no_part_any_more() -> None:
    change = after(above(success="end"), ended(), {"n": 2})
    assert (change.job.current_state, change.job.state_history, change.job.parts) == ("end", {"n": 2}, ())
    assert change.cancels == ()


@pytest.mark.parametrize(
    ("code", "status"), [("CHILD_FAILED", Status.FAILED), ("CHILD_QUARANTINED", Status.QUARANTINED)]
)
def test_a_part_that_did_not_end_well_leads_to_failure_or_ends_the_job_above(code: str, status: Status) -> None:
    change = after(above(success="end"), ended("failure", code))
    assert (change.job.status, error_of(change).code, change.cancels) == (status, code, ())
    assert after(above(failure="mend"), ended("failure", code)).job.current_state == "mend"


def test_a_part_that_was_cancelled_cancels_the_job_above_unless_that_knows_what_to_do() -> None:
    change = after(above(), ended("cancelled"))
    assert (change.job.status, error_of(change).message) == (Status.CANCELLED, "its child job 0-c was cancelled")
    change = after(above(cancelled="end"), ended("cancelled"))
    assert (change.job.current_state, change.job.cancelling) == ("end", False)


def test_an_end_that_is_not_the_part_s_own_ends_that_too() -> None:
    assert after(above(timeout="late"), ended("failure", "RESULT_TIMEOUT")).cancels == ("0-c",)
    assert after(above(), ended("failure", "RESULT_TIMEOUT")).cancels == ("0-c",)
    late = after(replace(above(), deadline=NOW), ended("failure", "RESULT_TIMEOUT"))
    assert (late.job.status, late.cancels) == (Status.CANCELLED, ("0-c",))


def test_a_cancel_ends_the_part_and_a_second_one_its_clean_up() -> None:
    first = after(above(), ANN)
    assert (first.job.status, first.cancels, first.insists) == (Status.CANCELLED, ("0-c",), False)
    cleans = after(above(cancelled="clean_up"), ANN)
    assert (cleans.job.current_state, cleans.cancels, cleans.insists) == ("clean_up", ("0-c",), False)
    second = after(cleans.job, ANN)
    assert (second.job.status, second.cancels, second.insists) == (Status.CANCELLED, ("0-c",), True)
    assert after(job(status=Status.WAITING_FOR_WORKER, waiting=Waiting(4, {})), CancelRequested("ann")).cancels == ()


def over(status: Status = Status.FINISHED, **fields: Any) -> Job:
    return replace(job(status=status, current_state="failed", **fields), id="0-c", blueprint="part")


END = state("failed", is_end=True, outcome="finished", status="partly")


def test_the_outcome_of_an_end_counts_and_not_its_name() -> None:
    good = ends.part_ended(over(result={"n": 1}), None, "h", out_of_time=False)
    assert (good.status, good.data) == ("success", {"n": 1})
    partly = ends.part_ended(over(result=[1]), END, "h", out_of_time=False)
    assert (partly.status, partly.data) == ("partly", {"result": [1]})
    assert ends.part_ended(over(Status.CANCELLED), END, "h", out_of_time=False).status == "cancelled"
    late = ends.part_ended(over(Status.CANCELLED), END, "h", out_of_time=True)
    assert (late.status, late.code) == ("failure", "DEADLINE_EXCEEDED")


def test_what_lies_behind_a_failure_is_told_level_by_level_nearest_first() -> None:
    below = with_causes([cause("TRANSIENT_ERROR", "no luck", "", "leaf")], None)
    failed = over(Status.FAILED, error=JobError("CHILD_FAILED", "it broke", below))
    told = ends.part_ended(failed, END, "h", out_of_time=False)
    assert (told.code, told.message) == ("CHILD_FAILED", "job 0-c of blueprint part failed: it broke")
    causes, beside = causes_in(told.details)
    assert ([one["code"] for one in causes], beside) == (["CHILD_FAILED", "TRANSIENT_ERROR"], None)
    said = over(Status.FAILED, error=JobError("ENDED_FAILED", "ended in state 'failed'", {"n": 1}))
    assert causes_in(ends.part_ended(said, END, "h", out_of_time=False).details)[1] == {"n": 1}
    assert causes_in({"causes": [1]}) == ((), {"causes": [1]})


# What is known of it ---------------------------------------------------------------------------------------------


def test_a_tally_knows_which_job_did_a_task() -> None:
    tally = Tally("0-a")
    line = decided(ASKED).history[-1]
    tally.take_all([(1, line)])
    (told,) = tally.tasks()
    assert (told.id, told.skill, told.child_job_id) == ("0-a-4-0", RUN_BLUEPRINT, "0-c")
    done = HistoryEvent("task_finished", NOW, task_id="0-a-4-0", details={"status": "success", "skill": RUN_BLUEPRINT})
    tally.take_all([(2, done)])
    (told,) = tally.tasks()
    assert (told.status, told.child_job_id) == ("success", "0-c")


def runs(name: str, *others: str) -> Blueprint:
    bp = Blueprint(name)

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.run_blueprint("second", {}, {"success": "end"})

    @bp.handler(is_end=True)
    async def end() -> None: ...

    return bp


async def _works(actions: ActionFactory) -> None:
    actions.dispatch_parallel([], "end")


async def _asks(actions: ActionFactory) -> None:
    actions.dispatch_task("t", {}, {"success": "end"})


def second(handler: Callable[..., Any]) -> Blueprint:
    bp = Blueprint("second")
    bp.handler("start", is_start=True)(handler)
    bp.handler("end", is_end=True)(_works)
    return bp


def test_a_name_that_no_blueprint_has_is_a_problem_with_its_line() -> None:
    first = runs("first")
    (problem,) = integrity.missing(first, {"first": first}.get)
    assert (problem.severity, problem.state) == ("error", "begin")
    assert "runs 'second', but no blueprint of this name is loaded" in problem.message
    assert "test_parts.py:" in problem.message
    assert integrity.check(first) == []
    assert integrity.missing(first, {"second": second(_asks)}.get) == []


def test_a_dangling_transition_of_a_part_is_an_error_as_of_a_task() -> None:
    bp = Blueprint("dangling")

    @bp.handler(is_start=True)
    async def begin(actions: ActionFactory) -> None:
        actions.run_blueprint("second", {}, {"success": "end", "failure": "gone"})

    bp.handler("end", is_end=True)(_works)
    assert ["'gone', which is not a state" in one.message for one in integrity.check(bp)] == [True]


def test_whom_a_blueprint_needs_is_known_through_what_it_runs() -> None:
    first = runs("first")
    assert integrity.skills_of(first, {"second": second(_asks)}.get) == {"t"}
    assert integrity.skills_of(first, {"second": runs("second")}.get) == frozenset()
    assert integrity.is_parallel(first, {"second": second(_works)}.get)


def test_a_node_s_own_sessions_have_ids_that_no_worker_can_have() -> None:
    assert is_nodes_own("@node")
    assert not is_nodes_own("node")


def test_a_change_cancels_nothing_by_itself() -> None:
    assert (Change(job()).cancels, Change(job()).insists) == ((), False)
    outcome = Outcome("failure", error=TaskError("CHILD_FAILED", "no"))
    assert after(above(failure="mend"), TaskEnded(4, "0-a-4-0", outcome)).cancels == ()


def test_a_node_does_not_take_blueprints_that_run_what_is_not_there() -> None:
    blueprints = Blueprints(Contracts())
    blueprints.register(runs("first"))
    with pytest.raises(BlueprintError, match=r"blueprint 'first': state 'begin' .* runs 'second'"):
        blueprints.check_runs()
    blueprints.register(second(_asks))
    blueprints.check_runs()


def test_files_that_run_what_is_in_none_of_them_are_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "first.py"
    file.write_text(
        "from holon import Blueprint\n"
        "first = Blueprint('first')\n"
        "@first.handler('begin', is_start=True)\n"
        "async def begin(actions):\n"
        "    actions.run_blueprint('second', {}, {'success': 'end'})\n"
        "@first.handler('end', is_end=True)\n"
        "async def end(): ...\n"
    )
    report = examine([file])
    (warning,) = report.warnings
    assert report.errors == ()
    assert "first.py:5): run_blueprint runs 'second', but no blueprint of this name is loaded here" in str(warning)
