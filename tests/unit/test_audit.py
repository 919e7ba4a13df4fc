"""The audit log: one line an act, that nobody can forge or fill."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from holon.errors import ConfigError
from holon.telemetry.audit import LEFT, REFUSALS_AT_ONCE, By, Refusals, audited, note
from holon.telemetry.audit_file import audit_to
from holon.telemetry.log import JsonLines, TextLines

EVIL = 'x"}\n{"act":"forged"}\r\x1b[2J\x85\u2028\u202e\udcff'
FORMS = (JsonLines(ZoneInfo("UTC")), TextLines(ZoneInfo("UTC")))


@pytest.fixture(autouse=True)
def _all_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "holon.audit")


def test_a_line_says_who_did_what_on_what_from_where_and_what_came_of_it(caplog: pytest.LogCaptureFixture) -> None:
    note("job_cancelled", By("http", "shop", "10.0.0.1:7", "00-aa-bb-01"), on="0-a")
    [record] = caplog.records
    told = {
        "act": "job_cancelled",
        "result": "ok",
        "who": "shop",
        "via": "http",
        "on": "0-a",
        "peer": "10.0.0.1:7",
        "trace": "00-aa-bb-01",
    }
    assert json.loads(record.getMessage()) == told
    line = json.loads(FORMS[0].format(record))
    assert (line["name"], line["message"], line["audit"]) == ("holon.audit", "job_cancelled", told)


@pytest.mark.parametrize(
    ("error", "result"),
    [(None, "ok"), (ConfigError("no"), ConfigError.code), (KeyError(), "INTERNAL"), (asyncio.CancelledError(), LEFT)],
)
def test_a_line_says_what_came_of_an_act_also_where_who_asked_has_gone(
    error: BaseException | None, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []
    try:
        with audited("job_cancelled", By("grpc", "shop"), lambda: "0-a"):
            if error is not None:
                raise error
    except BaseException as raised:  # noqa: BLE001  it is one of those above
        told.append(raised)
    assert told == ([] if error is None else [error])
    assert json.loads(caplog.records[0].getMessage())["result"] == result


@pytest.mark.parametrize("form", FORMS)
def test_whatever_a_stranger_says_stays_one_line_without_control_characters(
    form: logging.Formatter, caplog: pytest.LogCaptureFixture
) -> None:
    note("call_refused", By("http", EVIL), on=EVIL * 1000, result="TOKEN_INVALID")
    line = form.format(caplog.records[0])
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert len(line) < 8_000


def test_refusals_are_bounded_and_what_was_left_out_is_told_with_the_next(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    refusals = Refusals(lambda: now)
    for _ in range(REFUSALS_AT_ONCE + 30):
        refusals.note(By("grpc"), "/x", "TOKEN_INVALID")
    assert len(caplog.records) == REFUSALS_AT_ONCE
    now += 1
    refusals.note(By("grpc"), "/x", "TOKEN_INVALID")
    assert json.loads(caplog.records[-1].getMessage())["untold"] == 30
    refusals.note(By("grpc"), "/x", "TOKEN_INVALID")
    assert "untold" not in json.loads(caplog.records[-1].getMessage())


def test_a_flood_of_refusals_of_one_kind_hides_none_of_another(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(lambda: 100.0)
    for _ in range(REFUSALS_AT_ONCE + 30):
        refusals.note(By("worker"), "/x", "TOKEN_INVALID")
    refusals.note(By("worker"), "/x", "TOKEN_REUSED")
    refusals.note(By("worker", "w1"), "/x", "TOKEN_INVALID")
    last = [json.loads(record.getMessage()) for record in caplog.records[-2:]]
    assert [(line["result"], line.get("who")) for line in last] == [("TOKEN_REUSED", None), ("TOKEN_INVALID", "w1")]


def test_a_file_of_its_own_is_its_owners_alone_and_is_made_anew_when_it_was_moved_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    with audit_to(str(file), "Europe/Moscow"):
        note("job_cancelled", By("http", "shop"), on="0-a")
        for handler in logging.getLogger("holon.audit").handlers:
            handler.flush()
        file.rename(moved)
        note("job_cancelled", By("http", "lab"), on="0-b")
    lines = [json.loads(one.read_text()) for one in (moved, file)]
    assert [line.pop("time")[-6:] for line in lines] == ["+03:00", "+03:00"]
    assert lines == [
        {"act": "job_cancelled", "result": "ok", "who": who, "via": "http", "on": on}
        for who, on in (("shop", "0-a"), ("lab", "0-b"))
    ]
    assert {one.stat().st_mode & 0o777 for one in (moved, file)} == {0o600}
    assert not caplog.records
    note("job_cancelled", By("http", "shop"), on="0-c")
    assert len(caplog.records) == 1


def test_a_file_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AUDIT_LOG_PATH"), audit_to(str(tmp_path), "UTC"):
        pass


def test_a_pipe_is_no_file_of_the_audit_log_whether_it_is_read_or_not(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for reader in (False, True):
        descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if reader else None
        with pytest.raises(ConfigError, match="AUDIT_LOG_PATH"), audit_to(str(pipe), "UTC"):
            pass
        if descriptor is not None:
            os.close(descriptor)


def test_what_the_file_does_not_take_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with audit_to(str(folder / "audit.log"), "UTC"):
        folder.rename(tmp_path / "gone")
        note("job_cancelled", By("http", "shop"), on="0-a")
    [record] = caplog.records
    assert "0-a" in record.getMessage()


def test_a_line_that_a_full_disk_took_a_part_of_spoils_no_later_one_and_is_whole_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, room, write = tmp_path / "audit.log", 150, os.write

    def written(descriptor: int, data: bytes) -> int:
        if not (taken := data[: room - file.stat().st_size]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, taken)

    monkeypatch.setattr(os, "write", written)
    with audit_to(str(file), "UTC"):
        [handler] = [one for one in logging.getLogger("holon.audit").handlers if type(one).__name__ == "LinesBehind"]
        for on in ("0-a", "0-b", "0-c"):
            note("job_cancelled", By("http", "shop"), on=on)
            handler.flush()
        room = 1_000_000
        note("job_cancelled", By("http", "shop"), on="0-d")
    first, torn, last = file.read_text().splitlines()
    assert [json.loads(line)["on"] for line in (first, last)] == ["0-a", "0-d"]
    lacking = [record.getMessage().partition("it lacks: ")[2] for record in caplog.records]
    assert [json.loads(line)["on"] for line in lacking] == ["0-b", "0-c"]
    assert lacking[0].startswith(torn)
