"""How a handler decides to ask a person, or to pause."""

from __future__ import annotations

from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.decisions import AwaitApproval, Sleep
from holon.errors import BlueprintError


def test_await_human_approval_asks_what_and_how_to_go_on() -> None:
    actions = ActionFactory()
    actions.await_human_approval("chat", "Publish?", {"yes": "a", "no": "b", "timeout": "c"}, timeout_seconds=5)
    assert actions.decision == AwaitApproval("chat", "Publish?", {"yes": "a", "no": "b", "timeout": "c"}, 5.0)
    with pytest.raises(BlueprintError, match="already called await_human_approval, and now calls sleep"):
        actions.sleep(1, "a")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("", "?", {"yes": "a"}), "integration is ''"),
        (("chat", None, {"yes": "a"}), "message is None"),
        (("chat", "?" * 4_097, {"yes": "a"}), "message has 4097 bytes, over the limit of 4096"),
        (("c" * 129, "?", {"yes": "a"}), "integration has 129 bytes"),
        (("chat", "?", None), "has 0 decisions"),
        (("chat", "?", ["yes"]), "transitions is a list"),
        (("chat", "?", {"cancelled": "a"}), "cancelled and timeout do not count"),
        (("chat", "?", {str(n): "a" for n in range(65)}), "has 65 decisions, and must have 1 to 64"),
        (("chat", "?", {"yes": ""}), "the state for 'yes' is ''"),
        (("chat", "?", {"y" * 129: "a"}), "give 128 printable characters at most"),
        (("chat", "?", {"y\n": "a"}), "printable"),
        (("chat", "?", {"yes": "a", "timeout": "b"}), "give timeout_seconds too"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_at_the_call(given: Any, why: str) -> None:
    with pytest.raises(BlueprintError, match=why) as caught:
        ActionFactory().await_human_approval(*given)
    assert caught.value.code == "ACTION_INVALID"


@pytest.mark.parametrize(
    ("transitions", "why"),
    [
        ({}, "has 0 signals"),
        ({"cancelled": "a"}, "cancelled and timeout do not count"),
        ({str(n): "a" for n in range(65)}, "has 65 signals, and must have 1 to 64"),
        *(({name: "a"}, "give at most 128 characters, without control") for name in ("x" * 129, "a\n", "\x9b")),
        ({"paid": "a", "timeout": "b"}, "give timeout_seconds too"),
    ],
)
def test_a_wait_for_what_is_no_signal_is_refused_at_the_call(transitions: dict[str, str], why: str) -> None:
    with pytest.raises(BlueprintError, match=why) as caught:
        ActionFactory().await_signal(transitions)
    assert caught.value.code == "ACTION_INVALID"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", True, 1e9])
def test_a_question_waits_for_a_time_above_0_or_for_ever(seconds: Any) -> None:
    with pytest.raises(BlueprintError, match="timeout_seconds is"):
        ActionFactory().await_human_approval("chat", "?", {"yes": "a"}, timeout_seconds=seconds)


@pytest.mark.parametrize("seconds", [0, 1, 0.25, 3e8])
def test_sleep_takes_any_time_up_to_ten_years(seconds: float) -> None:
    actions = ActionFactory()
    actions.sleep(seconds, "a")
    assert actions.decision == Sleep(float(seconds), "a")


@pytest.mark.parametrize("seconds", [-0.001, float("nan"), float("inf"), None, "1", True, 3.2e8])
def test_sleep_refuses_what_is_no_such_time(seconds: Any) -> None:
    with pytest.raises(BlueprintError, match="seconds is"):
        ActionFactory().sleep(seconds, "a")
    with pytest.raises(BlueprintError, match="state is ''"):
        ActionFactory().sleep(1, "")


@pytest.mark.parametrize("told", ["approval_requested", "approval_resolved", "approval_timed_out"])
def test_no_job_goes_on_by_what_is_told_of_questions_below(told: str) -> None:
    with pytest.raises(BlueprintError, match="with which jobs below report what they wait for"):
        ActionFactory().dispatch_task("a", {}, {"success": "end"}, event_transitions={told: "end"})
