"""The blueprints that this node runs, by name, with the contracts of their input, their results and their events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from holon.domain import integrity
from holon.domain.blueprint import Blueprint
from holon.domain.hints import returned_by
from holon.domain.job import Job
from holon.domain.paths import is_nodes_own
from holon.domain.states import Function
from holon.domain.texts import meant
from holon.engine.contracts import Contracts
from holon.errors import BlueprintError, InvalidArgument, NotFound

log = logging.getLogger(__name__)

# A blueprint by its name, and the contract of its input; raises NotFound.
Found: TypeAlias = Callable[[str], tuple[Blueprint, str]]


def lacks_files(blueprint: Blueprint) -> str | None:
    """What of a blueprint cannot run on a node whose jobs have no files; None: all of it can."""
    states = blueprint.states.values()
    state = next((state for state in states if any(one.needs_files for one in state.handlers)), None)
    if state is None:
        return None
    return (
        f"blueprint {blueprint.name!r}: the handler of state {state.name!r} uses task_files, but this node stores no "
        "files of jobs; set S3_ENDPOINT_URL, S3_ACCESS_KEY and S3_SECRET_KEY, or give the argument a default"
    )


class Blueprints:
    """Registered blueprints. Each was checked when it came in.

    Arguments:
        contracts: where the schemas are compiled.
        files: whether jobs can have files here.
    """

    def __init__(self, contracts: Contracts, *, files: bool = True) -> None:
        self._contracts = contracts
        self._files = files
        self._by_name: dict[str, tuple[Blueprint, str]] = {}
        # By name, the contracts of the events that it declares.
        self._events: dict[str, dict[str, str]] = {}
        # By the handlers of good ends, the contracts of what those return, where they say so.
        self._results: dict[Function, str] = {}
        # By path, whose that is.
        self._by_path: dict[str, str] = {}
        # The contracts that are held for all of them.
        self._held: list[str] = []
        self._listeners: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"Blueprints({', '.join(sorted(self._by_name))})"

    def __iter__(self) -> Iterator[Blueprint]:
        return (blueprint for blueprint, _ in self._by_name.values())

    def register(self, blueprint: Blueprint) -> None:
        """Take in a sound blueprint.

        Raises:
            BlueprintError: it is not sound, its name or its path is taken, or the schema of its input, of a result or
                of an event cannot be used.
        """
        if blueprint.name in self._by_name:
            raise BlueprintError(f"a blueprint named {blueprint.name!r} is already registered", code="BLUEPRINT_TAKEN")
        if blueprint.path is not None and is_nodes_own(blueprint.path):
            raise BlueprintError(
                f"blueprint {blueprint.name!r}: its path {blueprint.path} is used by the node itself; use another "
                "api_endpoint",
                code="BLUEPRINT_TAKEN",
            )
        if blueprint.path is not None and (other := self._by_path.get(blueprint.path)) is not None:
            raise BlueprintError(
                f"blueprint {blueprint.name!r}: its path {blueprint.path} is also that of blueprint {other!r}; use "
                "another api_endpoint",
                code="BLUEPRINT_TAKEN",
            )
        problems = integrity.check(blueprint)
        errors = [problem.message for problem in problems if problem.severity == "error"]
        if errors:
            raise BlueprintError(f"blueprint {blueprint.name!r} has errors: " + "; ".join(errors))
        if not self._files and (reason := lacks_files(blueprint)):
            raise BlueprintError(reason, code="TASK_FILES_OFF")
        for problem in problems:
            log.warning("blueprint %s: %s", blueprint.name, problem.message)
        self._add(blueprint)

    def _add(self, blueprint: Blueprint) -> None:
        contract = self._contract(blueprint, "input", blueprint.input_schema)
        self._events[blueprint.name] = {
            event: self._contract(blueprint, f"event {event!r}", schema) for event, schema in blueprint.events.items()
        }
        for state in blueprint.states.values():
            for handler in state.handlers if state.outcome == "finished" else ():
                result = self._contract(blueprint, f"the result of state {state.name!r}", returned_by(handler))
                if result:
                    self._results[handler.function] = result
        self._by_name[blueprint.name] = (blueprint, contract)
        if blueprint.path is not None:
            self._by_path[blueprint.path] = blueprint.name

    def _contract(self, blueprint: Blueprint, what: str, schema: dict[str, Any] | None) -> str:
        try:
            contract = self._contracts.add(schema)
        except InvalidArgument as error:
            raise BlueprintError(f"blueprint {blueprint.name!r}: {what}: {error.message}") from error
        self._contracts.hold(contract)
        self._held.append(contract)
        return contract

    def register_all(self, blueprints: Iterable[Blueprint]) -> None:
        """Take in several."""
        for blueprint in blueprints:
            self.register(blueprint)

    def replace(self, names: Collection[str], fresh: Iterable[Blueprint]) -> None:
        """Have other blueprints in the place of some. What is registered together with them is checked before.

        Arguments:
            names: of those that go.
        """
        every = [*(one for one in self if one.name not in names), *fresh]
        held, self._held = self._held, []
        for table in (self._by_name, self._events, self._results, self._by_path):
            table.clear()
        for blueprint in every:
            self._add(blueprint)
        for contract in held:
            self._contracts.release(contract)
        for listener in self._listeners:
            listener()

    def on_replace(self, listener: Callable[[], object]) -> None:
        """Call this whenever some were replaced."""
        self._listeners.append(listener)

    def check_runs(self) -> None:
        """Check what blueprints run, once all are registered; raises BlueprintError for what is not there."""
        missing = [
            f"blueprint {one.name!r}: {problem.message}" for one in self for problem in integrity.missing(one, self.get)
        ]
        if missing:
            raise BlueprintError("; ".join(missing))

    def get(self, name: str) -> Blueprint | None:
        """A blueprint, or None."""
        entry = self._by_name.get(name)
        return entry[0] if entry else None

    def not_loaded(self, job: Job) -> str:
        """What of a job's blueprint this node has not loaded, as a clause; empty: nothing that it needs now."""
        blueprint = self.get(job.blueprint)
        if blueprint is None:
            return f"blueprint {job.blueprint!r} is not loaded on this node{meant(job.blueprint, self._by_name)}"
        if job.current_state in blueprint.states:
            return ""
        suggestion = meant(job.current_state, blueprint.states)
        return f"blueprint {job.blueprint!r} has no state {job.current_state!r} on this node{suggestion}"

    def events(self, name: str) -> Mapping[str, str]:
        """The events that a blueprint declares, each with the contract of its payload."""
        return self._events.get(name, {})

    def result(self, handler: Function) -> str:
        """The contract of the result of a job that ends well with this handler; empty where that says nothing of it."""
        return self._results.get(handler, "")

    def for_clients(self, name: str) -> tuple[Blueprint, str]:
        """A blueprint that clients may create jobs of, and the contract of its input.

        Raises:
            NotFound: (BLUEPRINT_NOT_FOUND) there is none of this name with an `api_endpoint`.
        """
        if not self.clients_start(name):
            hint = meant(name, filter(self.clients_start, self._by_name)) or "; see `holon blueprints list`"
            raise NotFound(f"no blueprint named {name!r} accepts jobs from clients{hint}", code="BLUEPRINT_NOT_FOUND")
        return self._by_name[name]

    def clients_start(self, name: str) -> bool:
        """Whether clients may create jobs of a blueprint."""
        entry = self._by_name.get(name)
        return entry is not None and entry[0].api_endpoint is not None

    def for_jobs(self, name: str) -> tuple[Blueprint, str]:
        """A blueprint that schedules, and jobs for a part of their own, may have run, and the contract of its input.

        Raises:
            NotFound: (BLUEPRINT_NOT_FOUND) there is none of this name.
        """
        entry = self._by_name.get(name)
        if entry is None:
            hint = meant(name, self._by_name)
            raise NotFound(f"this node has no blueprint named {name[:128]!r}{hint}", code="BLUEPRINT_NOT_FOUND")
        return entry

    def for_parents(self, name: str) -> tuple[Blueprint, str]:
        """A blueprint that a parent holon may have done, and the contract of its input.

        Raises:
            NotFound: (BLUEPRINT_NOT_FOUND) there is none of this name, or it is internal.
        """
        entry = self._by_name.get(name)
        if entry is None or entry[0].internal:
            raise NotFound(f"this node offers its parent no blueprint named {name!r}", code="BLUEPRINT_NOT_FOUND")
        return entry
