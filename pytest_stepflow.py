"""The pytest plugin: `workflow_test` makes a `WorkflowTest`, with what the test's marker says.

A module of its own beside the package: pytest loads every plugin at every start, and a suite that
has nothing to do with workflows must not pay for importing stepflow. The fixture is a plain
function, not an async one, so it works under pytest-asyncio (strict or auto), under anyio's plugin
and under whatever else runs the test on asyncio.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from stepflow import Stepflow
    from stepflow.testing import WorkflowTest

__all__ = ["WorkflowTests", "workflow_test"]

_MARKER = (
    "stepflow(replay='always', strict=True, threads=False, seed=0, start_ms=None): "
    "what the `workflow_test` fixture gives to WorkflowTest unless the call says otherwise"
)


class WorkflowTests(Protocol):
    """What the fixture `workflow_test` is: `async with workflow_test(flow) as t:`."""

    def __call__(self, flow: Stepflow, **options: Any) -> WorkflowTest:
        """Return a `WorkflowTest` of the flow."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--stepflow-replay` and `--stepflow-seed`."""
    group = parser.getgroup("stepflow", "workflow tests")
    group.addoption(
        "--stepflow-replay",
        choices=("never", "always"),
        help="replay runs after every result in all tests that use workflow_test",
    )
    group.addoption(
        "--stepflow-conformance-table",
        metavar="FILE",
        help="write capability by engine there, as the claims on them came out",
    )
    group.addoption("--stepflow-seed", type=int, help="the seed of ids and jitter in those tests")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that --strict-markers takes it."""
    config.addinivalue_line("markers", _MARKER)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the claims on engines came to, where some were made; write the table if asked."""
    claims = [
        (str(text), report.passed)
        for kind in ("passed", "failed")
        for report in terminalreporter.stats.get(kind, [])
        for name, text in report.user_properties
        if name == "stepflow-claim"
    ]
    if not claims:
        return
    from stepflow.testing.conformance.report import gathered, lines, table  # noqa: PLC0415  likewise

    by_engine = gathered(claims)
    for line in lines(by_engine):
        terminalreporter.write_line(line)
    path = terminalreporter.config.getoption("--stepflow-conformance-table")
    if path:
        Path(path).write_text(table(by_engine), encoding="utf-8")


@pytest.fixture
def workflow_test(request: pytest.FixtureRequest) -> WorkflowTests:
    """Return `WorkflowTest` with the marker's and the command line's options in it.

    ::

        @pytest.mark.asyncio
        @pytest.mark.stepflow(replay="always")
        async def test_checkout(workflow_test):
            async with workflow_test(flow) as t:
                ...
    """
    options: dict[str, Any] = {}
    node: pytest.Item = getattr(request, "node")  # noqa: B009  it has no type before pytest 9.2
    for marker in reversed(list(node.iter_markers("stepflow"))):
        options.update(marker.kwargs)
    for name in ("replay", "seed"):
        given = request.config.getoption(f"--stepflow-{name}")
        if given is not None:
            options[name] = given

    def make(flow: Stepflow, **more: Any) -> WorkflowTest:
        from stepflow.testing import WorkflowTest  # noqa: PLC0415  only who uses it pays for it

        return WorkflowTest(flow, **{**options, **more})

    return make
