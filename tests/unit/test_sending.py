"""Events: how a blueprint declares them, and what a handler may send beside its decision."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest

from holon.context import ActionFactory
from holon.domain.blueprint import Blueprint
from holon.domain.decisions import GoTo
from holon.domain.event_types import MAX_EVENT_BYTES
from holon.domain.events import HistoryEvent
from holon.domain.integrity import check
from holon.domain.job import Job, Status
from holon.domain.sending import MAX_EVENTS, MAX_EVENTS_BYTES, SentEvent
from holon.engine.blueprints import Blueprints
from holon.engine.contracts import Contracts
from holon.engine.payloads import decode
from holon.engine.sent_events import SentEvents
from holon.engine.told_above import event_above
from holon.errors import BlueprintError


@dataclass
class Paid:
    amount: int


JOB = Job("0-a", "one", "ann", {}, "start", Status.RUNNING)


def blueprint(**events: Any) -> Blueprint:
    one = Blueprint("one")

    @one.handler(is_start=True, is_end=True)
    async def start() -> None: ...

    for name, schema in events.items():
        one.event(name, schema)
    return one


def lines(one: Blueprint, *sent: tuple[str, Any], strict: bool = True) -> list[tuple[str, Any]]:
    contracts = Contracts()
    blueprints = Blueprints(contracts)
    blueprints.register(one)
    actions = ActionFactory()
    for name, payload in sent:
        actions.send_event(name, payload)
    told = SentEvents(blueprints, contracts, strict=strict).lines(JOB, actions.events, 7)
    assert all((line.time, line.state) == (7, "start") for line in told)
    return [(line.type, line.details) for line in told]


def test_events_are_sent_beside_the_one_decision_in_their_order_and_as_they_were() -> None:
    actions, payload = ActionFactory(), {"n": [1]}
    actions.send_event("a", payload)
    actions.go_to("end")
    payload["n"].append(2)
    actions.send_event("b")
    assert actions.decision == GoTo("end")
    assert actions.events == (SentEvent("a", {"n": [1]}, 9), SentEvent("b", None, 4))


@pytest.mark.parametrize(
    ("name", "payload", "why"),
    [
        ("", None, "its type is ''"),
        (None, None, "its type is None"),
        ("a\nb", None, "printable"),
        ("x" * 129, None, "at most 128"),
        ("\ud800", None, "UTF-8"),
        ("approval_requested", {}, "which is reserved for what a job waits for"),
        ("approval_resolved", {}, "use another name"),
        ("approval_timed_out", {}, "use another name"),
        ("a", {1}, "payload is a set"),
        ("a", {"n": float("nan")}, r"payload\.n is nan"),
        ("a", {"n": 2**64}, r"payload\.n is an integer of over 64 bits"),
        ("a", {1: 2}, "payload has the key 1"),
        ("a", Paid(1), "payload is a Paid"),
        ("a", "\ud800", "payload has text that cannot be written as UTF-8"),
        ("a", "x" * MAX_EVENTS_BYTES, "65548 bytes together, over the limit of 65536"),
    ],
)
def test_what_cannot_be_an_event_is_refused_at_the_call_and_is_not_sent(name: Any, payload: Any, why: str) -> None:
    actions = ActionFactory()
    with pytest.raises(BlueprintError, match=f"send_event: .*{why}") as refused:
        actions.send_event(name, payload)
    assert (refused.value.code, actions.events) == ("ACTION_INVALID", ())


def nested(depth: int) -> list[Any]:
    return [] if depth == 1 else [nested(depth - 1)]


@pytest.mark.parametrize("most", [nested(63), {"n": nested(63)}, "x" * (MAX_EVENT_BYTES - 12), [1e16] * 13_000])
def test_whatever_a_handler_may_send_is_told_above_as_it_is(most: Any) -> None:
    actions = ActionFactory()
    actions.send_event("a", most)
    [(kind, details)] = lines(blueprint(), ("a", most))
    told = event_above("t", "l", "j", 1, HistoryEvent(kind, 0, details=details), "h")
    assert told is not None
    assert decode(told.payload, "payload") == (most if isinstance(most, dict) else {"value": most})
    assert len(told.payload) == actions.events[0].size <= MAX_EVENT_BYTES


@pytest.mark.parametrize("payload", [nested(64), {"n": nested(64)}])
def test_a_payload_is_nested_no_deeper_than_what_is_read_above(payload: Any) -> None:
    with pytest.raises(BlueprintError, match="nested over 64 levels deep"):
        ActionFactory().send_event("a", payload)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({"n": nested(64)}, "nested deeper than 64"),
        ({"n": "x" * MAX_EVENT_BYTES}, "65544 bytes of JSON, over the limit"),
    ],
)
def test_what_nobody_above_could_read_is_left_out_there_and_that_is_said(payload: Any, why: str) -> None:
    line = HistoryEvent("worker_event:a", 0, "start", details={"payload": payload})
    told = event_above("t", "l", "j", 1, line, "h")
    assert told is not None
    assert why in decode(told.payload, "payload")["payload_left_out"]


def test_one_run_sends_so_many_events_and_so_much_and_no_more() -> None:
    actions = ActionFactory()
    for n in range(MAX_EVENTS):
        actions.send_event("a", n)
    with pytest.raises(BlueprintError, match="has sent 100 events"):
        actions.send_event("a")
    actions = ActionFactory()
    for _ in range(2):
        actions.send_event("a", "x" * (MAX_EVENTS_BYTES // 2 - 12))
    with pytest.raises(BlueprintError, match="together, over the limit"):
        actions.send_event("a", 1)
    assert len(actions.events) == 2


def test_c34_what_is_as_declared_is_a_line_of_history_with_its_payload() -> None:
    one = blueprint(paid=Paid, count=int, free=None, shape={"type": "object", "required": ["x"]})
    sent = [("paid", {"amount": 3}), ("count", 5), ("free", [1, None]), ("shape", {"x": 1, "y": 2})]
    assert lines(one, *sent) == [(f"blueprint_event:{name}", {"payload": payload}) for name, payload in sent]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (
            ("paid", {"amount": "secret"}),
            "event 'paid' of blueprint 'one' does not match its declaration: payload.amount ",
        ),
        (("paid", {}), "payload.amount is required"),
        (("paid", {"amount": 1, "more": 2}), "payload.more is not allowed"),
        (("paid", None), "does not match its declaration: payload "),
        (("payd", {}), r"event 'payd' is not declared by blueprint 'one' \(paid\); declare it by event\('payd'"),
    ],
)
def test_c34_what_is_not_as_declared_fails_its_handler_and_no_value_is_told(event: Any, why: str) -> None:
    with pytest.raises(BlueprintError, match=why) as refused:
        lines(blueprint(paid=Paid), ("paid", {"amount": 1}), event)
    assert refused.value.code == "EVENT_INVALID"
    assert "secret" not in str(refused.value)


def test_a_node_that_is_not_strict_leaves_out_a_wrong_payload_alone_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = [("paid", {"amount": 1}), ("paid", {}), ("other", 2)]
    with caplog.at_level(logging.WARNING):
        told = lines(blueprint(paid=Paid), *sent, strict=False)
    why = "event 'paid' of blueprint 'one' does not match its declaration: payload.amount is required"
    assert told == [
        ("blueprint_event:paid", {"payload": {"amount": 1}}),
        ("event_refused", {"event": "paid", "error": why}),
        ("blueprint_event:other", {"payload": 2}),
    ]
    assert [record.getMessage() for record in caplog.records] == [f"job 0-a: state start: the event is left out: {why}"]


def test_a_blueprint_that_declares_no_event_may_send_any() -> None:
    assert lines(blueprint(), ("a", 1)) == [("blueprint_event:a", {"payload": 1})]


def test_a_declaration_may_stand_above_something_and_changes_nothing() -> None:
    one = Blueprint("one")

    @one.event("paid", Paid)
    def nothing() -> int:
        return 5

    assert (nothing(), list(one.events)) == (5, ["paid"])


@pytest.mark.parametrize(
    ("name", "schema", "why"),
    [
        ("paid", int, "event 'paid' is already declared"),
        ("", int, "its type is ''"),
        ("a\0", int, "printable"),
        ("other", bytes, "event 'other': .*bytes"),
        ("other", "int", "event 'other': .*'int'"),
    ],
)
def test_what_cannot_be_declared_is_refused_where_it_is_written(name: str, schema: Any, why: str) -> None:
    one = blueprint(paid=Paid)
    with pytest.raises(ValueError, match=f"^blueprint 'one': .*{why}"):
        one.event(name, schema)
    assert list(one.events) == ["paid"]


def test_a_schema_that_cannot_be_used_keeps_its_blueprint_from_being_registered() -> None:
    with pytest.raises(BlueprintError, match="blueprint 'one': event 'paid': "):
        lines(blueprint(paid={"type": "nonsense"}))


def test_an_event_that_is_sent_and_not_declared_is_a_warning_with_its_line() -> None:
    one = Blueprint("one")

    @one.handler(is_start=True, is_end=True)
    async def start(context: Any, actions: Any, kind: str = "x") -> None:
        actions.send_event("paid", {})
        context.actions.send_event(event_type="payd", payload={})
        actions.send_event(kind)

    assert check(one) == []
    one.event("paid")
    (problem,) = check(one)
    line = start.__code__.co_firstlineno + 3
    assert (problem.severity, problem.state) == ("warning", "start")
    assert problem.message.startswith(f"state 'start' ({__file__}:{line}): send_event sends 'payd', but blueprint")
