"""A server as a process that writes all it says to one file, and that no test leaves behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING

import httpx

from tests.cli_kit import environment, until
from tests.served import doomed, end_group
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["ServerProcess", "free_port", "running"]


class ServerProcess:
    """Started when made; `words` are the command without its port."""

    def __init__(self, words: list[str], log: Path, port: int, **env: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                doomed([*words, "--port", str(port)]),
                env=environment(**env),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The server's own process: what starts it becomes it."""
        return self._process.pid

    def until_ready(self) -> None:
        until(lambda: self._is_ready() or self._process.poll() is not None, self._log.read_text)
        assert self._process.poll() is None, self._log.read_text()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """SIGTERM; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def kill(self) -> None:
        """SIGKILL to it and whatever it started; harmless when it has gone."""
        end_group(self._process)


@contextlib.contextmanager
def running(words: list[str], log: Path, **env: str) -> Generator[str]:
    """Run a server; yield its URL once it is ready; stop it."""
    server = ServerProcess(words, log, free_port(), **env)
    try:
        server.until_ready()
        yield server.url
        server.stop()
    finally:
        server.kill()
