"""The local engine as it is deployed: one `stepflow serve`, on a directory of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.cli_kit import ROOT, Served

if TYPE_CHECKING:
    from pathlib import Path

APP = ROOT / "tests" / "conformance" / "app.py"
KEY = "conformance-key-0123456789"
# The claims come from one address, with many a bad credential.
ENV = {"STEPFLOW_API_KEYS": KEY, "STEPFLOW_AUTH_FAILURES_BURST": "100000"}


class LocalServer:
    """One process, one port. Satisfies `Deployment`."""

    api_key = KEY
    processes = ("server",)
    spare = ()

    def __init__(self, data: Path) -> None:
        self._data = data
        # A process that is `doomed` lives no longer than the thread that started it.
        self._starter = ThreadPoolExecutor(1)
        self._served: Served | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_urls(self) -> tuple[str]:
        return (self.url,)

    def start(self) -> None:
        self._starter.submit(self._start).result()

    def _start(self) -> None:
        options = ("--data", str(self._data))
        self._served = Served(APP, *options, cwd=self._data, port=self._port, **ENV)
        self._served.ready()
        self._port = self._served.port

    def stop(self) -> None:
        self.kill("server")
        self._starter.shutdown()

    def kill(self, process: str) -> None:
        assert process in self.processes
        if self._served is not None:
            self._served.kill()

    def revive(self, process: str) -> None:
        assert process in self.processes
        self.start()
