"""Absent: what programs written for this kind of blueprint may ask for, and this version does not have yet."""

from __future__ import annotations

from collections.abc import Mapping

# By the names of handlers' arguments: such a name never stands for data that a client has sent under it.
ARGUMENTS: Mapping[str, str] = {
    "tracing_context": "handlers are not told of traces yet",
}
_HEARING = "a program hears of its jobs by `async with engine.client() as client`, and others by webhooks"
# By the names of what a blueprint, what its `handler(...)` returns, or the engine may be asked for.
ATTRIBUTES: Mapping[str, str] = {
    "app": "the node serves its own routes only; `async with engine.client() as client` creates and watches jobs, and "
    "other routes belong to a web application beside it",
    "app_keys": "a program does not reach into the parts of a node; `async with engine.client() as client` creates and "
    "watches jobs, and `client.node` shows workers and figures",
    "on_job_finished": f"`await client.wait_for(job_id)` returns a job as it ended; {_HEARING}",
    "on_worker_event": f"`client.watch(job_id)` tells of a job's events as they come; {_HEARING}",
    "render_graph": "`holon blueprints graph` prints the graph of a blueprint that a node has",
    "validate": "it is checked when it is registered, and without a node by `holon blueprints check`",
    "when": "it is said once, of a handler; an aggregator has no conditions, and may go to a state whose handlers do",
}
# With these begins what handlers may ask their `actions` or `context` for to keep something.
_KEEPS = frozenset({"merge", "put", "save", "set", "store", "update", "write"})


def keeping(name: str) -> str:
    """How a handler keeps what it would by this name of its `actions` or `context`; empty if it is about another thing.

    Neither has such a name.
    """
    if name.partition("_")[0] not in _KEEPS:
        return ""
    return 'what later states are to find goes into state_history, as by `state_history["key"] = value`'


def no_attribute(owner: object, name: str, why: str | None = None) -> AttributeError:
    """The error of who asks an object for an attribute that it does not have: what Python says, and why, if we know.

    Arguments:
        why: it has none, or what there is instead, if that is known; None: what is said here of the name.
    """
    text = f"{type(owner).__name__!r} object has no attribute {name!r}"
    why = ATTRIBUTES.get(name) if why is None else why
    return AttributeError(f"{text}: {why}" if why else text, name=name, obj=owner)
