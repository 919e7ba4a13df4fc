"""Other users of the machine, as far as a test needs them: what belongs to one, for whoever looks at it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

UID = 4711


def owned_by_another(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Have a file, folder or link belong to another user; the path to it has no links."""
    lstat = os.lstat

    def looked(which: Any, **more: Any) -> os.stat_result:
        facts = lstat(which, **more)
        if os.fspath(which) != str(path):
            return facts
        return os.stat_result((*facts[:4], UID, *facts[5:10]))

    monkeypatch.setattr(os, "lstat", looked)
