"""schedules.toml: what it may say, and that all that is wrong with it is told at once, by file, table and key."""

from __future__ import annotations

from datetime import UTC, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holon.engine.schedules_file import CATCH_UP_S, MOST_SCHEDULES, Schedule, read_schedules
from holon.engine.timetable import Every, OnDays
from holon.errors import ConfigError

WEEK_S = 7 * 86_400.0
MOSCOW = ZoneInfo("Europe/Moscow")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "schedules.toml"


def read(file: Path, text: str, retention: float = WEEK_S) -> list[Schedule]:
    file.write_text(text)
    return read_schedules(str(file), MOSCOW, retention)


def wrong(file: Path, text: str, retention: float = WEEK_S) -> dict[str, str]:
    """What is wrong, by where it is; without the file's own path."""
    with pytest.raises(ConfigError) as caught:
        read(file, text, retention)
    for one in caught.value.details:
        assert f"  {one.field}: {one.reason}" in caught.value.message
    return {one.field.removeprefix(str(file)).strip(): one.reason for one in caught.value.details}


def test_a_schedule_says_when_of_what_and_with_what(file: Path) -> None:
    often, nightly, weekly, monthly = read(
        file,
        """
        [often]
        blueprint = "census"
        interval_seconds = 90
        [nightly_backup]
        blueprint = "backup_flow"
        daily_at = "02:00"
        dispatch_timeout = 60
        result_timeout = 0.5
        catch_up_seconds = 3600
        [nightly_backup.input_data]
        keep = 7
        paths = ["/srv", "/home"]
        deep = {on = true, ratio = 0.5}
        ["weekly.report"]
        blueprint = "report"
        weekly_days = ["fri", "mon"]
        time = "23:59"
        [monthly]
        blueprint = "report"
        monthly_dates = [1, 31]
        time = "00:00"
        catch_up_seconds = 0
        """,
    )
    usual = round(CATCH_UP_S * 1000)
    assert often == Schedule("often", "census", Every(90_000), catch_up=usual)
    data = {"keep": 7, "paths": ["/srv", "/home"], "deep": {"on": True, "ratio": 0.5}}
    at_two = OnDays(time(2), MOSCOW)
    assert nightly == Schedule("nightly_backup", "backup_flow", at_two, data, 60.0, 0.5, 3_600_000)
    assert weekly.name == "weekly.report"
    assert weekly.timetable == OnDays(time(23, 59), MOSCOW, weekdays=frozenset({0, 4}))
    assert monthly.timetable == OnDays(time(0), MOSCOW, dates=frozenset({1, 31}))
    assert (weekly.catch_up, monthly.catch_up) == (usual, 0)


def test_a_file_of_comments_has_no_schedules(file: Path) -> None:
    assert read(file, "# [nightly]\n") == []


def test_everything_wrong_is_told_at_once_by_table_and_key(file: Path) -> None:
    text = """
    stray = 1
    [nothing]
    [both]
    blueprint = "b"
    interval_seconds = 5
    daily_at = "02:00"
    ["a b"]
    blueprint = ""
    daily_at = "2:00"
    [when]
    blueprint = "b"
    daily_at = 02:00:00
    time = "02:00"
    [often]
    blueprint = 7
    interval_seconds = 0.5
    [weekly]
    blueprint = "b"
    weekly_days = ["Monday"]
    time = "24:00"
    [monthly]
    blueprint = "b"
    monthly_dates = [0, true]
    [more]
    blueprint = "b"
    interval_seconds = 1
    input_data = [1]
    dispatch_timeout = -1
    result_timeout = "soon"
    catch_up_seconds = true
    initial_data = 1
    [more.sub]
    [data]
    blueprint = "b"
    interval_seconds = 1
    input_data = {when = 2026-01-01, big = 99999999999999999999, no = nan}
    """
    found = wrong(file, text)
    assert found.keys() == {
        "stray",
        "[nothing] blueprint",
        "[nothing]",
        "[both]",
        "[a b]",
        "[a b] blueprint",
        "[a b] daily_at",
        "[when] daily_at",
        "[when] time",
        "[often] blueprint",
        "[often] interval_seconds",
        "[weekly] weekly_days",
        "[weekly] time",
        "[monthly] monthly_dates",
        "[monthly] time",
        "[more] input_data",
        "[more] dispatch_timeout",
        "[more] result_timeout",
        "[more] catch_up_seconds",
        "[more] initial_data",
        "[more] sub",
        "[data] input_data.when",
        "[data] input_data.big",
        "[data] input_data.no",
    }
    assert found["[nothing]"].endswith("and has none")
    assert found["[both]"].endswith("and has interval_seconds, daily_at")
    assert found["[monthly] time"].startswith("is missing")
    assert "input_data" in found["[more] initial_data"]
    assert 'quote it: ["more.sub"]' in found["[more] sub"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a", "is not valid TOML"),
        ("", "is empty"),
        ("x" * 2_000_000, "check that it is the right file"),
        ("a=" + "[" * 9999, "deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_as_such(file: Path, text: str, reason: str) -> None:
    [(_, said)] = wrong(file, text).items()
    assert reason in said


def test_who_may_write_the_file_says_what_the_node_does_so_not_everybody_may(file: Path) -> None:
    file.write_text("")
    file.chmod(0o666)
    assert "chmod 644" in wrong(file, '[a]\nblueprint = "b"\ninterval_seconds = 1')["SCHEDULES_CONFIG_PATH"]


def test_no_more_are_taken_than_a_node_looks_through_at_once(file: Path) -> None:
    table = '[s{}]\nblueprint = "b"\ninterval_seconds = 1\n'
    text = "".join(table.format(number) for number in range(MOST_SCHEDULES))
    assert len(read(file, text)) == MOST_SCHEDULES
    assert "over the limit" in wrong(file, text + table.format("more"))[""]


def test_nothing_is_caught_up_that_was_due_longer_ago_than_its_job_is_known(file: Path) -> None:
    text = '[a]\nblueprint = "b"\ndaily_at = "02:00"\n'
    assert read(file, text, retention=60.0)[0].catch_up == 60_000
    assert read(file, f"{text}catch_up_seconds = 60", retention=60.0)[0].catch_up == 60_000
    found = wrong(file, f"{text}catch_up_seconds = 61", retention=60.0)
    assert "JOB_RETENTION" in found["[a] catch_up_seconds"]


def test_times_are_in_the_zone_that_the_node_has(file: Path) -> None:
    file.write_text('[a]\nblueprint = "b"\ndaily_at = "02:00"')
    [one] = read_schedules(str(file), UTC, WEEK_S)
    assert one.timetable == OnDays(time(2), UTC)
