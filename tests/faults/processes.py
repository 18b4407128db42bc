"""`stepflow serve` as a process of its own, that faults are done to, and that is always ended.

::

    setpriv (dies with us) ── strace | prlimit | unshare | … ── setpriv ── stepflow serve

All of it is one process group, which `close` kills. What it says goes to a file: nobody must read
a pipe, so a server that says much is never stopped by that.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from tests.faults.ledger import KEY, PATIENCE_S, Ledger, until
from tests.served import doomed, end_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]
APP: Final = ROOT / "tests" / "faults" / "app.py"
KIB: Final = 1024
SMALL: Final = {
    "STEPFLOW_SEGMENT_BYTES_FIRST": str(64 * KIB),
    "STEPFLOW_SEGMENT_BYTES_MAX": str(256 * KIB),
    "STEPFLOW_FRAME_BYTES_MAX": str(64 * KIB),
    "STEPFLOW_ROOM_RESERVE_BYTES": str(16 * KIB),
    "STEPFLOW_RESERVE_FILE_BYTES": str(64 * KIB),
    "STEPFLOW_FREE_BYTES_MIN": "0",
    "STEPFLOW_SNAPSHOT_WAL_BYTES": str(256 * KIB),
}
"""Small segments and snapshots, so that a short life has many of both."""

_URL = re.compile(r"listening on (http://\S+)")


class EndedError(AssertionError):
    """The server has ended before it said where it listens."""


class Served:
    """One life of a server. Used as a context manager; it ends with the block."""

    def __init__(
        self,
        data: Path,
        folder: Path,
        *,
        wrap: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        url_file: Path | None = None,
        app: Path = APP,
    ) -> None:
        """`folder` gets what it says; `wrap` goes before the command."""
        number = len(list(folder.glob("said-*.txt")))
        self.said_file = folder / f"said-{number:03d}.txt"
        self.url_file = url_file
        self._url = ""
        command = [
            *wrap,
            *doomed([sys.executable, "-m", "stepflow.cli.main", "serve"]),
            *(str(app), "--data", str(data), "--port", "0"),
        ]
        given = {name: text for name, text in os.environ.items() if "STEPFLOW" not in name}
        given |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "STEPFLOW_API_KEYS": KEY}
        # Kills, writes and syncs are counted: a second process would take some.
        given |= {"STEPFLOW_CHECK_RUNS_MAX": "0"}
        given |= {"STEP_LOG": str(folder / "steps.log")} | SMALL | dict(env or {})
        with self.said_file.open("wb") as said:
            self.process = subprocess.Popen(
                doomed(command),
                cwd=ROOT,
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> int:
        """Kill what lives of it; return its exit status."""
        return end_group(self.process)

    @property
    def said(self) -> str:
        """All that it has said so far."""
        return self.said_file.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def url(self) -> str:
        """Where it listens; waits until it does."""
        if not self._url:
            until(lambda: _URL.search(self.said) or not self.alive, lambda: self.said)
            found = _URL.search(self.said)
            if found is None:
                raise EndedError(f"it ended with {self.process.poll()}: {self.said}")
            self._url = found[1]
        return self._url

    def ready(self) -> Self:
        """Wait until it serves, then tell the load where."""
        until(lambda: self.status("/ready") == 200 or not self.alive, lambda: self.said)
        assert self.alive, f"it ended with {self.process.poll()}: {self.said}"
        self.tell()
        return self

    def tell(self) -> None:
        """Tell the load where it is."""
        if self.url_file is not None:
            draft = self.url_file.with_suffix(".new")
            draft.write_text(self.url)
            draft.replace(self.url_file)

    def status(self, path: str) -> int:
        """Return the status of a GET, 0 when there was no answer."""
        try:
            return httpx.get(f"{self.url}{path}", headers={"X-API-Key": KEY}).status_code
        except (httpx.HTTPError, EndedError):
            return 0

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.url}{path}", headers={"X-API-Key": KEY}, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}{path}",
            json=body,
            headers={"X-API-Key": KEY} | headers,
            timeout=PATIENCE_S,
        )

    def trigger(self, workflow: str, body: Any) -> str:
        """Start a run; return its id once that is acknowledged."""
        answer = self.post(f"/trigger/{workflow}", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["runId"])

    def result(self, run_id: str) -> Any:
        """Return the result of the run when it has completed."""
        shown = until(
            lambda: (found := self.get(f"/runs/{run_id}"))["status"] != "running" and found,
            lambda: f"{run_id} runs on: {self.said}",
        )
        assert shown["status"] == "completed", shown
        return shown["result"]

    def signal(self, number: int) -> None:
        """Send the server itself a signal, not what it is wrapped in."""
        os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        """The pid of the server itself, behind its wrappers."""
        pid = self.process.pid
        while "stepflow.cli.main" not in _command(pid)[:3]:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            assert children, f"the server has ended: {self.said}"
            pid = int(children[0])
        return pid

    def kill(self) -> None:
        """End it at once, as the kernel's out-of-memory killer would."""
        self.signal(signal.SIGKILL)
        self.ended()

    def ended(self, within_s: float = PATIENCE_S) -> int:
        """Wait for its end; return the exit status."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.said}") from None


class Load:
    """The load as a process of its own, at work until the block ends or `stop`."""

    def __init__(self, folder: Path, *, seed: int = 0, hands: int = 6) -> None:
        self.url_file = folder / "url"
        self._file = folder / "ledger"
        self._told = Ledger()
        words = [str(self.url_file), str(self._file), str(seed), str(hands)]
        self._process = subprocess.Popen(
            doomed([sys.executable, "-m", "tests.faults.load", *words]),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end_group(self._process)
        assert self._process.stdin
        self._process.stdin.close()

    def ledger(self) -> Ledger:
        """Return what it has been told so far; later facts do not change it."""
        assert self._process.poll() in (None, 0), "the load gave up"
        self._told.read(self._file)
        return deepcopy(self._told)

    def more(self, promises: int, server: Served) -> Ledger:
        """Wait until it was promised so much more, or the server has ended."""
        enough = self.ledger().acknowledged + promises

        def told() -> bool:
            self._told.read(self._file)
            return self._told.acknowledged >= enough or not server.alive

        until(told, lambda: server.said)
        return self.ledger()

    def pause(self) -> None:
        """Stop where it stands until `resume`, so that others have the machine."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> Ledger:
        """Let the calls under way end; return all that it was told."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(PATIENCE_S) == 0
        return self.ledger()


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def strace(*expressions: str, calls: str = "") -> list[str]:
    """Return the words that run a server under strace, with `--inject`s.

    strace counts `when=` for each thread by itself. With `--seccomp-bpf`, which would be faster, it
    sends no signal (seen with 6.1), so it is for errors and delays only.
    """
    traced = calls or ",".join(dict.fromkeys(e.partition(":")[0] for e in expressions))
    words = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={traced}"]
    if not any(":signal=" in expression for expression in expressions):
        words.append("--seccomp-bpf")
    for expression in expressions:
        words += ["-e", f"inject={expression}"]
    return words
