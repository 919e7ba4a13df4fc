"""Chaos: the variables of a process."""

from __future__ import annotations

import os
from collections.abc import Mapping

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")


def environment(settings: Mapping[str, str], **more: object) -> dict[str, str]:
    """What it needs to run at all, and its settings; nothing else that happens to be set here."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, **settings, **{name: str(what) for name, what in more.items()}}
