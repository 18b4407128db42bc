"""A program that was started, says what it does into a file, and can be killed with all below it.

The kernel ends it when the thread that started it ends, so a caller that is itself killed leaves
nothing behind (Linux, where there is `setpriv`). Start it from a thread that lives long enough.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

from tools import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PAUSE_S: Final = 0.02


class EndedError(RuntimeError):
    """The program has ended before it did what was waited for."""


class Child:
    """One program. `user` is whom it runs as, where the caller is root."""

    def __init__(
        self,
        command: Sequence[str],
        said: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        setpriv = shutil.which("setpriv")
        doomed = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        self._said = said
        # What was said in its lives before stays, so that a death can be looked into.
        self._from = said.stat().st_size if said.exists() else 0
        more: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
        with said.open("ab") as out:
            self._process = subprocess.Popen(
                [*doomed, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                **more,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._process.poll()

    @property
    def said(self) -> str:
        """What it has said in this life."""
        with self._said.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def until(self, what: Callable[[], Any]) -> Any:
        """Return what `what` returns once it is true; raise when the program ends before."""
        while not (found := what()):
            if self.status is not None:
                raise EndedError(f"it ended with {self.status}: {self.said[-2000:]}")
            time.sleep(PAUSE_S)
        return found

    def until_said(self, word: str) -> str:
        """Return what it has said, once the word is in it."""
        self.until(lambda: word in self.said)
        return self.said

    def kill(self) -> None:
        """End it and all below it at once; returns when all have ended."""
        found = processes.below(self.pid)
        processes.send(self.pid, signal.SIGKILL)
        self._process.wait()
        if left := processes.end(found):
            raise RuntimeError(f"it hangs in the kernel: {left}")

    def stop(self, number: signal.Signals = signal.SIGTERM, grace_s: float = 20) -> int:
        """Ask it to end, and kill it if it does not; return its exit status."""
        if self.status is None:
            os.kill(self.pid, number)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.wait()
