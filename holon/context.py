"""What a handler is given: the `actions` by which it decides, and the `context`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from holon.domain.absent import keeping, no_attribute
from holon.domain.asking import (
    NO_TIMEOUTS,
    asked_part,
    asked_task,
    pause,
    question,
    signal,
    text,
    ways,
    ways_of_events,
)
from holon.domain.client import DEFAULT, NO_PLAN
from holon.domain.data_stores import DataStores as DataStores  # for hints of handlers
from holon.domain.decisions import (
    AwaitApproval,
    AwaitSignal,
    Decision,
    DispatchParallel,
    DispatchTask,
    GoTo,
    RunBlueprint,
    Sleep,
)
from holon.domain.fanning import Item, fan_out
from holon.domain.fanning import PartItem as PartItem  # those are for hints of handlers
from holon.domain.fanning import TaskItem as TaskItem
from holon.domain.fanning import TypeItem as TypeItem
from holon.domain.sending import SentEvent, sent_event
from holon.domain.strategies import DispatchStrategy as DispatchStrategy
from holon.domain.surface import ACTIONS
from holon.domain.task import ANY_STATUS
from holon.domain.texts import nearest
from holon.errors import BlueprintError
from holon.task_files import TaskFiles as TaskFiles

# What a handler called to decide so.
_ACTIONS: dict[type[Decision], str] = {
    GoTo: "go_to",
    DispatchTask: "dispatch_task",
    DispatchParallel: "dispatch_parallel",
    AwaitApproval: "await_human_approval",
    AwaitSignal: "await_signal",
    Sleep: "sleep",
    RunBlueprint: "run_blueprint",
}
_NOTHING_SAID = (None,) * 5


class ActionFactory:
    """The decision of one run of a handler: exactly one call of one method; `send_event` may be called beside it.

    Every method checks what it is given at once, and raises BlueprintError: ACTION_INVALID for what cannot be, and
    SECOND_DECISION for a call after another. Nothing happens before the handler returns.
    """

    def __init__(self) -> None:
        self._decision: Decision | None = None
        self._second: BlueprintError | None = None
        self._called_at: tuple[str, int] | None = None
        self._events: tuple[SentEvent, ...] = ()

    def __repr__(self) -> str:
        return f"<ActionFactory {self._decision!r}>"

    if not TYPE_CHECKING:
        # Type checkers know what there is.
        def __getattr__(self, name: str) -> Any:
            near = nearest(name, ACTIONS)
            raise no_attribute(self, name, keeping(name) or (f"did you mean {near!r}?" if near else ""))

    @property
    def decision(self) -> Decision | None:
        """What was decided; None so far."""
        return self._decision

    @property
    def second(self) -> BlueprintError | None:
        """What the call of a second decision raised, though the handler may have caught it; None: there was none."""
        return self._second

    @property
    def called_at(self) -> tuple[str, int] | None:
        """The file and the line of the last call that decided, or would have; None so far."""
        return self._called_at

    def go_to(self, state: str) -> None:
        """Go on in another state."""
        self._decide(GoTo(text("go_to", "state", state)))

    def dispatch_task(
        self,
        task_type: str,
        params: Mapping[str, Any] | None = None,
        transitions: Mapping[str, str] | None = None,
        *,
        priority: float | None = None,
        timeout_seconds: float | None = None,
        dispatch_timeout_seconds: float | None = None,
        result_timeout_seconds: float | None = None,
        max_retries: int | None = None,
        on_lost: float | Literal["wait"] | None = None,
        allowed_skills: Iterable[str] | None = None,
        max_cost: int | None = None,
        skill_version: str | None = None,
        skill_type: str | None = None,
        resource_requirements: Mapping[str, Any] | None = None,
        dispatch_strategy: DispatchStrategy | None = None,
        resource_hint: str | None = None,
        event_transitions: Mapping[str, str] | None = None,
    ) -> None:
        """Give one task to a worker, and go on by the status it answers.

        Arguments:
            task_type: the skill that the worker needs.
            params: what the worker is given: JSON with text as keys.
            transitions: the next state for each status, such as `{"success": "publish", "failure": "clean_up"}`.
            priority: higher goes first among the tasks that wait; None: what the job was created with, or 0.
            timeout_seconds: the longest the task may run once a worker has it; None for the node's setting.
            dispatch_timeout_seconds: the longest it may wait for a worker; None for the job's value.
            result_timeout_seconds: the longest from now to its result; None for the job's value.
            max_retries: how often it is tried again after a failure that may pass, 0 or more; None for the node's
                setting. A task whose worker was lost runs again in any case.
            on_lost: what becomes of it when nothing is heard of who has it: so many seconds after the last word
                another does it; with `"wait"` nobody else does, until one of its times is over, of which
                `timeout_seconds` or `result_timeout_seconds` must be given, or who had it is back without it. None
                for the node's setting: `TASK_LEASE_SECONDS`, below which it cannot be, and `CHILD_LEASE` for holons.
            allowed_skills: all that a holon may use to do it, at whatever depth, of what this job may use itself;
                `task_type` is always among them. None: as this job.
            max_cost: the highest price of who may do it, and of who may do anything of it in holons below, in
                millionths of the cost unit. It waits for who declares one. None: as this job.
            skill_version, skill_type: the version and the type of the skill that its worker must declare, letter by
                letter. None: any, and none.
            resource_requirements: what one machine of its worker must have, as `{"resources": {"ram_gb": 16,
                "devices": [{"type": "gpu", "model": "RTX", "vram_gb": 24}]}}`: of numbers at least as much, of other
                values the same or one of a list, of models a part. 4 KiB at most. None: nothing.
            dispatch_strategy: which worker of those with room gets it: `default`, `round_robin`, `least_connections`,
                `cheapest`, `best_value` or `overflow`. None: `default`.
            resource_hint: what it is good to have loaded already, such as the name of a model. By default whoever
                says that he has it goes before who does not. None: nothing.
            event_transitions: the next state for each type of event that its worker may send while it runs, such as
                `{"suspicious": "review"}`: the event's payload is merged into the state history, as data of a result
                is, and the task is stopped. Any other event stands in the job's history, and changes nothing.
        """
        where = "dispatch_task"
        leads = ways(where, transitions)
        events = {} if event_transitions is None else ways_of_events(where, event_transitions)
        timeouts = (timeout_seconds, dispatch_timeout_seconds, result_timeout_seconds)
        wants: dict[str, Any] = {}
        said = (skill_version, skill_type, resource_requirements, dispatch_strategy, resource_hint)
        if said != _NOTHING_SAID:
            wants = {
                "skill_version": skill_version,
                "skill_type": skill_type,
                "resource_requirements": resource_requirements,
                "dispatch_strategy": dispatch_strategy,
                "resource_hint": resource_hint,
            }
        task = asked_task(
            where, task_type, params, priority, timeouts, max_retries, on_lost, allowed_skills, max_cost, wants
        )
        self._decide(DispatchTask(task, leads, events))

    def dispatch_parallel(self, tasks: Iterable[Item], aggregate_into: str, *, fail_fast: bool = False) -> None:
        """Give many tasks to workers, and parts of this job to jobs of blueprints, and go on when all have ended.

        Arguments:
            tasks: dicts, none at all goes straight on. A task has `task_type` (or `type`), and whatever else
                `dispatch_task` takes but the transitions: see `TaskItem`. A part of the job has `blueprint_name`, and
                if needed `initial_data`, `dispatch_timeout` and `result_timeout`, as in `run_blueprint`, and
                `max_cost`, the most that the part may cost: see `PartItem`.
            aggregate_into: the state, usually an aggregator, that gets `aggregation_results`, in order of the tasks.
            fail_fast: the first that fails for good ends the job.
        """
        self._decide(fan_out(tasks, aggregate_into, fail_fast))

    @property
    def events(self) -> tuple[SentEvent, ...]:
        """What was sent so far, in the order of the calls."""
        return self._events

    def send_event(self, event_type: str, payload: Any = None) -> None:
        """Tell something of the job: it stands in its history once the step is stored, exactly once.

        It is no decision: a run may send several events, 100 at most, beside it. A run that fails sends none.

        Arguments:
            event_type: which event; where the blueprint declares events, one of these.
            payload: JSON; that of all events of a run has 64 KiB at most.
        """
        self._events = (*self._events, sent_event(event_type, payload, self._events))

    def await_human_approval(
        self,
        integration: str,
        message: str,
        transitions: Mapping[str, str],
        *,
        timeout_seconds: float | None = None,
    ) -> None:
        """Ask a person, and go on by what is decided; what comes with the decision is merged into `state_history`.

        The node shows the question to the job's owner, and brings it nowhere: whoever does reads it there.

        Arguments:
            integration: what the question is meant for, such as the name of a chat, for who brings it there.
            message: what is asked, for people.
            transitions: the next state for each decision, such as `{"yes": "publish", "no": "discard"}`. `cancelled`
                and `timeout` are no decisions: the job goes on by them when it is cancelled, and when the time is over.
            timeout_seconds: how long the decision is waited for; without a way for `timeout` the job fails then. None:
                for ever.
        """
        self._decide(question(integration, message, transitions, timeout_seconds))

    def await_signal(self, transitions: Mapping[str, str], *, timeout_seconds: float | None = None) -> None:
        """Wait for something to happen outside, and go on by the first signal that says so.

        What comes with it is merged into `state_history`.

        A signal that came before, at any time since the job was created, counts as well: the job keeps it until a wait
        takes it, the oldest first.

        Arguments:
            transitions: the next state for each signal's name, such as `{"paid": "ship", "refused": "close"}`.
                `cancelled` and `timeout` are no signals: the job goes on by them when it is cancelled, and when the
                time is over.
            timeout_seconds: how long it is waited for; without a way for `timeout` the job fails then. None: for ever.
        """
        self._decide(signal(transitions, timeout_seconds))

    def sleep(self, seconds: float, state: str) -> None:
        """Go on in another state, when so many seconds have passed: 0 to ten years."""
        self._decide(pause(seconds, state))

    def run_blueprint(
        self,
        blueprint_name: str,
        initial_data: Mapping[str, Any] | None = None,
        transitions: Mapping[str, str] | None = None,
        dispatch_timeout: float | None = None,
        result_timeout: float | None = None,
    ) -> None:
        """Have a job of another blueprint, or of this one, do a part of this job, and go on by how it ends.

        It belongs to this job's owner. Its deadline, its priority, what it may use and what it may cost are those of
        this job, or less. It is cancelled when this job ends before it.

        Arguments:
            blueprint_name: the blueprint's name; it needs no `api_endpoint`.
            initial_data: what the job is given: JSON with text as keys, as its contract says.
            transitions: the next state for each way in which it may end: `success`, `failure`, `cancelled`, `timeout`,
                or the `status` of one of its ends, such as `{"success": "publish", "failure": "clean_up"}`.
            dispatch_timeout: the longest that each of its tasks may wait for a worker, in seconds; None: as this job.
            result_timeout: the longest that each of its tasks may take, in seconds; None: as this job.
        """
        where = "run_blueprint"
        leads = ways(where, transitions)
        part = asked_part(where, blueprint_name, initial_data, dispatch_timeout, result_timeout)
        self._decide(RunBlueprint(part, leads))

    def _decide(self, decision: Decision) -> None:
        if self._second is not None:
            raise self._second
        # The frame behind the action's own: whoever called it.
        caller = sys._getframe(2)  # noqa: SLF001  `inspect` reads the source of every frame
        self._called_at = caller.f_code.co_filename, caller.f_lineno
        if self._decision is not None:
            self._second = BlueprintError(
                f"this run of the handler already called {_ACTIONS[type(self._decision)]}, and now calls "
                f"{_ACTIONS[type(decision)]}; call one action, for example with `return` after the first",
                code="SECOND_DECISION",
            )
            raise self._second
        self._decision = decision


def pass_on(actions: ActionFactory, skill: str, params: Mapping[str, Any], state: str) -> None:
    """Give one task to a worker, once, and go on in one state whatever it answers but failure and cancelled.

    It is for who only hands on what a worker says; a blueprint names the statuses that it knows, in `dispatch_task`.

    Raises:
        BlueprintError: as `dispatch_task` does.
    """
    task = asked_task("pass_on", skill, params, None, NO_TIMEOUTS, 0, None, None, None, {})
    actions._decide(DispatchTask(task, {ANY_STATUS: state}))  # noqa: SLF001  no blueprint has it


@dataclass(slots=True)
class ClientConfig:
    """The client whose job it is, as it was when the job was created; its token is nowhere in it.

    Arguments:
        name: the client's name.
        plan: its plan; `unknown` when it has none.
        params: what else the node's operator wrote down of it.
    """

    name: str = DEFAULT
    plan: str = NO_PLAN
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class JobContext:
    """One run of one handler: what it may know. All but `state_history` is for reading: what is changed is a copy.

    Arguments:
        job_id: the job's id.
        blueprint_name: the blueprint's name.
        current_state: the state that runs.
        initial_data: what the job was created with.
        state_history: what workers answered so far, and whatever handlers put there.
        aggregation_results: the results of the fan-out that led here, by task id; empty otherwise.
        actions: where the handler decides.
        client: whose job it is.
        data_stores: what the handlers of the blueprint share in this process, each by its name.
        task_files: the files of the job; None where the node keeps none.
        webhook_url: the address that is told of its events and its end; None: nobody is.
    """

    job_id: str
    blueprint_name: str
    current_state: str
    initial_data: dict[str, Any]
    state_history: dict[str, Any] = field(default_factory=dict)
    aggregation_results: dict[str, Any] = field(default_factory=dict)
    actions: ActionFactory = field(default_factory=ActionFactory)
    client: ClientConfig = field(default_factory=ClientConfig)
    data_stores: DataStores = field(default_factory=lambda: DataStores("", {}))
    task_files: TaskFiles | None = None
    webhook_url: str | None = None

    if not TYPE_CHECKING:
        # Type checkers know what there is.
        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name, keeping(name))
