"""What handlers have: the actions with what each takes, and what `context` holds; `holon check` knows it by this."""

from __future__ import annotations

from collections.abc import Mapping

from holon.domain.wants import WANTS

# What each action takes, by position as far as it may be.
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "go_to": ("state",),
    "dispatch_task": (
        "task_type",
        "params",
        "transitions",
        "priority",
        "timeout_seconds",
        "dispatch_timeout_seconds",
        "result_timeout_seconds",
        "max_retries",
        "on_lost",
        "allowed_skills",
        "max_cost",
        *WANTS,
        "event_transitions",
    ),
    "dispatch_parallel": ("tasks", "aggregate_into", "fail_fast"),
    "run_blueprint": ("blueprint_name", "initial_data", "transitions", "dispatch_timeout", "result_timeout"),
    "send_event": ("event_type", "payload"),
    "await_human_approval": ("integration", "message", "transitions", "timeout_seconds"),
    "await_signal": ("transitions", "timeout_seconds"),
    "sleep": ("seconds", "state"),
}
# Which of it says where the job goes.
STATES: Mapping[str, tuple[str, ...]] = {
    "go_to": ("state",),
    "dispatch_task": ("transitions", "event_transitions"),
    "dispatch_parallel": ("aggregate_into",),
    "run_blueprint": ("transitions",),
    "await_human_approval": ("transitions",),
    "await_signal": ("transitions",),
    "sleep": ("state",),
}
# These say it for each of several ways.
BRANCHING = frozenset({"transitions", "event_transitions"})
# What `context` has.
CONTEXT = (
    "job_id",
    "blueprint_name",
    "current_state",
    "initial_data",
    "state_history",
    "aggregation_results",
    "actions",
    "client",
    "data_stores",
    "task_files",
    "webhook_url",
)
HAS: Mapping[str, tuple[str, ...]] = {"actions": tuple(ACTIONS), "context": CONTEXT}
# What `actions` has beside its actions.
READ = frozenset({"called_at", "decision", "events", "second"})
