"""The seal: what it seals only it opens, only in its place, only unchanged; and what it does not have it says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256

import pytest

from holon.clock import ManualClock
from holon.stores.sealing import KeyUnknown, Seal, SealBroken, key_id
from holon.stores.sealing.seal import DAY_MS, MARK, OVERHEAD, UNKNOWN_EVERY_MS

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
RECORD = b'{"iban": "DE89 3704 0044 0532 0130 00"}'
PLACE = ("jobs", "0-a", "state")


def wrapped(sealed: bytes) -> bytes:
    """The data key of a record, as it is stored with it."""
    return sealed[: OVERHEAD - 28]


def test_what_is_sealed_opens_with_its_key_and_shows_nothing() -> None:
    sealed = Seal([KEY]).seal(*PLACE, RECORD)
    assert b"iban" not in sealed
    assert len(sealed) == len(RECORD) + OVERHEAD
    assert Seal([KEY]).open(*PLACE, sealed) == RECORD


def test_the_same_record_is_sealed_otherwise_each_time() -> None:
    seal = Seal([KEY])
    assert len({seal.seal(*PLACE, RECORD) for _ in range(100)}) == 100


def test_without_a_key_all_stays_as_it_is() -> None:
    seal = Seal()
    assert seal.seal(*PLACE, RECORD) is RECORD
    assert seal.seal_text(*PLACE, "half way") == seal.open_text(*PLACE, "half way") == "half way"
    assert not seal.on


def test_nothing_stays_nothing() -> None:
    seal = Seal([KEY])
    assert seal.seal(*PLACE, b"") == b""
    assert seal.seal_text(*PLACE, "") == ""


def test_text_comes_back_as_text() -> None:
    seal = Seal([KEY])
    sealed = seal.seal_text(*PLACE, "наполовину")
    assert isinstance(sealed, bytes)
    assert seal.open_text(*PLACE, sealed) == "наполовину"


def test_what_was_stored_before_there_was_a_key_is_still_read() -> None:
    assert Seal([KEY]).open(*PLACE, RECORD) == RECORD
    assert Seal([KEY]).open_text(*PLACE, "half way") == "half way"


@pytest.mark.parametrize(
    "place", [("tasks", "0-a", "state"), ("jobs", "0-b", "state"), ("jobs", "0-a", "inbox"), ("jobs", "0-a:s", "tate")]
)
def test_what_was_moved_to_another_place_does_not_open(place: tuple[str, str, str]) -> None:
    seal = Seal([KEY])
    with pytest.raises(SealBroken, match="moved") as broken:
        seal.open(*place, seal.seal(*PLACE, RECORD))
    assert broken.value.code == "SEAL_BROKEN"


@pytest.mark.parametrize(
    "damage",
    [
        lambda sealed: sealed[:-1],
        lambda sealed: sealed[:1],
        lambda sealed: sealed + b"\0",
        *(
            lambda sealed, at=at: sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            for at in (1, 5, 10, 30, 71, 90, -1)
        ),
    ],
)
def test_what_was_changed_does_not_open(damage: Callable[[bytes], bytes]) -> None:
    seal = Seal([KEY])
    sealed = seal.seal(*PLACE, RECORD)
    with pytest.raises(SealBroken, match="jobs:0-a:state"):
        seal.open(*PLACE, damage(sealed))
    assert seal.open(*PLACE, sealed) == RECORD


def test_a_key_that_is_not_here_is_named_and_so_is_the_setting() -> None:
    sealed = Seal([KEY]).seal(*PLACE, RECORD)
    for seal in (Seal([OTHER]), Seal()):
        with pytest.raises(KeyUnknown, match=f"{key_id(KEY)}.*ENCRYPTION_KEY_FILE") as unknown:
            seal.open(*PLACE, sealed)
        assert unknown.value.code == "ENCRYPTION_KEY_UNKNOWN"
    assert key_id(KEY) == sha256(KEY).hexdigest()[:16]


def test_keys_take_turns() -> None:
    seal = Seal([KEY])
    old = seal.seal(*PLACE, RECORD)
    seal.open_with([OTHER, KEY])
    between = seal.seal(*PLACE, RECORD)
    seal.seal_with(OTHER)
    new = seal.seal(*PLACE, RECORD)
    assert [wrapped(one)[2:10].hex() for one in (old, between, new)] == [key_id(KEY), key_id(KEY), key_id(OTHER)]
    assert {seal.open(*PLACE, one) for one in (old, between, new)} == {RECORD}
    seal.open_with([OTHER])
    with pytest.raises(KeyUnknown):
        seal.open(*PLACE, old)


def test_a_data_key_is_used_for_a_day_and_for_so_many_records() -> None:
    clock = ManualClock()
    seal = Seal([KEY], clock, most=3)
    first = [wrapped(seal.seal(*PLACE, RECORD)) for _ in range(3)]
    second = wrapped(seal.seal(*PLACE, RECORD))
    clock.advance(DAY_MS)
    third = wrapped(seal.seal(*PLACE, RECORD))
    assert len({*first, second, third}) == 3
    assert len(set(first)) == 1


def test_no_more_data_keys_than_that_are_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holon.stores.sealing.seal.MAX_OPEN", 20)
    seal = Seal([KEY])
    for _ in range(30):
        seal.open(*PLACE, Seal([KEY]).seal(*PLACE, RECORD))
    assert seal._cipher_of.cache_info().currsize == 20


def test_what_cannot_be_opened_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    seal = Seal([KEY])
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(SealBroken):
                seal.open(*PLACE, MARK + b"\1garbage")
    assert len(caplog.records) == 1
    assert "jobs:0-a:state" in caplog.text


def test_a_key_that_is_not_here_is_logged_once_a_minute_however_many_records_have_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    seal = Seal([OTHER], clock)
    for round_of in range(2):
        for row in range(50):
            place = ("jobs", f"0-{round_of}-{row}", "state")
            with pytest.raises(KeyUnknown):
                seal.open(*place, Seal([KEY]).seal(*place, RECORD))
        clock.advance(UNKNOWN_EVERY_MS)
    first, second = caplog.messages
    assert f"jobs:0-0-0:state is sealed with the key {key_id(KEY)}" in first
    assert "jobs:0-1-0:state" in second
    assert second.endswith("; met 49 times more since this was last logged")


def test_no_key_is_shown() -> None:
    seal = Seal([KEY])
    seal.seal(*PLACE, RECORD)
    assert repr(seal) == f"Seal({key_id(KEY)})"
