"""What every test shares: how properties are searched, and what the head of a run says."""

from __future__ import annotations

import os

from hypothesis import settings

# Limits in time are not asserted: a busy machine is no failure.
settings.register_profile("holon", deadline=None)
settings.load_profile("holon")


def pytest_report_header() -> str:
    return f"storage: {os.environ.get('HOLON_TEST_STORAGE', 'memory and sqlite')}"
