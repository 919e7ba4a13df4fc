"""`schedules.toml`: what is due when, read strictly. What is wrong is told all at once, by file, table and key.

[nightly_backup]
blueprint = "backup_flow"
daily_at = "02:00"          # or interval_seconds; or weekly_days or monthly_dates, with time
input_data = {keep = 7}
dispatch_timeout = 60
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time, tzinfo
from typing import Any

from holon.engine.requests import timeout_ms
from holon.engine.timetable import WEEKDAYS, Every, OnDays, Timetable
from holon.errors import ConfigError, InvalidArgument, Violation
from holon.files import read_public
from holon.toml_in import kind_of, parse, problems, shown

SETTING = "SCHEDULES_CONFIG_PATH"
MOST_SCHEDULES = 1_000
LONGEST_INTERVAL_S = 366 * 86_400
LONGEST_CATCH_UP_S = 31 * 86_400
# A node is away as long as it takes to start it anew, or to have another take its place.
CATCH_UP_S = 300.0

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_KINDS = ("interval_seconds", "daily_at", "weekly_days", "monthly_dates")
# With these, `time` says when on the day.
_DAYS = ("weekly_days", "monthly_dates")
_KEYS = ("blueprint", *_KINDS, "time", "input_data", "dispatch_timeout", "result_timeout", "catch_up_seconds")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Jobs of a blueprint that are due at certain times.

    Attributes:
        input_data: what each job is given, a JSON object.
        dispatch_timeout: of each job, in seconds; None: it has none.
        catch_up: how long after it was due a job is still made by a node that starts, in milliseconds.
    """

    name: str
    blueprint: str
    timetable: Timetable
    input_data: Mapping[str, Any] = field(default_factory=dict)
    dispatch_timeout: float | None = None
    result_timeout: float | None = None
    catch_up: int = 0


def read_schedules(path: str, zone: tzinfo, retention: float) -> list[Schedule]:
    """Read the file and check all of it, but for its blueprints. Blocks for the read.

    Arguments:
        zone: in which times of day are.
        retention: for how many seconds a job that is over is known: later, nobody could tell whether it was made.
    Raises:
        ConfigError: it cannot be read, or something in it is wrong; the details name file, table and key.
    """
    wrong: list[Violation] = []
    schedules = [
        _Reader(where_of(path, name), table, zone, retention, wrong).schedule(name)
        for name, table in _tables(path, wrong).items()
    ]
    refuse_all(wrong)
    return schedules


def where_of(path: str, name: str) -> str:
    """How the table of a schedule is named where something is wrong with it."""
    return f"{path} [{shown(name)}]"


def refuse_all(wrong: Sequence[Violation]) -> None:
    """Raise ConfigError when anything is wrong; it tells all of it."""
    if wrong:
        lines = "\n".join(f"  {one.field}: {one.reason}" for one in wrong)
        raise ConfigError(f"the schedules' file cannot be used; change these places:\n{lines}", details=wrong)


def _tables(path: str, wrong: list[Violation]) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = parse(read_public(path))
    except ConfigError as error:
        wrong.append(Violation(path, error.message))
        return {}
    except ValueError as error:
        # It says which file it is of.
        wrong.append(Violation(SETTING, str(error)))
        return {}
    tables = {}
    for name, table in content.items():
        if isinstance(table, dict):
            tables[name] = table
        else:
            reason = "is outside a table; each schedule needs a table, [name]"
            wrong.append(Violation(f"{path} {shown(name)}", reason))
    if len(tables) > MOST_SCHEDULES:
        wrong.append(Violation(path, f"has {len(tables)} schedules, over the limit of {MOST_SCHEDULES}"))
    return tables


class _Reader:
    """Reads one schedule's table. What is wrong is noted, and something harmless takes its place."""

    def __init__(
        self, where: str, table: Mapping[str, Any], zone: tzinfo, retention: float, wrong: list[Violation]
    ) -> None:
        self._where = where
        self._table = table
        self._zone = zone
        self._retention = retention
        self._wrong = wrong

    def schedule(self, name: str) -> Schedule:
        if not _NAME.fullmatch(name):
            self._refuse("", "is not a valid schedule name; use 1 to 64 letters, digits, dots, dashes and underscores")
        for key, value in self._table.items():
            if key in _KEYS:
                continue
            if isinstance(value, dict):
                self._refuse(key, f'is a table in a table; if the dot belongs to the name, quote it: ["{name}.{key}"]')
            else:
                self._refuse(key, f"is not a known key; use {', '.join(_KEYS)}")
        return Schedule(
            name,
            self._blueprint(),
            self._timetable(),
            self._input_data(),
            self._timeout("dispatch_timeout"),
            self._timeout("result_timeout"),
            round(self._catch_up() * 1000),
        )

    def _refuse(self, key: str, reason: str) -> None:
        self._wrong.append(Violation(f"{self._where} {shown(key)}".strip(), reason))

    def _blueprint(self) -> str:
        name = self._table.get("blueprint")
        if isinstance(name, str) and name:
            return name
        self._refuse("blueprint", "is missing" if name is None else "must be the name of a blueprint")
        return ""

    def _timetable(self) -> Timetable:
        given = [key for key in _KINDS if key in self._table]
        if len(given) != 1:
            said = f"has {', '.join(given)}" if given else "has none"
            self._refuse("", f"needs exactly one of {', '.join(_KINDS[:-1])} and {_KINDS[-1]}, and {said}")
            return Every(1000)
        [kind] = given
        if kind not in _DAYS and "time" in self._table:
            self._refuse("time", f"is only for {' and '.join(_DAYS)}, not for {kind}")
        if kind == "interval_seconds":
            return self._every()
        at = self._time("daily_at" if kind == "daily_at" else "time")
        if kind == "weekly_days":
            return OnDays(at, self._zone, weekdays=self._weekdays())
        return OnDays(at, self._zone, dates=self._dates() if kind == "monthly_dates" else frozenset())

    def _every(self) -> Every:
        seconds = self._table["interval_seconds"]
        if isinstance(seconds, int) and not isinstance(seconds, bool) and 1 <= seconds <= LONGEST_INTERVAL_S:
            return Every(seconds * 1000)
        self._refuse("interval_seconds", f"must be a whole number of seconds from 1 to {LONGEST_INTERVAL_S}")
        return Every(1000)

    def _time(self, key: str) -> time:
        text = self._table.get(key)
        found = _TIME.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            return time(int(found[1]), int(found[2]))
        self._refuse(
            key,
            'is missing; add the time of day, such as "09:30"' if text is None else 'must be a time such as "09:30"',
        )
        return time()

    def _weekdays(self) -> frozenset[int]:
        days = self._table["weekly_days"]
        if isinstance(days, list) and days and all(isinstance(day, str) and day in WEEKDAYS for day in days):
            return frozenset(WEEKDAYS.index(day) for day in days)
        self._refuse("weekly_days", f"must be a list of days: {', '.join(WEEKDAYS)}")
        return frozenset()

    def _dates(self) -> frozenset[int]:
        days = self._table["monthly_dates"]
        if isinstance(days, list) and days and all(type(day) is int and 1 <= day <= 31 for day in days):
            return frozenset(days)
        self._refuse("monthly_dates", "must be a list of days of the month, from 1 to 31")
        return frozenset()

    def _input_data(self) -> Mapping[str, Any]:
        data = self._table.get("input_data", {})
        if not isinstance(data, dict):
            self._refuse("input_data", f"must be a table, not {kind_of(data)}")
            return {}
        for where, reason in problems(data, "input_data"):
            self._refuse(where, reason)
        return data

    def _timeout(self, key: str) -> float | None:
        seconds = self._table.get(key)
        try:
            timeout_ms(key, seconds)
        except InvalidArgument as error:
            self._refuse(key, error.details[0].reason)
            return None
        return None if seconds is None else float(seconds)

    def _catch_up(self) -> float:
        seconds = self._table.get("catch_up_seconds")
        if seconds is None:
            return min(CATCH_UP_S, self._retention)
        known = min(LONGEST_CATCH_UP_S, self._retention)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= known:
            return float(seconds)
        self._refuse(
            "catch_up_seconds",
            f"must be a number of seconds from 0 to {known:.0f}: at most JOB_RETENTION ({self._retention:.0f} here), "
            f"because ended jobs must still be known, and at most {LONGEST_CATCH_UP_S}",
        )
        return 0.0
