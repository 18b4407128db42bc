"""Load on one URL from another process: wrk where it is installed, else a client of our own.

`python -m benchmarks.load '{"port":…,"method":…,"path":…,"body":…,"connections":…,"seconds":…}'` is
the own one: raw protocols on uvloop, one request at a time a connection.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import uvloop

from benchmarks.report import ROOT, percentile
from benchmarks.servers import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_CHUNK: Final = b"0\r\n\r\n"
_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, by how many connections, for how long."""

    port: int
    method: str
    path: str
    body: str = ""
    connections: int = 64
    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What the client saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Return answers a second."""
        return self.requests / self.seconds


def client_name() -> str:
    """Say which client is used."""
    return "wrk, 1 thread" if shutil.which("wrk") else "own asyncio client on uvloop"


def run(load: Load) -> Measured:
    """Put the load on, from another process. Any answer but 2xx is an error."""
    return _wrk(load) if shutil.which("wrk") else _own(load)


def _own(load: Load) -> Measured:
    command = [sys.executable, "-m", "benchmarks.load", json.dumps(asdict(load))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Measured(**json.loads(done.stdout))


def _wrk(load: Load) -> Measured:
    script = (
        f'wrk.method = "{load.method}"\n'
        f'wrk.headers["X-API-Key"] = "{KEY}"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    if load.body:
        script += f"wrk.body = [[{load.body}]]\n"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        url = f"http://127.0.0.1:{load.port}{load.path}"
        command = ["wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(load.seconds))}s"]
        done = subprocess.run(
            [*command, "--latency", "--timeout", "60s", "-s", file.name, url],
            capture_output=True,
            text=True,
            check=True,
        )
    return _read_wrk(done.stdout)


def _read_wrk(text: str) -> Measured:
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    total = re.search(r"(\d+) requests in ([\d.]+)s", text)
    shares = dict(re.findall(r"(50|99)%\s+([\d.]+(?:us|ms|s))\n", text))
    if total is None or len(shares) != 2:
        raise RuntimeError(text)
    return Measured(int(total[1]), float(total[2]), _ms(shares["50"]), _ms(shares["99"]))


def _ms(text: str) -> float:
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * _UNITS[unit]


# ------------------------------------------------------------ the own client


class _Connection(asyncio.Protocol):
    """Asks again as soon as it has its answer, until it is told to stop."""

    def __init__(self, request: bytes, until: float, ended: Callable[[], None]) -> None:
        self._request = request
        self._until = until
        self._ended = ended
        self._got = b""
        self._asked = 0.0
        self.latencies: list[float] = []
        self.fault = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head_end = self._got.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._got[:head_end].lower()
        if b"content-length: " in head:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self._got) < head_end + 4 + length:
                return
        elif not self._got.endswith(_LAST_CHUNK):
            return
        now = time.perf_counter()
        self.latencies.append(now - self._asked)
        if not head.startswith(b"http/1.1 2"):
            self.fault = self._got.decode()
        self._got = b""
        if self.fault or now >= self._until:
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fault = self.fault or (repr(exc) if exc else "")
        self._ended()


def _same(connection: _Connection) -> _Connection:
    return connection


async def _measure(load: Load) -> dict[str, Any]:
    request = _request(load)
    began = time.perf_counter()
    until = began + load.seconds
    loop = asyncio.get_running_loop()
    left = load.connections
    over = loop.create_future()

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set_result(None)

    connections = [_Connection(request, until, ended) for _ in range(load.connections)]
    for connection in connections:
        await loop.create_connection(partial(_same, connection), "127.0.0.1", load.port)
    await over
    took = time.perf_counter() - began
    for connection in connections:
        if connection.fault:
            raise RuntimeError(connection.fault)
    latencies = [value * 1e3 for connection in connections for value in connection.latencies]
    return asdict(
        Measured(len(latencies), took, percentile(latencies, 0.5), percentile(latencies, 0.99))
    )


def _request(load: Load) -> bytes:
    lines = [
        f"{load.method} {load.path} HTTP/1.1",
        f"Host: 127.0.0.1:{load.port}",
        f"X-API-Key: {KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(load.body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + load.body).encode()


def main() -> None:
    load = Load(**json.loads(sys.argv[1]))
    print(json.dumps(uvloop.run(_measure(load))))


if __name__ == "__main__":
    main()
