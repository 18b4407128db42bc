"""The processes below one: found, told and ended, however they were started. Linux only.

A process group is not enough: whoever starts a session of its own leaves it. So the caller becomes
the subreaper of all that it starts: what has lost its parent then becomes a child of the caller,
and the tree of /proc shows it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

PR_SET_CHILD_SUBREAPER: Final = 36


class Process(NamedTuple):
    """A process as /proc showed it."""

    pid: int
    parent: int
    state: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.state}) {self.command[:200]}"


def adopt_orphans() -> None:
    """Make this process the parent of all that is started below it and loses its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def below(pid: int) -> list[Process]:
    """Return what lives below the process, parents first; the dead that nobody has reaped not."""
    children: defaultdict[int, list[Process]] = defaultdict(list)
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and (process := _read(directory)) is not None:
            children[process.parent].append(process)
    found = list(children[pid])
    for process in found:
        found += children[process.pid]
    return [process for process in found if process.state != "Z"]


def end(processes: list[Process], *, grace_s: float = 0.0, wait_s: float = 10.0) -> list[Process]:
    """Ask them to end, then kill them; return those that did not die, which hang in the kernel."""
    alive = processes
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, wait_s)):
        if seconds:
            for process in alive:
                send(process.pid, number)
            alive = _alive_after(seconds, alive)
    return alive


def send(pid: int, number: signal.Signals) -> None:
    """Send the signal, if there is still someone to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def reap() -> None:
    """Take the exit statuses of orphans that have ended. Not while a child's own is waited for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _alive_after(seconds: float, processes: list[Process]) -> list[Process]:
    deadline = time.monotonic() + seconds
    while processes and time.monotonic() < deadline:
        time.sleep(0.05)
        processes = [process for process in processes if _lives(process)]
    return processes


def _lives(process: Process) -> bool:
    now = _read(Path(f"/proc/{process.pid}"))
    return now is not None and now.state != "Z"


def _read(directory: Path) -> Process | None:
    try:
        stat = (directory / "stat").read_text(encoding="utf-8", errors="replace")
        words = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold brackets and spaces itself.
    name, _, rest = stat.rpartition(")")
    state, parent = rest.split()[:2]
    command = words.decode(errors="replace").strip() or name.partition("(")[2]
    return Process(int(directory.name), int(parent), state, command)
