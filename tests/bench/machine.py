"""The bench: when and on what a run was made: date, machine, system and versions."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

import holon


def surroundings(server: str | None) -> dict[str, Any]:
    """Return when and on what this process runs, by name.

    Arguments:
        server: the name and version of the store's server; None where it has none.
    """
    store = {} if server is None else dict([server.split(" ", 1)])
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "versions": {
            "Holon": holon.__version__,
            "grpcio": grpc.__version__,
            "SQLite": sqlite3.sqlite_version,
            **store,
        },
    }


def _cpu() -> str:
    """The processor's name, and whether it is a virtual machine's."""
    if sys.platform != "linux":
        return platform.processor() or platform.machine()
    told = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in told.items()}
    name = fields.get("model name") or platform.machine()
    return f"{name} (virtual machine)" if "hypervisor" in fields.get("flags", "").split() else name
