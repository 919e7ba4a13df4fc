"""JSON text, read: the garbage collector does not come in between, and is as it was afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import orjson
import pytest

from holon.json_in import LARGE, parse

VALUE = {"lists": [[number] for number in range(LARGE)]}
TEXT = orjson.dumps(VALUE)


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations that were collected since, by a collector that is soon there."""
    seen: list[int] = []

    def see(phase: str, facts: dict[str, int]) -> None:
        if phase == "start":
            seen.append(facts["generation"])

    before, was_on = gc.get_threshold(), gc.isenabled()
    gc.callbacks.append(see)
    gc.enable()
    gc.set_threshold(100)
    try:
        yield seen
    finally:
        gc.set_threshold(*before)
        (gc.enable if was_on else gc.disable)()
        gc.callbacks.remove(see)


def test_large_text_is_read_without_the_collector_which_looks_at_it_once(collections: list[int]) -> None:
    value = parse(TEXT)
    assert gc.isenabled()
    assert len(collections) <= 2
    assert value == VALUE


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("wrong", [TEXT, TEXT[:-1], b"{", b"{}"])
def test_the_collector_is_afterwards_as_it_was(collections: list[int], on: bool, wrong: bytes) -> None:
    (gc.enable if on else gc.disable)()
    try:
        parse(wrong)
    except ValueError:
        assert wrong in (TEXT[:-1], b"{")
    assert gc.isenabled() == on
