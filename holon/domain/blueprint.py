"""The blueprint: the state machine that a user writes, as states with the functions that decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from holon.domain.absent import no_attribute
from holon.domain.class_checks import has_checks
from holon.domain.conditions import Condition
from holon.domain.costs import costing
from holon.domain.data_stores import DataStores, store_of
from holon.domain.declaring import Said, clash, handler_of, place_of, state_of, together
from holon.domain.decorating import Decorator, HandlerDecorator
from holon.domain.hints import ended_with, taken_by
from holon.domain.schema import hint_of
from holon.domain.sending import declared_event
from holon.domain.states import Function, Outcome, State
from holon.errors import BlueprintError, InvalidArgument

F = TypeVar("F", bound=Function)
T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
# Clients take `.` and `..` out of a path before they send it.
_SEGMENT = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+"
_ENDPOINT = re.compile(f"(/{_SEGMENT})+")
_VERSION = re.compile(_SEGMENT)


class Blueprint:
    """A state machine under a name.

    Arguments:
        name: 1 to 128 of the characters A-Z a-z 0-9 _ -, unique in a node.
        api_endpoint: the path under which clients create jobs, such as `/jobs/my_flow`; None when clients may not.
        api_version: the version in that path, such as `v1`; None for a path without one.
        data_stores: what its handlers share in one process, by name; see `add_data_store`.
        internal: whether a parent holon may not start it either; without, it is offered to the parent if there is one.
        price: what one job of it costs a parent at most, in millionths of the cost unit; None: it does not say, and is
            given no task that has a `max_cost`.
    Raises:
        BlueprintError: the name, the path or a data store is not sound.
    """

    def __init__(
        self,
        name: str,
        api_endpoint: str | None = None,
        api_version: str | None = None,
        data_stores: Mapping[str, Any] | None = None,
        *,
        internal: bool = False,
        price: int | None = None,
    ) -> None:
        if not _matches(_NAME, name):
            raise BlueprintError(f"blueprint name {name!r} is invalid; use 1 to 128 of the characters A-Z a-z 0-9 _ -")
        if api_endpoint is not None:
            api_endpoint = "/" + str(api_endpoint).removeprefix("/")
            if not _ENDPOINT.fullmatch(api_endpoint):
                raise BlueprintError(
                    f"blueprint {name!r}: api_endpoint {api_endpoint!r} is not a path; write it like /jobs/my_flow"
                )
        if api_version is not None and not _matches(_VERSION, api_version):
            raise BlueprintError(f"blueprint {name!r}: api_version {api_version!r} is invalid; write it like v1")
        self.name = name
        self.api_endpoint = api_endpoint
        self.api_version = api_version
        self.internal = internal
        try:
            self.price = costing("price", price)
        except InvalidArgument as error:
            raise BlueprintError(f"blueprint {name!r}: {error.message}") from error
        self._states: dict[str, State] = {}
        self._said: dict[str, Said] = {}
        self._view = MappingProxyType(self._states)
        self._events: dict[str, dict[str, Any] | None] = {}
        self.events = MappingProxyType(self._events)
        self._data_stores: dict[str, Any] = {}
        self.data_stores = DataStores(name, self._data_stores)
        for store, value in (data_stores or {}).items():
            self.add_data_store(store, value)

    def __repr__(self) -> str:
        return f"<Blueprint {self.name} states={len(self._states)} path={self.path}>"

    if not TYPE_CHECKING:
        # Type checkers know what there is.
        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)

    @property
    def states(self) -> Mapping[str, State]:
        """Every state by its name, in the order of their definition; a live view."""
        return self._view

    @property
    def start(self) -> State:
        """The state of a new job.

        Raises:
            BlueprintError: no handler has `is_start=True`.
        """
        for state in self._states.values():
            if state.is_start:
                return state
        raise BlueprintError(f"blueprint {self.name!r} has no start state; give one handler is_start=True")

    @property
    def path(self) -> str | None:
        """Where clients POST to create a job, such as `/api/v1/jobs/my_flow`; None when they may not."""
        if self.api_endpoint is None:
            return None
        return f"/api/{self.api_version}{self.api_endpoint}" if self.api_version else f"/api{self.api_endpoint}"

    def add_data_store(self, name: str, value: Any) -> None:
        """Let handlers use `data_stores.NAME`. It lives as long as the process, and all jobs of the blueprint share it.

        Arguments:
            name: a word, no other data store's.
            value: a dict is copied, and handlers `await data_stores.NAME.get(key)` and `.set(key, value)`; anything
                else, such as a Redis client, is handed over as it is.
        Raises:
            BlueprintError: it can have no such name, or another has it.
        """
        try:
            self._data_stores[name] = store_of(name, value, self._data_stores)
        except BlueprintError as error:
            raise BlueprintError(f"blueprint {self.name!r}: {error.message}") from error

    def event(self, name: str, schema: Any = None) -> Callable[[T], T]:
        """Declare an event that handlers send, by `actions.send_event(name, payload)`.

        Arguments:
            name: its type: 1 to 128 printable characters, no other event's.
            schema: of its payload: a JSON schema, a dataclass, or any other hint; None: anything goes.
        Returns:
            a decorator that changes nothing, for who wants to write this above something.
        Raises:
            BlueprintError: it can have no such name or schema, or another has the name.
        """
        try:
            self._events[name] = declared_event(name, schema, self._events)
        except BlueprintError as error:
            raise BlueprintError(f"blueprint {self.name!r}: {error.message}") from error
        return _unchanged

    @cached_property
    def input_schema(self) -> dict[str, Any] | None:
        """The JSON schema of a new job's `initial_data`, from the hint of the start handler; None when anything goes.

        Where the start has several handlers, those with a hint must agree. Read once, after the last decorator.

        Raises:
            BlueprintError: no start state, a hint that cannot be read or that JSON cannot hold, or two that differ.
        """
        return taken_by(self.start)

    @cached_property
    def checks_input(self) -> bool:
        """Whether classes of what a job is created with check it by code of their own. Read once, as `input_schema`."""
        return any(has_checks(hint_of(one.function, "initial_data")) for one in self.start.handlers)

    @cached_property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON schema of the result: what the handler of its one good end says that it returns.

        None where it has several good ends, or the hint says nothing or allows None, or those of several handlers are
        not the same. Read once, after the last decorator.

        Raises:
            BlueprintError: a hint that cannot be read, or that JSON cannot hold.
        """
        ends = [state for state in self._states.values() if state.outcome == "finished"]
        return ended_with(ends[0]) if len(ends) == 1 else None

    @cached_property
    def has_files(self) -> bool:
        """Whether some handler may ask for the files of its job. Read once, after the last decorator."""
        return any(one.files for state in self._states.values() for one in state.handlers)

    @cached_property
    def spans(self) -> Mapping[str, tuple[float, float]]:
        """Which part of a job each state is, in percent: what is passed when it is entered, and how much it is itself.

        States stand in the order of their definition, each as wide as it weighs; where none weighs anything, each is
        all of the job. Read once, after the last decorator.
        """
        heaviest = max((state.progress_weight for state in self._states.values()), default=0)
        if not heaviest:
            return dict.fromkeys(self._states, (0.0, 100.0))
        # By the heaviest, for a sum of large numbers may be none any more.
        weights = {name: state.progress_weight / heaviest for name, state in self._states.items()}
        total, passed = sum(weights.values()), 0.0
        spans = {}
        for name, weight in weights.items():
            spans[name] = (100 * passed / total, 100 * weight / total)
            passed += weight
        return spans

    @overload
    def handler(self, name: F) -> F: ...

    @overload
    def handler(
        self,
        name: str | None = None,
        *,
        is_start: bool = False,
        is_end: bool = False,
        outcome: Outcome | None = None,
        retry: bool = False,
        status: str = "",
        progress_weight: float | None = None,
    ) -> HandlerDecorator: ...

    def handler(
        self,
        name: Any = None,
        *,
        is_start: bool = False,
        is_end: bool = False,
        outcome: Outcome | None = None,
        retry: bool = False,
        status: str = "",
        progress_weight: float | None = None,
    ) -> Any:
        """Make an async function the handler of a state: `@bp.handler`, `@bp.handler()` or `@bp.handler("name")`.

        With `@bp.handler("name").when("context.initial_data.type == 'urgent'")` it runs where that holds. A state may
        have several of these, and one without a condition, which runs where none holds; what the decorator of one of
        them says of the state holds for all of them.

        Arguments:
            name: the state's name; the function's own when left out.
            is_start: a new job begins here; exactly one state of a blueprint does.
            is_end: a run that decides nothing ends the job here.
            outcome: what this end means, `finished` or `failed`. By default an end is a success whatever its name, but
                one named `failed`.
            retry: of an end that is a failure: where a parent holon asked for the job, it may try again, as after a
                worker's transient error. By default that failure is its last word.
            status: of an end that is a success: what a parent holon is answered, so that its transitions may branch
                by it; by default `success`.
            progress_weight: how much of a job's progress this state is, next to the weights of the others: 0 or more;
                by default 1, and 0 for an end, where nothing is left to wait for.
        Raises:
            BlueprintError: the function is not `async def`, its state, start or outcome contradicts another, or its
                weight is none.
        """
        if callable(name):
            return self._add(name, None, Said())
        said = Said(is_start, is_end, outcome, retry=retry, status=status, progress_weight=progress_weight)
        return HandlerDecorator(self._add, name, said)

    @overload
    def aggregator(self, name: F) -> F: ...

    @overload
    def aggregator(self, name: str | None = None, *, progress_weight: float | None = None) -> Decorator: ...

    def aggregator(self, name: Any = None, *, progress_weight: float | None = None) -> Any:
        """Make an async function the state in which the results of a fan-out meet, in `aggregation_results`.

        The forms are those of `handler`: `@bp.aggregator`, `@bp.aggregator()` or `@bp.aggregator("name")`.

        Arguments:
            name, progress_weight: as of `handler`.
        Raises:
            BlueprintError: as `handler` does.
        """
        if callable(name):
            return self._add(name, None, Said(is_aggregator=True))
        return Decorator(self._add, name, Said(is_aggregator=True, progress_weight=progress_weight))

    def _add(self, function: F, name: str | None, said: Said, condition: Condition | None = None) -> F:
        place, handler = place_of(function), handler_of(function, condition)
        name = function.__name__ if name is None else name
        state = state_of(name, (handler,), said)
        if known := self._states.get(name):
            if why := clash(known.handlers, self._said[name], handler, said):
                raise BlueprintError(f"{place}: state {name!r} of blueprint {self.name!r} {why}")
            said = together(self._said[name], said)
            state = state_of(name, (*known.handlers, handler), said)
        if said.is_start and (starts := [one for one in self._states.values() if one.is_start and one.name != name]):
            raise BlueprintError(
                f"{place}: blueprint {self.name!r} already starts in {starts[0].name!r}; "
                "it must have exactly one start state"
            )
        self._states[name], self._said[name] = state, said
        return function


def _unchanged(what: T) -> T:
    return what


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
