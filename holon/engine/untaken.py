"""Tasks that no worker took in time: why, as far as a node sees."""

from __future__ import annotations

from holon.domain.task import DISPATCH_TIMEOUT, Outcome
from holon.domain.texts import MAX_ERROR_MESSAGE, clipped
from holon.domain.value import replace
from holon.engine.dispatcher import Dispatcher
from holon.ports import Leases


def is_untaken(outcome: Outcome) -> bool:
    """Whether a task may have ended so as nobody took it."""
    return outcome.error is not None and outcome.error.code == DISPATCH_TIMEOUT


async def explained(outcome: Outcome, task_id: str, store: Leases, dispatcher: Dispatcher) -> Outcome:
    """The outcome of a task that `is_untaken`, which says why where nobody took it.

    The store has ended the task, and knows no workers: it is what this node sees of those that are connected to it,
    just after that. Raises StoreUnavailable.
    """
    error = outcome.error
    task = await store.task(task_id)
    # A holon that began it may say the same of what it asked for in turn; and of an open offer it is said whose it was.
    if error is None or task is None or task.begun or outcome.worker_id:
        return outcome
    reason = dispatcher.why(task.need).removeprefix("waiting: ")
    if not reason:
        return outcome
    message = clipped(f"{error.message}; as this node sees it, {reason}", MAX_ERROR_MESSAGE)
    return replace(outcome, error=replace(error, message=message))
