"""What the present code makes of the live runs, asked of a child process after a start.

::

    ready ──► one child: `stepflow check TARGET --json`, niced, first to go when memory is short
                 │ a line a run ──► counted as it comes
                 └─ ended: by itself │ by its time │ by this process's stop
              ──► one log entry, `check` in the body of /ready

It takes no lock and writes nothing; it loads TARGET anew and replays bodies, so it has no business
in the loop or in the memory of the process that serves. Whatever becomes of it, nothing here
depends on it: a failure is said and is all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
from bisect import insort
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from stepflow.clock import SystemClock, rfc3339
from stepflow.config import MEMORY
from stepflow.engine.checking import Checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.config import Settings
    from stepflow.engine.local import LocalEngine

__all__ = ["CheckStatus", "CodeReport", "check_code", "check_command"]

_log = logging.getLogger("stepflow.check")

CheckStatus = Literal["off", "running", "complete", "incomplete", "failed"]
_SHOWN_MAX: Final = 5
_TEXT_MAX: Final = 300
_LINES_TOLD: Final = 3
_LINE_BYTES_MAX: Final = 1024 * 1024
_SAID_BYTES_MAX: Final = 4096
_READ_BYTES: Final = 64 * 1024
_POLL_S: Final = 0.2
_MARGIN_S: Final = 2.0
"""So much longer than the child's own alarm we wait for it."""
_NICE: Final = 19
_DIVERGES: Final = 1
_MOVED: Final = frozenset({65, 74})
"""A snapshot may take a file away while the child reads: then once more."""
_PACKAGE: Final = Path(__file__).resolve().parents[1]


class CodeReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """What a check found."""

    status: CheckStatus
    """`off`: no run was looked at, by `check_runs_max`. `incomplete`: not all live runs were."""
    at: str = ""
    runs: int = 0
    """So many were looked at, the oldest first."""
    verdicts: dict[str, int] = {}
    """How many of them are safe, have new steps, unused results, a divergence, …"""
    diverging: list[Checked] = []
    """The first few that diverge."""
    diverging_workflows: list[str] = []
    """The workflows of all that do."""
    error: str = ""
    """Why it failed or is incomplete."""

    def public(self) -> dict[str, object]:
        """Return what anybody may see: `/ready` asks for no credentials, so no run is named."""
        return {
            "status": self.status,
            "at": self.at,
            "runs": self.runs,
            "verdicts": self.verdicts,
            "divergingWorkflows": self.diverging_workflows,
        }


def check_command(target: str, data_dir: str, settings: Settings) -> list[str]:
    """Return the child's command line: one run more than wanted, to know whether there are more."""
    # A file of the present directory must not stand in for a module of the standard library.
    path = ["-P"] if Path.cwd() != _PACKAGE.parent else []
    words = ["check", target, "--data", str(Path(data_dir).absolute()), "--json"]
    words += ["--limit", str(settings.check_runs_max + 1)]
    words += ["--within", f"{settings.check_time_s:g}"]
    return [sys.executable, *path, "-m", "stepflow.cli.main", *words]


async def check_code(engine: LocalEngine, target: str) -> CodeReport:
    """Check the engine's live runs against the code of `target`; say and return what was found.

    It does not raise for what the child does: a check that failed is a report, too.
    """
    settings, clock = engine.settings, SystemClock()
    if not (settings.check_runs_max and settings.check_time_s):
        return CodeReport("off")
    report = CodeReport("running", rfc3339(clock.wall_ms()))
    if engine.data_dir == MEMORY or not engine.metrics().get("stepflow_runs_live"):
        # What is in memory alone began with this code; and of nothing there is nothing to say.
        report.status = "complete"
        engine.checked = report.public()
        return report
    engine.checked = report.public()
    child = await _run_child(engine, target)
    if child.status in _MOVED:
        child = await _run_child(engine, target)
    report = _report(child, settings)
    report.at = rfc3339(clock.wall_ms())
    engine.checked = report.public()
    if not child.was_ended:
        _say(report, target, engine.data_dir)
    return report


async def _run_child(engine: LocalEngine, target: str) -> _Child:
    command = partial(check_command, target, engine.data_dir, engine.settings)
    child = _Child(command, engine.settings)
    engine.enders.add(child.end)
    try:
        await child.run()
    finally:
        child.end()
        engine.enders.discard(child.end)
    return child


def _report(child: _Child, settings: Settings) -> CodeReport:
    report = child.report
    if child.was_ended:
        report.status, report.error = "incomplete", "this process stops"
    elif child.timed_out:
        took = f"{settings.check_time_s:g} s (STEPFLOW_CHECK_TIME_S)"
        report.status, report.error = "incomplete", f"it had not ended after {took}"
    elif child.error:
        report.status, report.error = "failed", child.error
    elif child.more:
        most = f"{settings.check_runs_max:,} (STEPFLOW_CHECK_RUNS_MAX)"
        report.status, report.error = "incomplete", f"there are more than {most}"
    return report


def _say(report: CodeReport, target: str, data_dir: str) -> None:
    """Write one entry: what was found, and the next move where there is one."""
    move = f"`stepflow check {target} --data {data_dir}`"
    if report.status == "failed":
        _log.warning(
            "the live runs could not be checked against the code, and nothing depends on it: %s; "
            "see %s",
            report.error,
            move,
        )
        return
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(report.verdicts.items()))
    some = f"; not all: {report.error}" if report.error else ""
    diverging = report.verdicts.get("divergence", 0)
    if not diverging:
        _log.info(
            "checked %d live runs against the code%s%s", report.runs, told and f": {told}", some
        )
        return
    named = "; ".join(row.line()[:_TEXT_MAX] for row in report.diverging)
    more = diverging - len(report.diverging)
    _log.warning(
        "SFW404 %d of %d live runs do not fit the code: %s%s. They are parked when they would go "
        "on. Deploy code that fits, say renamed= where a step's function has another name, or fork "
        "or cancel them; %s names all (%s%s)",
        diverging,
        report.runs,
        named,
        f"; and {more} more" if more else "",
        move,
        told,
        some,
    )


class _Child:
    """The child process, minded by a thread: the loop neither forks nor waits for it."""

    def __init__(self, command: Callable[[], list[str]], settings: Settings) -> None:
        self._command = command
        self._settings = settings
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._over = False
        self._line = b""
        self._said = b""
        self.report = CodeReport("complete")
        self.more = False
        """There are more live runs than were wanted."""
        self.was_ended = False
        self.timed_out = False
        self.status = 0
        self.error = ""
        """Why what it found does not count; empty where it does."""

    async def run(self) -> None:
        """Run it to its end."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def work() -> None:
            try:
                self._mind()
            except Exception as error:  # noqa: BLE001  no memory, no process: said, and no more
                self.error = f"{type(error).__name__}: {error}"
            self._over = True
            with contextlib.suppress(RuntimeError):  # the loop has gone
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=work, name="stepflow-check", daemon=True).start()
        await done.wait()

    def end(self) -> None:
        """Kill it, if it lives; from any thread, as often as one likes."""
        with self._lock:
            self.was_ended |= not self._over
            self._kill()

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _mind(self) -> None:
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + self._settings.check_time_s + _MARGIN_S
        with self._lock:
            if self.was_ended:
                return
            # A group of its own: Ctrl-C is for the server, and all that it starts ends with it.
            process = self._process = subprocess.Popen(  # noqa: S603  our own command line
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
            _make_humble(process.pid)
        with process, selectors.DefaultSelector() as selector:
            assert process.stdout is not None
            assert process.stderr is not None
            selector.register(process.stdout, selectors.EVENT_READ, self._take)
            selector.register(process.stderr, selectors.EVENT_READ, self._hear)
            while selector.get_map():
                ready = selector.select(_POLL_S)
                for key, _ in ready:
                    data = os.read(key.fd, _READ_BYTES)
                    key.data(data)
                    if not data:
                        selector.unregister(key.fileobj)
                with self._lock:
                    if not ready and process.poll() is not None:
                        break  # something that it left behind holds its pipes
                    if clock.monotonic_s() > deadline_s:
                        self.timed_out = True
                        self._kill()
            with self._lock:
                self.status = process.wait()
        self._judge()

    def _judge(self) -> None:
        self.timed_out |= self.status == -signal.SIGALRM
        # Python, too, leaves with 1.
        diverges = self.status == _DIVERGES and "divergence" in self.report.verdicts
        if not self.status or diverges or self.more or self.timed_out:
            return
        said = self._said.decode(errors="replace").strip().splitlines()
        last = " / ".join(line.strip() for line in said[-_LINES_TOLD:])
        self.error = last[:_TEXT_MAX] or f"it ended with status {self.status}"

    def _take(self, data: bytes) -> None:
        """Take what it wrote: a run a line, and whatever the target itself prints."""
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[-_LINE_BYTES_MAX:]
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):
                self._count(msgspec.json.decode(line, type=Checked))

    def _count(self, row: Checked) -> None:
        report = self.report
        self.more = report.runs >= self._settings.check_runs_max
        if self.more:
            return
        report.runs += 1
        report.verdicts[row.verdict] = report.verdicts.get(row.verdict, 0) + 1
        if row.verdict == "divergence":
            if len(report.diverging) < _SHOWN_MAX:
                report.diverging.append(row)
            if row.workflow_id not in report.diverging_workflows:
                insort(report.diverging_workflows, row.workflow_id)

    def _hear(self, data: bytes) -> None:
        self._said = (self._said + data)[-_SAID_BYTES_MAX:]


def _make_humble(pid: int) -> None:
    """Let it have what is left of the processors, and let it go first when memory is short."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
