"""nbval: report how long each notebook took."""

from __future__ import annotations

from collections import defaultdict

import pytest

SECONDS: dict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the phases of each cell; starting the kernel is in the first cell's set-up."""
    SECONDS[report.nodeid.split("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line a notebook."""
    terminalreporter.section("notebook times")
    for notebook, seconds in sorted(SECONDS.items()):
        terminalreporter.write_line(f"{seconds:6.1f} s  {notebook}")
    terminalreporter.write_line(f"{sum(SECONDS.values()):6.1f} s  all notebooks")
