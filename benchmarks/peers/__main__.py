"""W1 on ours and on theirs, alternating in one run: `make peers` (or `python -m benchmarks.peers`).

W1 is a workflow of three steps, each returning a small dict, started over and over and awaited to
its end, everything durable before it counts. Each contestant is a process, started anew for each
repeat, alone on the machine while it is measured. The peers live in an environment of their own,
`build/peers`, which `make peers` makes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.peers.postgres import postgres, programs
from benchmarks.report import (
    ROOT,
    WORK,
    data_directory,
    finish,
    ratios,
    spread,
    surroundings,
)
from benchmarks.servers import KEY, ask, free_port, product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HERE: Final = ROOT / "benchmarks" / "peers"
PEERS: Final = ROOT / "build" / "peers"
PYTHON: Final = PEERS / "venv" / "bin" / "python"
IN_FLIGHT: Final = (1, 64, 1000)
PACKAGES: Final = ("dbos", "restate-sdk", "absurd-sdk", "llama-index-workflows")
OURS: Final = "stepflow"


@dataclass(frozen=True)
class Contestant:
    """Who is measured: how it is started, and at how many in flight it is asked."""

    name: str
    start: Callable[[Path], contextlib.AbstractContextManager[list[str]]]
    durability: str
    in_flight: tuple[int, ...] = IN_FLIGHT
    yardstick: str = OURS


@contextlib.contextmanager
def _ours(directory: Path) -> Iterator[list[str]]:
    yield [sys.executable, "stepflow_app.py", str(directory / "data")]


@contextlib.contextmanager
def _bare(directory: Path) -> Iterator[list[str]]:
    yield [sys.executable, "bare_loop.py", str(directory / "log")]


@contextlib.contextmanager
def _dbos_sqlite(directory: Path) -> Iterator[list[str]]:
    yield [str(PYTHON), "dbos_app.py", f"sqlite:///{directory / 'dbos.sqlite'}"]


@contextlib.contextmanager
def _dbos_postgres(directory: Path) -> Iterator[list[str]]:
    with postgres(directory) as url:
        yield [str(PYTHON), "dbos_app.py", url]


@contextlib.contextmanager
def _absurd(directory: Path) -> Iterator[list[str]]:
    with postgres(directory) as url:
        environment = os.environ | {"ABSURD_DATABASE_URL": url}
        environment["PATH"] = f"{programs()}:{os.environ['PATH']}"
        command = [str(PEERS / "venv" / "bin" / "absurdctl"), "init"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        yield [str(PYTHON), "absurd_app.py", url]


@contextlib.contextmanager
def _llama(directory: Path) -> Iterator[list[str]]:
    del directory
    yield [str(PYTHON), "llama_app.py"]


@contextlib.contextmanager
def _restate(directory: Path) -> Iterator[list[str]]:
    service, ingress, admin, node = (free_port() for _ in range(4))
    environment = os.environ | {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
        "DO_NOT_TRACK": "1",
    }
    server = [str(PEERS / "npm" / "node_modules" / ".bin" / "restate-server")]
    with (
        _process([*server, "--base-dir", str(directory)], environment),
        _process(
            [str(PYTHON), "-m", "hypercorn", "-b", f"127.0.0.1:{service}", "restate_service:app"],
            dict(os.environ),
        ),
    ):
        _until(lambda: ask(admin, "GET", "/health")[0] == 200)
        deployment = json.dumps({"uri": f"http://127.0.0.1:{service}"}).encode()
        _until(lambda: ask(admin, "POST", "/deployments", deployment)[0] in {200, 201})
        yield [sys.executable, "http_app.py", "restate", str(ingress)]


@contextlib.contextmanager
def _ours_http(directory: Path) -> Iterator[list[str]]:
    with product(directory / "data") as port:
        yield [sys.executable, "http_app.py", "stepflow", str(port), KEY]


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen(
        command, cwd=HERE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _until(it_is: Callable[[], bool], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not it_is():
        if time.monotonic() > end:
            raise RuntimeError("a peer did not come up")
        time.sleep(0.1)


CONTESTANTS: Final = (
    Contestant(OURS, _ours, "fdatasync of the journal before each answer"),
    Contestant("bare loop", _bare, "fdatasync of a file before each step"),
    Contestant("DBOS, SQLite", _dbos_sqlite, "its default file", (1, 64)),
    Contestant("DBOS, PostgreSQL", _dbos_postgres, "synchronous_commit=on", (1, 64)),
    Contestant("Absurd, PostgreSQL", _absurd, "synchronous_commit=on", (1, 64)),
    Contestant("llama-index-workflows", _llama, "none: in memory", (1, 64)),
    Contestant("stepflow over HTTP", _ours_http, "as in process"),
    Contestant("Restate over HTTP", _restate, "its default", yardstick="stepflow over HTTP"),
)


def measured(who: Contestant, seconds: float) -> dict[int, dict[str, float]]:
    """Start it, measure it at each number in flight, stop it."""
    figures: dict[int, dict[str, float]] = {}
    with data_directory() as directory, who.start(directory) as command:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
        with subprocess.Popen(
            command,
            cwd=HERE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                _next(process)
                for n in who.in_flight:
                    _tell(process, n, min(1.0, seconds))
                    figures[n] = _tell(process, n, seconds)
            finally:
                process.kill()
    return figures


def _tell(process: subprocess.Popen[str], in_flight: int, seconds: float) -> dict[str, float]:
    if process.stdin is None:
        raise RuntimeError("started without a pipe")
    process.stdin.write(json.dumps({"in_flight": in_flight, "seconds": seconds}) + "\n")
    process.stdin.flush()
    return _next(process)


def _next(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return the next line of JSON; a library may print other lines of its own."""
    if process.stdout is None:
        raise RuntimeError("started without a pipe")
    for line in process.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    raise RuntimeError(f"{process.args} ended without an answer")


def versions() -> dict[str, str]:
    """Return the peers' versions."""
    code = (
        "import importlib.metadata as m, json;"
        f"print(json.dumps({{p: m.version(p) for p in {PACKAGES!r}}}))"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    server = PEERS / "npm" / "node_modules" / "@restatedev" / "restate-server" / "package.json"
    return found | {"restate-server": json.loads(server.read_text(encoding="utf-8"))["version"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short: shows that they work")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=str, default=str(ROOT / "benchmarks" / "peers.json"))
    options = parser.parse_args()
    if not PYTHON.exists():
        parser.error("the peers are not installed: make peers-env")
    seconds = 1.0 if options.quick else 6.0
    repeats = 1 if options.quick else options.repeats
    seen: dict[str, dict[int, list[dict[str, float]]]] = {}
    for repeat in range(repeats):
        for who in CONTESTANTS:
            figures = measured(who, seconds)
            for n, figure in figures.items():
                seen.setdefault(who.name, {}).setdefault(n, []).append(figure)
            rates = ", ".join(f"{n}: {f['runs'] / f['seconds']:,.0f}" for n, f in figures.items())
            print(f"{repeat + 1}/{repeats} {who.name:24} runs a second at {rates}", flush=True)
    out = surroundings() | {"peers": versions(), "quick": options.quick, "seconds_each": seconds}
    where = (WORK / "peers.json") if options.quick else type(ROOT)(options.json)
    finish(out | {"figures": {who.name: _shown(who, seen) for who in CONTESTANTS}}, where)


def _shown(who: Contestant, seen: dict[str, dict[int, list[dict[str, float]]]]) -> dict[str, Any]:
    shown: dict[str, Any] = {"durability": who.durability, "yardstick": who.yardstick}
    for n, figures in seen[who.name].items():
        rates = [f["runs"] / f["seconds"] for f in figures]
        beside = [f["runs"] / f["seconds"] for f in seen[who.yardstick][n]]
        shown[str(n)] = spread(rates, 1) | {
            "p50_ms": spread([f["p50_ms"] for f in figures], 2),
            "p99_ms": spread([f["p99_ms"] for f in figures], 2),
            "ours_to_it": ratios(beside, rates),
        }
    return shown


if __name__ == "__main__":
    main()
