"""The wheel: what a user installs holds the product and nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

import holon

REPOSITORY = Path(__file__).parents[2]


def test_the_wheel_holds_exactly_holon_and_transports(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path))
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "holon", "transports", f"holon_node-{holon.__version__}.dist-info",
    }  # fmt: skip
    assert {"holon/py.typed", "transports/py.typed", "holon/rxon/v1/worker_pb2.pyi"} <= set(names)
    unwanted = (".pyc", ".db", ".pem", ".key")
    assert not [name for name in names if Path(name).name.startswith("test_") or name.endswith(unwanted)]
