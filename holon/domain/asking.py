"""The domain: what a handler may say of the tasks that it asks for, checked at the call."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from holon.domain.costs import Cost, costing
from holon.domain.decisions import AskedPart, AskedTask, AwaitApproval, AwaitSignal, Sleep
from holon.domain.event_types import OF_WAITS, is_event_type
from holon.domain.job import CHOSEN_BY_NOBODY
from holon.domain.plain import obstacle
from holon.domain.policy import LONGEST_SKILL, Allowed, allowing
from holon.domain.signals import MAX_SIGNAL_NAME, is_signal_name
from holon.domain.task import TIMEOUT
from holon.domain.wants import Wants, wanting
from holon.errors import BlueprintError, InvalidArgument

NO_TIMEOUTS = (None, None, None)
# A dict is found to be one without a search among all classes that are mappings: there may be thousands of tasks.
MAPPINGS = (dict, Mapping)
# What a person is asked is in the job's state, and on each page of jobs that shows it.
MAX_MESSAGE = 4 * 1024
MAX_DECISIONS = 64
MAX_NAME = 128
# No task takes longer, so that no sum of times overflows anywhere; one that is never given to another waits as long.
_WAIT_S = 10 * 366 * 86_400.0
_LARGEST_NUMBER = sys.float_info.max


class Place:
    """Which item of a fan-out is looked at, for a message: the words are put together when there is one."""

    index = 0

    def __str__(self) -> str:
        return f"dispatch_parallel: task {self.index}"


def asked_task(
    where: str | Place,
    skill: Any,
    params: Any,
    priority: Any,
    timeouts: tuple[Any, ...],
    max_retries: Any,
    on_lost: Any,
    allowed_skills: Any,
    max_cost: Any,
    wants: Mapping[str, Any],
) -> AskedTask:
    """One task, alone or of a fan-out.

    Arguments:
        where: what is called, for the message.
        timeouts: how long it may run, wait and take in all, in seconds; each None where nothing is said.
        wants: what else it says of who may do it, by name, of WANTS.
    Raises:
        BlueprintError: (ACTION_INVALID) it cannot be.
    """
    if len(text(where, "task_type", skill)) > LONGEST_SKILL:
        raise wrong(f"{where}: task_type has {len(skill)} characters, over the limit of {LONGEST_SKILL}")
    if not skill.isprintable():
        raise wrong(f"{where}: task_type is {skill!r}, which no worker can offer; give printable characters")
    if params is not None and not isinstance(params, MAPPINGS):
        raise wrong(f"{where}: params is a {type(params).__name__}; give a dict")
    plain = dict(params or {})
    if found := obstacle(plain, "params"):
        raise wrong(f"{where}: {found}")
    if priority is not None and not _is_number(priority):
        raise wrong(f"{where}: priority is {priority!r}; give a finite number")
    if max_retries is not None and (type(max_retries) is not int or not 0 <= max_retries <= sys.maxsize):
        raise wrong(f"{where}: max_retries is {max_retries!r}; give a whole number from 0 to {sys.maxsize}, or None")
    execution, dispatch, result = timeouts
    # Most tasks say nothing of these. In the order of its fields: so many names take longer to match than all the rest.
    return AskedTask(
        skill,
        plain,
        None if priority is None else float(priority),
        None if execution is None else _seconds(where, "timeout_seconds", execution),
        None if dispatch is None else _seconds(where, "dispatch_timeout_seconds", dispatch),
        None if result is None else _seconds(where, "result_timeout_seconds", result),
        None if on_lost is None else _lost_after(where, on_lost, ends=execution is not None or result is not None),
        None if allowed_skills is None else _allowed(where, skill, allowed_skills),
        None if max_cost is None else _max_cost(where, max_cost),
        _wants(where, wants) if wants else None,
        max_retries,
    )


def asked_part(
    where: str | Place,
    blueprint: Any,
    initial_data: Any,
    dispatch_timeout: Any,
    result_timeout: Any,
    max_cost: Any = None,
) -> AskedPart:
    """A job that is to be a part of the one that asks, alone or of a fan-out.

    Arguments:
        where: what is called, for the message.
    Raises:
        BlueprintError: (ACTION_INVALID) it cannot be.
    """
    name = text(where, "blueprint_name", blueprint)
    if initial_data is not None and not isinstance(initial_data, MAPPINGS):
        raise wrong(f"{where}: initial_data is a {type(initial_data).__name__}; give a dict")
    plain = dict(initial_data or {})
    if found := obstacle(plain, "initial_data"):
        raise wrong(f"{where}: {found}")
    return AskedPart(
        name,
        plain,
        None if dispatch_timeout is None else _seconds(where, "dispatch_timeout", dispatch_timeout),
        None if result_timeout is None else _seconds(where, "result_timeout", result_timeout),
        None if max_cost is None else _max_cost(where, max_cost),
    )


def _seconds(where: str | Place, name: str, value: Any) -> float:
    if not (_is_number(value) and 0 < value <= _WAIT_S):
        raise wrong(
            f"{where}: {name} is {value!r}; give a number of seconds above 0 and at most {_WAIT_S:.0f}, or None"
        )
    return float(value)


def _allowed(where: str | Place, skill: str, asked: Any) -> Allowed:
    try:
        allowed = allowing("allowed_skills", asked)
        # A holon that passes the skill on asks for the same one of others.
        return None if allowed is None else allowing("allowed_skills", {*allowed, skill})
    except InvalidArgument as error:
        raise wrong(f"{where}: {error.message}") from error


def _max_cost(where: str | Place, asked: Any) -> Cost:
    try:
        return costing("max_cost", asked)
    except InvalidArgument as error:
        raise wrong(f"{where}: {error.message}") from error


def _wants(where: str | Place, asked: Mapping[str, Any]) -> Wants | None:
    try:
        return wanting(**asked)
    except InvalidArgument as error:
        raise wrong(f"{where}: {error.message}") from error


def _lost_after(where: str | Place, on_lost: Any, *, ends: bool) -> float:
    if on_lost == "wait":
        if not ends:
            raise wrong(
                f"{where}: on_lost is 'wait', so the task might never end; give timeout_seconds or "
                "result_timeout_seconds too"
            )
        return _WAIT_S
    if not (_is_number(on_lost) and 0 < on_lost <= _WAIT_S):
        raise wrong(f"{where}: on_lost is {on_lost!r}; give a number of seconds above 0, 'wait', or None")
    return float(on_lost)


def text(where: str | Place, what: str, value: Any) -> str:
    """A name that a handler says; raises BlueprintError for what is none."""
    if not isinstance(value, str) or not value:
        raise wrong(f"{where}: {what} is {value!r}; give text that is not empty")
    if not value.isascii() and value != value.encode(errors="ignore").decode():
        raise wrong(f"{where}: {what} is {value!r}, which cannot be written as UTF-8")
    return value


def ways(where: str, transitions: Any) -> dict[str, str]:
    """The next state for each status or decision, checked; None are none.

    Raises:
        BlueprintError: (ACTION_INVALID) they cannot be.
    """
    return _ways(where, "transitions", "status", transitions)


def ways_of_events(where: str, transitions: Any) -> dict[str, str]:
    """The same for each type of event."""
    leads = _ways(where, "event_transitions", "type", transitions)
    if unsound := [name for name in leads if not is_event_type(name)]:
        raise wrong(f"{where}: event_transitions has {unsound[0]!r:.200}, which is not a valid type of event")
    if asked := [name for name in leads if name in OF_WAITS]:
        raise wrong(
            f"{where}: event_transitions has {asked[0]!r}, with which jobs below report what they wait for; it "
            "cannot lead to a state"
        )
    return leads


def _ways(where: str, name: str, key: str, given: Any) -> dict[str, str]:
    if given is not None and not isinstance(given, MAPPINGS):
        raise wrong(f"{where}: {name} is a {type(given).__name__}; give a dict of {key} to state")
    return {
        text(where, f"a {key} in {name}", one): text(where, f"the state for {one!r}", state)
        for one, state in (given or {}).items()
    }


def question(integration: Any, message: Any, transitions: Any, timeout: Any) -> AwaitApproval:
    """A question to a person.

    Arguments:
        timeout: how long its decision is waited for, in seconds; None: for ever.
    Raises:
        BlueprintError: (ACTION_INVALID) it cannot be.
    """
    where = "await_human_approval"
    for name, value, most in (("integration", integration, MAX_NAME), ("message", message, MAX_MESSAGE)):
        if len(text(where, name, value).encode()) > most:
            raise wrong(f"{where}: {name} has {len(value.encode())} bytes, over the limit of {most}")
    leads, seconds = _ways_of_a_wait(where, "decision", transitions, timeout)
    if too_long := next((word for word in leads if len(word) > MAX_NAME or not word.isprintable()), None):
        raise wrong(f"{where}: a decision is {too_long[:MAX_NAME]!r}; give {MAX_NAME} printable characters at most")
    return AwaitApproval(integration, message, leads, seconds)


def signal(transitions: Any, timeout: Any) -> AwaitSignal:
    """A wait for a signal; the same."""
    where = "await_signal"
    leads, seconds = _ways_of_a_wait(where, "signal", transitions, timeout)
    if unsound := next((name for name in leads if not is_signal_name(name)), None):
        raise wrong(
            f"{where}: a signal is {unsound!r:.200}; give at most {MAX_SIGNAL_NAME} characters, without control "
            "characters"
        )
    return AwaitSignal(leads, seconds)


def _ways_of_a_wait(where: str, what: str, transitions: Any, timeout: Any) -> tuple[dict[str, str], float | None]:
    """The next state for each decision or signal that is waited for, and for how many seconds; None: for ever."""
    leads = ways(where, transitions)
    count = len(leads.keys() - CHOSEN_BY_NOBODY)
    if not 0 < count <= MAX_DECISIONS:
        raise wrong(
            f"{where}: transitions has {count} {what}s, and must have 1 to {MAX_DECISIONS}; "
            f"{' and '.join(sorted(CHOSEN_BY_NOBODY))} do not count"
        )
    if timeout is None and TIMEOUT in leads:
        raise wrong(f"{where}: transitions has {TIMEOUT}, but the wait has no time limit; give timeout_seconds too")
    return leads, None if timeout is None else _seconds(where, "timeout_seconds", timeout)


def pause(seconds: Any, state: Any) -> Sleep:
    """A pause; raises BlueprintError (ACTION_INVALID) for what is none."""
    if not (_is_number(seconds) and 0 <= seconds <= _WAIT_S):
        raise wrong(f"sleep: seconds is {seconds!r}; give a number from 0 to {_WAIT_S:.0f}")
    return Sleep(float(seconds), text("sleep", "state", state))


def _is_number(value: Any) -> bool:
    kind = type(value)
    if kind is float or kind is int:
        number: float = value
        return -_LARGEST_NUMBER <= number <= _LARGEST_NUMBER
    return isinstance(value, (int, float)) and kind is not bool and abs(value) <= _LARGEST_NUMBER


def wrong(message: str) -> BlueprintError:
    """What a handler hears of an action that cannot be."""
    return BlueprintError(message, code="ACTION_INVALID")
