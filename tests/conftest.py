"""Rules for all tests: a missing tool is said aloud, and under CI no test is skipped in silence.

Without Chromium, Node or strace on a developer's machine, the tests that need them are skipped and
counted at the end. Where `CI` is set, the same skip is a failure: a green run there has run
everything. Two reasons stay a skip: one that begins with `platform:`, for what no machine of that
kind can run, and one that begins with `size:`, for what a target of its own runs, which it names.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

from tests.hang_guard import HangGuard
from tools.postgres import Postgres, programs

if TYPE_CHECKING:
    from collections.abc import Generator

UNDER_CI: Final = os.environ.get("CI", "").lower() not in {"", "0", "false"}
NOT_HERE: Final = ("platform:", "size:")
ALIASES: Final = {"chromium": ("chromium", "chromium-browser", "google-chrome")}

# Whoever is started in a shell's background has Ctrl-C ignored, and so had all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is no bug, so no test of ours has a deadline.
settings.register_profile(
    "stepflow",
    deadline=None,
    derandomize=UNDER_CI,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("stepflow")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(HangGuard(config), "hang-guard")


def find_tool(name: str) -> str | None:
    """Return the path of the program, under any name that it goes by, or None."""
    if name == "postgres":
        # Its programs are in no PATH.
        found = programs()
        return str(found / "postgres") if found is not None else None
    names = ALIASES.get(name, (name,))
    return next((path for path in map(shutil.which, names) if path), None)


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """A PostgreSQL of this session's own, and of each worker's of xdist; mark its tests so:
    `tool("postgres")`. Whoever kills it revives it."""
    with Postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The URL of a fresh database on it."""
    return postgres.make_database(f"test_{uuid.uuid4().hex[:12]}")


@pytest.fixture
def tool_path(request: pytest.FixtureRequest) -> dict[str, str]:
    """The paths of the programs that the test's `tool` marks name."""
    names = [mark.args[0] for mark in request.node.iter_markers("tool")]
    return {name: path for name in names if (path := find_tool(name))}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("tool"):
        if find_tool(mark.args[0]) is None:
            pytest.skip(f"no {mark.args[0]} on this machine: make system-deps")
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped_under_ci(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped_under_ci(report, collector.nodeid)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} skipped. With CI set, a skip fails unless its reason begins with "
            f"{' or '.join(map(repr, NOT_HERE))}.",
            yellow=True,
        )


def _fail_if_skipped_under_ci(report: pytest.TestReport | pytest.CollectReport, node: str) -> None:
    if not UNDER_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = _reason(report)
    if not reason.startswith(NOT_HERE):
        report.outcome = "failed"
        report.longrepr = f"{node} was skipped under CI: {reason}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
