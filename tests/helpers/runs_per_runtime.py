"""A pytest plugin: at the end, how many e2e tests ran on each container runtime; a run in which they differ fails.

`tests/e2e/conftest.py` notes on each test what it is (`note`); the notes travel with the reports, so that the count is right under
pytest-xdist too. A test that only one runtime can have says so: `@pytest.mark.only_on("embedded", "its image has a Python")`.
A runtime of which nothing ran, as the machine lacks it or as it was not selected, is told and compared with nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

NOTE = "runtime"


@dataclass(slots=True)
class Runs:
    """What ran: by runtime the tests (without the runtime's name in their ids); apart from them those that only one can have."""

    ran: dict[str, set[str]] = field(default_factory=dict)
    alone: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # by runtime and reason
    absent: dict[str, str] = field(default_factory=dict)  # why nothing ran on it

    def add(self, runtime: str, reason: str, test: str) -> None:
        found = self.alone.setdefault((runtime, reason), set()) if reason else self.ran.setdefault(runtime, set())
        found.add(test)

    def skipped(self, runtime: str, why: str) -> None:
        self.absent.setdefault(runtime, why)


def line(runs: Runs) -> str:
    """The one line of the report."""
    counts = [f"{len(tests)} on {runtime}" for runtime, tests in sorted(runs.ran.items())]
    counts += [f"0 on {runtime} ({why})" for runtime, why in sorted(runs.absent.items()) if runtime not in runs.ran]
    apart = [f"{len(tests)} on {runtime} alone ({reason})" for (runtime, reason), tests in sorted(runs.alone.items())]
    return "e2e runs: " + "; ".join([", ".join(counts) or "none on each runtime", *apart])


def differences(ran: Mapping[str, Iterable[str]]) -> list[str]:
    """Tests that ran on one runtime and not on another, in words."""
    every = set().union(*ran.values()) if ran else set()
    return [f"{test} did not run on {runtime}" for runtime, tests in sorted(ran.items()) for test in sorted(every - set(tests))]


def note(item: pytest.Item, runtime: str, reason: str) -> None:
    """Marks a test as one of a runtime; `reason` where it is the only one that can have it."""
    name, bracket, parameters = item.nodeid.partition("[")
    item.user_properties.append((NOTE, (runtime, reason, name + bracket + parameters.replace(runtime, "*", 1))))


class Plugin:
    def __init__(self) -> None:
        self.runs = Runs()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        noted = next((value for name, value in report.user_properties if name == NOTE), None)
        if noted is None:
            return
        if report.skipped:
            self.runs.skipped(noted[0], str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr))
        elif report.when == "call" or report.failed:
            self.runs.add(*noted)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and differences(self.runs.ran):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.runs.ran or self.runs.alone or self.runs.absent:
            terminalreporter.write_line(line(self.runs))
            for difference in differences(self.runs.ran):
                terminalreporter.write_line(f"FAILED {difference}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Once for a session: in xdist's controller, not in its workers."""
    config.addinivalue_line("markers", "only_on(runtime, reason): an e2e test that only one container runtime can have")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Plugin())
