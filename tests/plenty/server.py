"""`stepflow serve` as a process of its own that always ends: what runs die and floods break on."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from tests.served import doomed, end_group

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
KEY: Final = "plenty-test-key-0123456789"
PATIENCE_S: Final = 90.0
"""How long something may take on a crowded machine before a test says that it never came."""
MIB: Final = 1024 * 1024

_URL = re.compile(r"listening on (http://\S+)")


class Served:
    """One life of a server of `app`, with the data in `folder`. It ends with the block."""

    def __init__(
        self,
        folder: Path,
        app: str,
        *,
        env: Mapping[str, str] | None = None,
        address_space: int = 0,
    ) -> None:
        """`address_space` is the most bytes that it may map; 0 for as many as it likes."""
        self.said_file = folder / f"said-{len(list(folder.glob('said-*.txt'))):03d}.txt"
        self._url = ""
        given = {name: text for name, text in os.environ.items() if "STEPFLOW" not in name}
        given |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "STEPFLOW_API_KEYS": KEY}
        # Memory and time are measured: no second process takes part.
        given |= {"STEPFLOW_CHECK_RUNS_MAX": "0"}
        limits = [f"--as={address_space}"] if address_space else []
        command = [
            *(["prlimit", *limits, "--"] if limits else []),
            *(sys.executable, "-m", "stepflow.cli.main", "serve", str(ROOT / app)),
            *("--data", str(folder / "data"), "--port", "0"),
        ]
        with self.said_file.open("wb") as said:
            self.process = subprocess.Popen(
                doomed(command),
                cwd=folder,
                env=given | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Each command of the chain puts itself in place of the one before: one process, one pid.
        self.pid = self.process.pid
        self.client = httpx.Client(headers={"X-API-Key": KEY}, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        end_group(self.process)

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
            assert found, f"it ended with {self.process.poll()}: {self.said}"
            self._url = found[1]
        return self._url

    def ready(self) -> Self:
        """Wait until it serves."""
        assert self.ready_or_dead(), f"it ended with {self.process.poll()}: {self.said}"
        return self

    def ready_or_dead(self) -> bool:
        """Wait until it serves or has ended; say whether it serves."""
        until(lambda: not self.alive or _URL.search(self.said), lambda: self.said)
        until(lambda: not self.alive or self.status("/ready") == 200, lambda: self.said)
        return self.alive

    def status(self, path: str) -> int:
        """Return the status of a GET, 0 when there was no answer."""
        try:
            return self.client.get(f"{self.url}{path}").status_code
        except (httpx.HTTPError, AssertionError):
            return 0

    def get(self, path: str) -> Any:
        answer = self.client.get(f"{self.url}{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.client.post(f"{self.url}{path}", json=body)

    def trigger(self, workflow: str, body: Any = None) -> str:
        """Start a run; return its id once that is acknowledged."""
        answer = self.post(f"/trigger/{workflow}", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["runId"])

    def result(self, run_id: str) -> Any:
        """Return the result of the run when it has completed."""

        def ended() -> Any:
            found = self.get(f"/runs/{run_id}")
            return found if found["status"] != "running" else None

        shown = until(ended, lambda: f"{run_id} runs on: {self.said}")
        assert shown["status"] == "completed", shown
        return shown["result"]

    def metric(self, name: str) -> float:
        """Return one figure of /metrics."""
        answer = self.client.get(f"{self.url}/metrics")
        found = re.search(rf"^{name} (\S+)$", answer.text, re.MULTILINE)
        assert found, answer.text
        return float(found[1])

    def kill(self) -> None:
        """End it at once, as the kernel's out-of-memory killer would."""
        self.process.send_signal(signal.SIGKILL)
        self.ended()

    def stop(self) -> int:
        """End it as an operator does; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; return the exit status."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.said}") from None

    @contextmanager
    def grows_at_most(self, nbytes: int) -> Generator[None]:
        """Hold its memory to what it has at the start of the block, and so much more at any time.

        The highest amount is the kernel's own count, so no moment is missed.
        """
        before = self.resident_bytes()
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        yield
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
        assert found, f"it has ended: {self.said}"
        grown = int(found[1]) * 1024 - before
        assert grown <= nbytes, f"grew by {grown // MIB} MiB, at most {nbytes // MIB} are right"

    def socket(self) -> socket.socket:
        """Return a connection that takes as little as it can without being read."""
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(PATIENCE_S)
        made.connect((httpx.URL(self.url).host, httpx.URL(self.url).port or 80))
        return made

    def resident_bytes(self) -> int:
        """Return how much of its memory is in the machine's."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()


def request(method: str, path: str, *, length: int = 0) -> bytes:
    """Return the head of a request whose body, of so many bytes, is sent by hand."""
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: plenty",
        f"X-API-Key: {KEY}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def until(
    what: Callable[[], Any], say: Callable[[], str] = lambda: "", within_s: float = PATIENCE_S
) -> Any:
    """Return what `what` returns once it is true."""
    ends = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < ends, f"never came true: {say()}"
        time.sleep(0.02)
    return found
