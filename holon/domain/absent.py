"""Absent: what programs written for this kind of blueprint may ask for, and this version does not have yet."""

from __future__ import annotations

from collections.abc import Mapping

# By the names of handlers' arguments: such a name never stands for data that a client has sent under it.
ARGUMENTS: Mapping[str, str] = {
    "tracing_context": "handlers get no trace yet",
}
_HEARING = "programs follow jobs with `async with engine.client() as client`, other systems with webhooks"
# By the names of what a blueprint, what its `handler(...)` returns, or the engine may be asked for.
ATTRIBUTES: Mapping[str, str] = {
    "app": "the node serves only its own routes. `async with engine.client() as client` creates and watches jobs; for "
    "other routes, run a web application beside it",
    "app_keys": "a program cannot access parts of the node. `async with engine.client() as client` creates and watches "
    "jobs, and `client.node` shows workers and figures",
    "on_job_finished": f"`await client.wait_for(job_id)` returns the ended job; {_HEARING}",
    "on_worker_event": f"`client.watch(job_id)` yields a job's events; {_HEARING}",
    "render_graph": "`holon blueprints graph` prints the graph of a blueprint that a node has",
    "validate": "a blueprint is checked when it is registered; without a node, use `holon blueprints check`",
    "when": "each handler has at most one condition, and aggregators have none; go to a state whose handlers have "
    "conditions",
}
# With these begins what handlers may ask their `actions` or `context` for to keep something.
_KEEPS = frozenset({"merge", "put", "save", "set", "store", "update", "write"})


def keeping(name: str) -> str:
    """How a handler keeps what it would by this name of its `actions` or `context`; empty if it is about another thing.

    Neither has such a name.
    """
    if name.partition("_")[0] not in _KEEPS:
        return ""
    return 'to keep a value for later states, write `state_history["key"] = value`'


def no_attribute(owner: object, name: str, why: str | None = None) -> AttributeError:
    """The error of who asks an object for an attribute that it does not have: what Python says, and why, if we know.

    Arguments:
        why: it has none, or what there is instead, if that is known; None: what is said here of the name.
    """
    text = f"{type(owner).__name__!r} object has no attribute {name!r}"
    why = ATTRIBUTES.get(name) if why is None else why
    return AttributeError(f"{text}: {why}" if why else text, name=name, obj=owner)
