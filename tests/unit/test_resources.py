"""Hardware: what a task may require of a machine, what a worker may say of its own, and which of these it is."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.fleet import Device, Machine
from holon.domain.resources import MAX_REQUIRED, has_all, machine, missing, requirement
from holon.errors import InvalidArgument

GPU = {"type": "gpu", "model": "NVIDIA GeForce RTX 4090", "id": "0", "vram_gb": 24}
LARGE = {"ram_gb": 64, "cpu_cores": 16, "zones": ["a", "b"], "ecc": True, "os": "linux", "devices": [GPU]}


def has(resources: Any, required: Any) -> bool:
    return has_all([machine("m", resources)], requirement("r", required))


@pytest.mark.parametrize(
    ("required", "fits"),
    [
        ({"ram_gb": 64}, True),
        ({"ram_gb": 16.5}, True),
        ({"ram_gb": 65}, False),
        ({"ram_gb": "64"}, False),
        ({"os": "linux"}, True),
        ({"os": "Linux"}, False),
        ({"os": 1}, False),
        ({"os": ["bsd", "linux"]}, True),
        ({"os": ["bsd"]}, False),
        ({"ram_gb": [32, 64]}, True),
        ({"ram_gb": [32, 48]}, False),
        ({"zones": "b"}, True),
        ({"zones": "c"}, False),
        ({"zones": ["c", "a"]}, True),
        ({"zones": ["c", "d"]}, False),
        ({"ecc": True}, True),
        ({"ecc": False}, False),
        # True is no number, nor is there any at least as large.
        ({"ecc": 1}, False),
        ({"ecc": [1]}, False),
        ({"missing": 0}, False),
        ({"ram_gb": 16, "cpu_cores": 17}, False),
        ({"devices": [{}]}, True),
        ({"devices": [{"type": "gpu", "model": "rtx", "vram_gb": 24}]}, True),
        ({"devices": [{"model": "RTX 40"}]}, True),
        ({"devices": [{"model": "RTX 50"}]}, False),
        ({"devices": [{"type": "GPU"}]}, False),
        ({"devices": [{"id": "1"}]}, False),
        ({"devices": [{"vram_gb": 25}]}, False),
        ({"devices": [{"type": "gpu"}, {"type": "gpu"}]}, False),
    ],
)
def test_a_machine_has_what_is_at_least_as_large_or_the_same(required: Any, *, fits: bool) -> None:
    assert has(LARGE, required) is fits


def test_a_machine_that_says_nothing_has_nothing_and_what_is_null_is_not_there() -> None:
    assert has({}, {})
    assert not has({}, {"ram_gb": 0})
    assert not has({"ram_gb": None, "devices": [{"vram_gb": None}]}, {"ram_gb": 1})
    assert not has({"devices": [{"vram_gb": None}]}, {"devices": [{"vram_gb": 1}]})
    assert not has_all([], requirement("r", {"ram_gb": 1}))


def test_one_machine_must_have_all_of_it() -> None:
    some = [machine("m", {"ram_gb": 64}), machine("m", {"cpu_cores": 64})]
    assert has_all(some, requirement("r", {"ram_gb": 64}))
    assert not has_all(some, requirement("r", {"ram_gb": 64, "cpu_cores": 64}))


def test_one_device_serves_one_requirement_and_whoever_can_do_with_another_gives_way() -> None:
    two = {"devices": [{"type": "gpu", "vram_gb": 80}, {"type": "gpu", "vram_gb": 24}]}
    either, large = {"type": "gpu", "vram_gb": 24}, {"type": "gpu", "vram_gb": 48}
    # The first takes the large one, unless it looks again.
    assert has(two, {"devices": [either, large]})
    assert has(two, {"devices": [large, either]})
    assert not has(two, {"devices": [large, large]})
    assert not has(two, {"devices": [either, either, either]})


def test_the_same_requirement_is_the_same_text_and_none_is_empty() -> None:
    assert requirement("r", {"b": 1, "a": ("x", "y")}) == requirement("r", {"a": ["x", "y"], "b": 1})
    assert requirement("r", {}) == requirement("r", {"devices": []}) == ""
    assert requirement("r", {"a": "é\u2028"[:1]}).isascii()


def test_what_is_missing_is_told_of_the_machine_that_comes_nearest() -> None:
    some = [machine("m", {}), machine("m", LARGE)]
    asked = {"ram_gb": 65, "cpu_cores": 16, "devices": [{"model": "RTX"}, {"type": "fpga", "luts": 9}]}
    assert missing(some, requirement("r", asked)) == "ram_gb 65, a device with type 'fpga' and luts 9"
    assert missing(some[1:], requirement("r", {"devices": [{}, {}]})) == "a device"
    assert missing([], requirement("r", asked)) == ""


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        ([], r"^r is a list; give a dict, such as \{'ram_gb': 16\}"),
        ({"ram_gb": None}, r"^r\.ram_gb is null; give a number, printable text, True or False, or a list of such"),
        ({"ram_gb": {"min": 1}}, r"^r\.ram_gb is \{.*; give a number"),
        ({"ram_gb": []}, r"^r\.ram_gb is \[\]; give a number"),
        ({"ram_gb": [[1]]}, r"^r\.ram_gb is \[\[1\]\]; give a number"),
        ({"os": "a\nb"}, r"^r\.os is .*; give a number"),
        ({"ram_gb": float("nan")}, r"^r\.ram_gb is nan, which JSON cannot hold"),
        ({"ram_gb": object()}, r"^r\.ram_gb is a object, which JSON cannot hold"),
        ({1: 1}, r"^r has the key 1; keys are text"),
        ({"": 1}, r'^r has the key ""; a name has 1 to 128 printable characters'),
        ({"x" * 129: 1}, r"a name has 1 to 128 printable"),
        ({"devices": {}}, r"^r\.devices is an object; give a list of dicts"),
        ({"devices": ["gpu"]}, r"^r\.devices\[0\] is a text; give a dict, such as \{'type': 'gpu'\}"),
        ({"devices": [{"type": ""}]}, r'^r\.devices\[0\]\.type is ""; give text of 1 to 128 printable'),
        ({"devices": [{"model": 1}]}, r"^r\.devices\[0\]\.model is 1; give text"),
        (
            {"devices": [{"type": "gpu", "properties": {"vram_gb": 24}}]},
            r'^r\.devices\[0\]\.properties is not a property; .* directly, as in \{"type": ?"gpu", ?"vram_gb": ?24\}',
        ),
        ({"properties": {"ram_gb": 64}}, r'^r\.properties is not a property; .* as in \{"ram_gb": ?64\}'),
        ({"properties": 3}, r"^r\.properties is not a property; name each property directly"),
        ({"devices": [{"vram_gb": None}]}, r"^r\.devices\[0\]\.vram_gb is null; give a number"),
        ({"devices": [{}] * (MAX_REQUIRED + 1)}, r"^r\.devices has 17, over the limit of 16"),
        ({"os": "x" * 4096}, r"^r has 41\d\d bytes, over the limit of 4096"),
    ],
)
def test_what_no_machine_can_be_asked_for_is_refused(resources: Any, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        requirement("r", resources)


def test_a_machine_is_said_as_a_requirement_is_and_may_have_anything_else() -> None:
    told = machine("m", {**LARGE, "disks": {"nvme": [1, 2]}})
    assert told == Machine(
        (Device("gpu", "NVIDIA GeForce RTX 4090", "0", {"vram_gb": 24}),),
        {"ram_gb": 64, "cpu_cores": 16, "zones": ["a", "b"], "ecc": True, "os": "linux", "disks": {"nvme": [1, 2]}},
    )
    assert not has_all([told], requirement("r", {"disks": "nvme"}))
    with pytest.raises(InvalidArgument, match=r"^m\.devices has 65, over the limit of 64"):
        machine("m", {"devices": [{}] * 65})
