"""What the integration tests share: what they could not check is said at the end of the run."""

from __future__ import annotations

import pytest

from tests.integration.http_browser import CHROMIUM


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [str(report.nodeid) for report in terminalreporter.getreports("skipped")]
    if CHROMIUM is None and any("test_openapi_page" in name for name in skipped):
        terminalreporter.section("NOT CHECKED: the page of the HTTP door in a browser", yellow=True, bold=True)
        terminalreporter.write_line("there is no Chromium on PATH (Debian: apt-get install chromium)")
