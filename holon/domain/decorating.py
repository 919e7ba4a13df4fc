"""The blueprint: what its `handler(...)` and `aggregator(...)` return, which makes a function part of a state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from holon.domain.absent import no_attribute
from holon.domain.conditions import Condition, condition_of
from holon.domain.declaring import Said
from holon.domain.states import Function
from holon.errors import BlueprintError

F = TypeVar("F", bound=Function)


class Add(Protocol):
    """Takes a function into a blueprint."""

    def __call__(self, function: F, name: str | None, said: Said, condition: Condition | None = None, /) -> F:
        """Return the function as it is."""
        ...


class Decorator:
    """Makes the function that is given to it a handler of a state.

    Arguments:
        name: the state's; None: the function's.
        condition: when the function is to run; None: where no other of the state does.
    """

    def __init__(self, add: Add, name: str | None, said: Said, condition: Condition | None = None) -> None:
        self._add = add
        self._name = name
        self._said = said
        self._condition = condition

    def __call__(self, function: F) -> F:
        """The function, which now is a handler."""
        return self._add(function, self._name, self._said, self._condition)

    if not TYPE_CHECKING:
        # Type checkers know what there is.
        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)


class HandlerDecorator(Decorator):
    """One that may be given a condition."""

    def when(self, condition: str) -> Decorator:
        """Have the function run only where a condition holds, such as `context.initial_data.type == 'urgent'`.

        Of several handlers of a state the first runs whose condition holds, in the order of their definition; else the
        one without a condition.

        Arguments:
            condition: a field of `context.initial_data` or `context.state_history`, one of == != > < >= <=, and a
                value: text in quotes, a number, true, false or null.
        Raises:
            BlueprintError: it cannot be read; the message says what is wrong, and where.
        """
        try:
            return Decorator(self._add, self._name, self._said, condition_of(condition))
        except BlueprintError as error:
            whose = "when" if self._name is None else f"state {self._name!r}: when"
            raise BlueprintError(f"{whose}: {error.message}") from error
