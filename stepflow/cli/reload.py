"""`serve --reload`: a parent that starts the server anew whenever a Python file changes.

The parent never imports the application. A child that was stopped gives its runs up at their waits
and leaves their records in the data directory; the next child goes on with them. A child that ends
by itself (a syntax error, say) is not started again before a file changes.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

from stepflow.cli.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import FrameType

__all__ = ["Reloader", "require_watchfiles", "serve_command"]

_STOP_S: Final = 15
_POLL_MS: Final = 200


def require_watchfiles() -> None:
    """Return when `--reload` can work. Raises `Failure` that says what to install."""
    if importlib.util.find_spec("watchfiles") is None:
        raise Failure("--reload needs watchfiles", 64, "pip install 'stepflow[reload]'")


def serve_command(argv: Sequence[str]) -> list[str]:
    """Return the command of the child: this one, without `--reload`."""
    words = [word for word in argv if word != "--reload"]
    return [sys.executable, "-m", "stepflow.cli.main", *words]


class Reloader:
    """Keeps one child running."""

    def __init__(self, command: Sequence[str], directory: Path, say: Callable[[str], None]) -> None:
        self._command = list(command)
        self._directory = directory
        self._say = say
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Serve until a signal; return the last child's exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._start()
        for changed in self._changes():
            if self._stopping.is_set():
                break
            self._note_end()
            if changed:
                self._say(f"reloading: {', '.join(sorted(changed))} changed")
                self._end_child()
                self._start()
        return self._end_child()

    def _changes(self) -> Iterable[set[str]]:
        """Yield the names of changed files; an empty set now and then."""
        from watchfiles import PythonFilter, watch  # noqa: PLC0415  an extra

        watching = watch(
            self._directory,
            watch_filter=PythonFilter(),
            stop_event=self._stopping,
            raise_interrupt=False,
            rust_timeout=_POLL_MS,
            yield_on_timeout=True,
        )
        for changes in watching:
            yield {path.rpartition("/")[2] for _, path in changes}

    def _start(self) -> None:
        self._child = subprocess.Popen(self._command)  # noqa: S603  our own command line

    def _note_end(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._say(f"the server left with status {self._child.returncode}; waiting for a change")
            self._child = None

    def _end_child(self) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        child.terminate()
        try:
            return child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stopping.set()
