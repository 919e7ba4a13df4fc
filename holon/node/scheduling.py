"""What is due when, as the settings and their file say; and how that file is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from holon.clock import Clock
from holon.config import Config
from holon.engine.reloading import Part
from holon.engine.scheduler import Scheduler
from holon.engine.schedules_file import Schedule, read_schedules, refuse_all, where_of
from holon.errors import InvalidArgument, NotFound, Violation
from holon.node.stores import Store
from holon.telemetry.log import zone_of


def schedules_of(config: Config) -> list[Schedule]:
    """The schedules of SCHEDULES_CONFIG_PATH, whatever their blueprints are; none where it is unset. Blocks.

    Raises:
        ConfigError: the file is bad.
    """
    if not config.SCHEDULES_CONFIG_PATH:
        return []
    return read_schedules(config.SCHEDULES_CONFIG_PATH, zone_of(config.TZ), config.job_retention)


def check_jobs(config: Config, schedules: Iterable[Schedule], check: Callable[[Schedule], object]) -> None:
    """Check the jobs that schedules would make.

    Arguments:
        check: raises NotFound when there is no such blueprint, InvalidArgument when it does not take the input.
    Raises:
        ConfigError: some cannot be made; the details name file, table and key.
    """
    wrong: list[Violation] = []
    for schedule in schedules:
        where = where_of(config.SCHEDULES_CONFIG_PATH, schedule.name)
        try:
            check(schedule)
        except NotFound as error:
            wrong.append(Violation(f"{where} blueprint", error.message))
        except InvalidArgument as error:
            parts = error.details or [Violation("initial_data", error.message)]
            wrong += [
                Violation(f"{where} {part.field.replace('initial_data', 'input_data', 1)}", part.reason)
                for part in parts
            ]
    refuse_all(wrong)


def schedules_part(config: Config, scheduler: Scheduler) -> Part:
    """The schedules' file, as a part that can be read again."""

    def read() -> Sequence[Schedule]:
        schedules = schedules_of(config)
        check_jobs(config, schedules, scheduler.check)
        return schedules

    return Part("schedules", lambda: (config.SCHEDULES_CONFIG_PATH,), lambda: partial(scheduler.replace, read()))


def wall_of(store: Store, clock: Clock) -> Callable[[], int]:
    """The time that schedules go by, in epoch milliseconds: people's, which may be set.

    Nodes that share a store go by its server's, so that none is early; else one of them that is wrong would be the
    first each time.
    """
    return store.now if store.shared else clock.wall_ms
