"""The hosts of the suite, and how each is started: a process, a real server, a port of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tests.served import doomed, end_group
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

APPS: Final = Path(__file__).with_name("apps")
KEY: Final = "a-key-of-the-hosts-suite-01"
PREFIX: Final = "/api/stepflow"
LISTENS: Final = re.compile(
    r"(?:[Rr]unning on|[Ll]istening (?:at:|on)|- Local:) +(http://127\.0\.0\.1:\d+)"
)


@dataclass(frozen=True, slots=True)
class Host:
    """`lives`: its own start and end print a line. `users`: it has a login of its own.

    `strays`: what is below the prefix and no route is answered by ours, not by the host.
    `speaks`: Python, and it has the engine in itself; or JavaScript, in front of a service.
    """

    name: str
    app: str
    package: str
    prefix: str = PREFIX
    lives: bool = False
    users: bool = False
    own: str | None = "own"
    server: str = "uvicorn"
    strays: bool = True
    target: str = "app"
    apps: Path = APPS
    speaks: Literal["Python", "JavaScript"] = "Python"
    heavy: bool = False
    """Whether it needs packages of hundreds of megabytes."""


HOSTS: Final = (
    Host("`flow.asgi()`", "served", "starlette", prefix="", own=None),
    Host("Starlette, `flow.mount`", "starlette_mount", "starlette", lives=True, users=True),
    Host("Starlette, `flow.routes`", "starlette_routes", "starlette", strays=False),
    Host("FastAPI, `mount`", "fastapi_mount", "fastapi", lives=True, users=True),
    Host("FastAPI, `app.mount`", "fastapi_by_hand", "fastapi"),
    Host("Litestar, plugin", "litestar_plugin", "litestar", lives=True, users=True),
    Host("Litestar, `flow.wrap`", "litestar_wrap", "litestar", lives=True),
    Host("Django, `flow.wrap`", "django_wrap", "django", users=True),
    Host("Flask, `flow.wrap`", "flask_wrap", "flask", users=True),
    Host("Quart, `flow.mount`", "quart_mount", "quart", lives=True),
)

SERVERS: Final = tuple(
    replace(host, name=f"{host.name}, on {server}", server=server)
    for server in ("granian",)
    for host in HOSTS
    if host.app in {"fastapi_mount", "django_wrap"}
)


@dataclass
class Process:
    """A host that runs. `said` is what it has printed, once it has ended.

    `service` is what it forwards to, if it is not the service itself.
    """

    popen: subprocess.Popen[str]
    url: str
    data: Path
    said: str = ""
    service: Process | None = None

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal; return the exit status, once the process has left."""
        self.popen.send_signal(number)
        return self.left()

    def left(self) -> int:
        assert self.popen.stdout is not None
        self.said += self.popen.stdout.read()
        return self.popen.wait(100)


def _command(host: Host, options: list[str]) -> list[str]:
    target = f"{host.app}:{host.target}"
    match host.server:
        case "granian":
            port = free_port()
            how = ["--interface", "asgi", "--port", str(port)]
            return ["granian", *how, *options, target]
        case _:
            return ["uvicorn", "--port", "0", "--no-access-log", *options, target]


@contextmanager
def started(host: Host, data: Path, *options: str, endpoints: str = "all") -> Generator[Process]:
    """Start the host, in Python, on its server; yield it when it listens."""
    environ = {
        "ENDPOINTS": endpoints,
        "DATA": str(data),
        "STEPFLOW_DATA_DIR": str(data),
        "STEPFLOW_API_KEYS": KEY,
        "PYTHONPATH": f"{host.apps}{os.pathsep}{Path(__file__).parents[2]}",
        "PYTHONUNBUFFERED": "1",
    }
    # granian names its address before anybody answers there.
    ready = "Started worker" if host.server == "granian" else ""
    command = [sys.executable, "-m", *_command(host, list(options))]
    with running(host.name, command, environ, ready=ready) as process:
        process.data = data
        yield process


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    cwd: Path | None = None,
    ready: str = "",
) -> Generator[Process]:
    """Run the command until it has said where it listens, and `ready`; yield it, and end it."""
    popen = subprocess.Popen(
        doomed(command),
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    process = Process(popen, "", cwd or Path())
    try:
        assert popen.stdout is not None
        for line in popen.stdout:
            process.said += line
            if found := LISTENS.search(line):
                process.url = found[1]
            if process.url and ready in line:
                break
        assert process.url, f"{name} did not start:\n{process.said}"
        yield process
    finally:
        end_group(popen)
        if popen.stdout is not None:
            popen.stdout.close()
