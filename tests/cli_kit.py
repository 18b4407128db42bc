"""`stepflow` as processes: a server that tells where it is, and commands with their outcome."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.served import doomed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-W", "error", "-m", "stepflow.cli.main"]
_URL = re.compile(r"http://[^\s/]+:\d+[^\s]*")


def environment(**more: str) -> dict[str, str]:
    """The environment of a machine on which nothing of Stepflow is set."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("STEPFLOW_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | more


def until(what: Callable[[], Any], say: Callable[[], str] = lambda: "") -> Any:
    """Return what `what` returns once it is true; the test's own time limit ends a vain wait."""
    for _ in range(6000):
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"never came true: {say()}")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


def run_cli(*words: str, cwd: Path, stdin: str | None = None, **env: str) -> Done:
    done = subprocess.run(
        [*PROGRAM, *words],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _handing(descriptor: int | None) -> list[str]:
    """A shell that hands a listening socket to what it becomes, as systemd does."""
    if descriptor is None:
        return []
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{descriptor}'
    return ["/bin/bash", "-c", script, "bash"]


class Process:
    """A command that runs; what it has said so far is in `out` and `err`."""

    def __init__(
        self, *words: str, cwd: Path, env: Mapping[str, str], handed: int | None = None
    ) -> None:
        self.out = ""
        self.err = ""
        self._process = subprocess.Popen(
            doomed([*_handing(handed), *PROGRAM, *words]),
            pass_fds=() if handed is None else (handed,),
            cwd=cwd,
            env=environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True)
            for name in ("out", "err")
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        pipe = self._process.stdout if name == "out" else self._process.stderr
        assert pipe is not None
        with pipe:
            for line in pipe:
                setattr(self, name, getattr(self, name) + line)

    def says(self, text: str) -> None:
        """Wait until it has said that."""
        until(lambda: text in self.out + self.err or self.ended, self._said)
        assert text in self.out + self.err, self._said()

    def _said(self) -> str:
        return f"{self.out}\n{self.err}"

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        return code

    def stop(self) -> int:
        """SIGTERM; return its exit status."""
        if not self.ended:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        if not self.ended:
            self.signal(signal.SIGKILL)
        self.wait()


class Served(Process):
    """`stepflow serve TARGET`; a free port unless one is given."""

    def __init__(
        self,
        target: str | Path,
        *options: str,
        cwd: Path,
        port: int = 0,
        handed: int | None = None,
        **env: str,
    ) -> None:
        words = ["serve", str(target), "--port", str(port), *options]
        super().__init__(*words, cwd=cwd, env=env, handed=handed)

    def listening(self) -> str:
        """Return its URL once it listens, whether or not it is ready."""
        self.says("listening on ")
        found = _URL.search(self.err, self.err.index("listening on "))
        assert found is not None
        return found[0]

    def ready(self) -> str:
        """Return its URL once it is ready."""
        self.says("is ready")
        return self.listening()

    @property
    def port(self) -> int:
        return httpx.URL(self.listening()).port or 0
