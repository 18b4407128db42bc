"""No test can hang the whole: what runs is known, and a test that cannot be ended ends its process.

Three limits, each for what the one before cannot end:

1. pytest-timeout raises in the main thread (`timeout` of pyproject.toml, or the test's own mark):
   the test fails, its `finally` blocks run, the next test starts.
2. `GRACE_S` later faulthandler writes the stack of every thread and ends the process, from a thread
   of its own that needs no interpreter lock: for a test or teardown that swallows the first, or
   waits in C. xdist names the test that its worker died in and ends the run (Makefile says why).
3. `tools/bounded.py` ends all processes of a phase of CI. It finds in `RUNNING_DIR` which test each
   process was in, prints the names, and asks each by SIGUSR1 for its stacks.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Final

import pytest

GRACE_S: Final = 60.0
RUNNING_DIR: Final = "STEPFLOW_TESTS_RUNNING_DIR"


class HangGuard:
    """The second limit, and the note for the third."""

    def __init__(self, config: pytest.Config) -> None:
        self._limit_s = float(config.getoption("timeout", None) or config.getini("timeout") or 0)
        # pytest's capture takes file descriptor 2 away from the test, so a copy is kept.
        self._stderr: IO[str] = os.fdopen(os.dup(_stderr_fd()), "w", encoding="utf-8")
        self._note: Path | None = None
        if directory := os.environ.get(RUNNING_DIR):
            worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
            self._note = Path(directory) / f"{worker}-{os.getpid()}"
            self._note.parent.mkdir(parents=True, exist_ok=True)
            faulthandler.register(signal.SIGUSR1, file=self._stderr, all_threads=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        # The controller of xdist hears of its workers' tests too, but runs none.
        if self._note is not None and not _is_controller():
            self._note.write_text(f"{time.time():.0f} {nodeid}\n", encoding="utf-8")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._note is not None:
            self._note.unlink(missing_ok=True)

    # pytest cancels the timer when a test fails, so that every phase arms it anew.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._arm(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._arm(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        self._arm(item)

    def pytest_unconfigure(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._note is not None:
            faulthandler.unregister(signal.SIGUSR1)
        self._stderr.close()

    def _arm(self, item: pytest.Item) -> None:
        limit_s = self._limit_s
        if mark := item.get_closest_marker("timeout"):
            limit_s = float(mark.args[0] if mark.args else mark.kwargs.get("timeout", limit_s))
        if limit_s:
            faulthandler.dump_traceback_later(limit_s + GRACE_S, file=self._stderr, exit=True)


def _is_controller() -> bool:
    return "PYTEST_XDIST_WORKER" not in os.environ and "xdist.dsession" in sys.modules


def _stderr_fd() -> int:
    # xdist puts an object without a file in the place of sys.stderr.
    try:
        return sys.stderr.fileno()
    except (AttributeError, ValueError):
        assert sys.__stderr__ is not None
        return sys.__stderr__.fileno()
