"""W1 on ours and on theirs, alternating in one run: `make peers` (or `python -m benchmarks.peers`).

W1 is a workflow of three steps, each returning a small dict, started over and over and awaited to
its end, everything durable before it counts. Each contestant is a process, started anew for each
repeat, alone on the machine while it is measured. The peers live in an environment of their own,
`build/peers`, which `make peers` makes. One that cannot be started is left out and named, with what
it said; ours must run.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.peers.postgres import postgres
from benchmarks.report import ROOT, arguments, data_directory, finish, ratios, spread
from benchmarks.servers import KEY, ask, product, yardstick
from tools.ports import free_port
from tools.postgres import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HERE: Final = ROOT / "benchmarks" / "peers"
PEERS: Final = ROOT / "build" / "peers"
PYTHON: Final = PEERS / "venv" / "bin" / "python"
IN_FLIGHT: Final = (1, 64, 1000)
PACKAGES: Final = (
    "dbos",
    "restate-sdk",
    "absurd-sdk",
    "llama-index-workflows",
    "llama-agents-server",
)
OURS: Final = "stepflow"
OURS_HTTP: Final = "stepflow over HTTP"
UNKNOWN: Final = "not installed"


@dataclass(frozen=True)
class Contestant:
    """Who is measured: how it is started, and at how many in flight it is asked."""

    name: str
    start: Callable[[Path], contextlib.AbstractContextManager[list[str]]]
    durability: str
    in_flight: tuple[int, ...] = IN_FLIGHT
    over_http: bool = False


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
def dbos_postgres(directory: Path) -> Iterator[list[str]]:
    with postgres(directory) as url:
        yield [str(PYTHON), "dbos_app.py", url]


@contextlib.contextmanager
def absurd(directory: Path) -> Iterator[list[str]]:
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
def _llama_server(directory: Path) -> Iterator[list[str]]:
    port = free_port()
    command = [str(PYTHON), "llama_server_app.py", str(port), str(directory / "handlers.db")]
    with _process(command, dict(os.environ)):
        _until(lambda: ask(port, "GET", "/health")[0] == 200)
        yield [sys.executable, "http_app.py", "llama", str(port)]


@contextlib.contextmanager
def _echo(directory: Path) -> Iterator[list[str]]:
    del directory
    with yardstick("echo") as port:
        yield [sys.executable, "http_app.py", "echo", str(port)]


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
    Contestant(
        "DBOS, SQLite",
        _dbos_sqlite,
        "its default file: rollback journal, synchronous=FULL",
        (1, 64),
    ),
    Contestant("DBOS, PostgreSQL", dbos_postgres, "fsync=on, synchronous_commit=on", (1, 64)),
    Contestant("Absurd, PostgreSQL", absurd, "fsync=on, synchronous_commit=on", (1, 64)),
    Contestant("llama-index-workflows", _llama, "nothing: in memory", (1, 64)),
    Contestant(OURS_HTTP, _ours_http, "as in process", over_http=True),
    Contestant(
        "Restate over HTTP",
        _restate,
        "its default: fsync of its log (rocksdb-disable-wal-fsync=false)",
        over_http=True,
    ),
    Contestant(
        "llama-agents-server over HTTP",
        _llama_server,
        "its SQLite store: WAL, synchronous=FULL, each event",
        (1, 64),
        over_http=True,
    ),
    Contestant("bare Starlette echo", _echo, "nothing: the least over HTTP", over_http=True),
)


def measured(who: Contestant, seconds: float) -> dict[int, dict[str, float]]:
    """Start it, measure it at each number in flight, stop it."""
    figures: dict[int, dict[str, float]] = {}
    with (
        data_directory() as directory,
        who.start(directory) as command,
        started(command) as process,
    ):
        for n in who.in_flight:
            tell(process, in_flight=n, seconds=min(1.0, seconds))
            figures[n] = tell(process, in_flight=n, seconds=seconds)
    return figures


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a contestant's command; give its process once it is ready to be told."""
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
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], **order: float) -> dict[str, float]:
    """Let it keep so many `in_flight` for so many `seconds`; return what it saw."""
    if process.stdin is None:
        raise RuntimeError("started without a pipe")
    process.stdin.write(json.dumps(order) + "\n")
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
        "found = {d.name: d.version for d in m.distributions()};"
        f"print(json.dumps({{p: found.get(p, {UNKNOWN!r}) for p in {PACKAGES!r}}}))"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    server = PEERS / "npm" / "node_modules" / "@restatedev" / "restate-server" / "package.json"
    restate = UNKNOWN
    if server.exists():
        restate = json.loads(server.read_text(encoding="utf-8"))["version"]
    return found | {"restate-server": restate, "PostgreSQL": _postgres_version()}


def _postgres_version() -> str:
    where = programs()
    if where is None:
        return UNKNOWN
    done = subprocess.run([where / "postgres", "-V"], capture_output=True, text=True, check=True)
    return done.stdout.split()[2]


Seen = dict[str, dict[int, list[dict[str, float]]]]
"""By contestant and number in flight: each repeat's figures."""


def measure(repeats: int, seconds: float) -> tuple[Seen, dict[str, str]]:
    """Let all take turns; return what was seen, and who was left out and why."""
    seen: Seen = {}
    left_out: dict[str, str] = {}
    for repeat in range(repeats):
        for who in CONTESTANTS:
            if who.name in left_out:
                continue
            try:
                figures = measured(who, seconds)
            except Exception as error:
                if who.start in {_ours, _ours_http, _bare, _echo}:
                    raise
                left_out[who.name] = first_line(error)
                seen.pop(who.name, None)
                print(f"{who.name} is left out: {error}", file=sys.stderr, flush=True)
                continue
            for n, figure in figures.items():
                seen.setdefault(who.name, {}).setdefault(n, []).append(figure)
            rates = ", ".join(f"{n}: {f['runs'] / f['seconds']:,.0f}" for n, f in figures.items())
            print(
                f"{repeat + 1}/{repeats} {who.name:30} runs a second at {rates}",
                file=sys.stderr,
                flush=True,
            )
    return seen, left_out


def first_line(error: Exception) -> str:
    """Return what to say of a contestant that could not be started."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def main() -> None:
    options = arguments("The same workflow on ours and on theirs")
    if not PYTHON.exists():
        sys.exit("the peers are not installed: make peers-env")
    seconds, repeats = (1.0, 1) if options.quick else (4.0, options.repeats)
    seen, left_out = measure(repeats, seconds)
    facts = {
        "peers": versions(),
        "left_out": left_out,
        "seconds_each": seconds,
        "client": "raw keep-alive connections on uvloop, in a process of its own",
        "gc": "ours and the ceilings: as serve has it; the peers: as they leave it",
    }
    shown = {who.name: _shown(who, seen) for who in CONTESTANTS if who.name in seen}
    finish(facts | {"contestants": shown}, options.json)


def _shown(who: Contestant, seen: Seen) -> dict[str, Any]:
    shown: dict[str, Any] = {"durability": who.durability, "over_http": who.over_http}
    for n, figures in seen[who.name].items():
        rates = _rates(figures)
        shown[str(n)] = spread(rates, 1) | {
            "p50_ms": spread([f["p50_ms"] for f in figures], 2),
            "p99_ms": spread([f["p99_ms"] for f in figures], 2),
        }
        if who.name != OURS:
            shown[str(n)]["ours_to_it"] = ratios(_rates(seen[OURS][n]), rates)
        if who.over_http and who.name != OURS_HTTP:
            shown[str(n)]["ours_over_http_to_it"] = ratios(_rates(seen[OURS_HTTP][n]), rates)
    return shown


def _rates(figures: list[dict[str, float]]) -> list[float]:
    return [f["runs"] / f["seconds"] for f in figures]


if __name__ == "__main__":
    main()
