"""Run a command that must end: `python -m tools.bounded SECONDS NAME -- COMMAND…`.

Its output is passed on. When it has ended, whatever it left running is named and killed: a server
that a test forgot would else hold the pipe that the caller reads to its end. When its time is over,
the tests that were running are named (tests/hang_guard.py notes them), their processes are asked
for their stacks, and all is killed; SIGTERM does the same before that time. Exit status: the
command's, or 124 as `timeout` has it.

It runs before there is an environment, so the standard library is all it needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from tools import processes

if TYPE_CHECKING:
    from types import FrameType

RUNNING_DIR: Final = "STEPFLOW_TESTS_RUNNING_DIR"
OVER: Final = 124
STACKS_S: Final = 3.0
"""How long a process may take to write its stacks."""


def run(command: list[str], seconds: float, name: str) -> int:
    """Run the command to its end or to the end of its time; leave nothing of it behind."""
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, _on_sigterm)
    with tempfile.TemporaryDirectory(prefix="running-") as notes:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, RUNNING_DIR: notes},
        )
        assert child.stdout is not None
        relay = threading.Thread(target=_relay, args=(child.stdout,), daemon=True)
        relay.start()
        started = time.monotonic()
        try:
            status = child.wait(seconds)
        except (subprocess.TimeoutExpired, InterruptedError):
            status = OVER
            _tell(f"{name}: not done after {time.monotonic() - started:.0f} s")
            _tell_what_runs(Path(notes))
        finally:
            _end_all(name)
        relay.join(5)
    return status if status >= 0 else 128 - status


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    raise InterruptedError(number)


def _end_all(name: str) -> None:
    left = processes.below(os.getpid())
    for process in left:
        _tell(f"{name}: left behind: {process}")
    # What is killed may just have started another.
    for _ in range(3):
        left = processes.end(left, wait_s=10)
        for process in left:
            _tell(f"{name}: cannot be killed: {process}")
        left = processes.below(os.getpid())
        if not left:
            return


def _tell_what_runs(notes: Path) -> None:
    ours = {process.pid for process in processes.below(os.getpid())}
    for note in sorted(notes.iterdir()):
        worker, _, pid = note.name.rpartition("-")
        started, _, test = note.read_text(encoding="utf-8").strip().partition(" ")
        if int(pid) in ours:
            _tell(f"{worker} has been in {test} for {time.time() - float(started or 0):.0f} s")
            processes.send(int(pid), signal.SIGUSR1)
    time.sleep(STACKS_S)


def _relay(source: IO[bytes]) -> None:
    # Unbuffered on both sides: what was written before a hang is seen.
    while piece := os.read(source.fileno(), 1 << 16):
        _write(piece)


def _tell(text: str) -> None:
    _write(f"== {text}\n".encode())


def _write(text: bytes) -> None:
    # A reader that has gone does not keep the rest from being ended.
    with contextlib.suppress(BrokenPipeError):
        while text:
            text = text[os.write(1, text) :]


def main(arguments: list[str]) -> int:
    if len(arguments) < 4 or arguments[2] != "--":
        print(__doc__)
        return 2
    return run(arguments[3:], float(arguments[0]), arguments[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
