"""What the audit log of a node says."""

from __future__ import annotations

import json
from typing import Any

import pytest


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """All lines, as they were logged."""
    return [json.loads(one.getMessage()) for one in caplog.records if one.name == "holon.audit"]


def audit(caplog: pytest.LogCaptureFixture, act: str) -> list[dict[str, Any]]:
    """The lines of one kind of act."""
    return [one for one in audited(caplog) if one["act"] == act]
