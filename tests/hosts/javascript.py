"""The JavaScript hosts: each a process, with the adapter of clients/js, before a real service.

    caller ── host (node, deno, bun, next start) ── stepflow serve

The caller's key is the host's own; the service's key is known to the host alone. What is heavy,
Next.js and the other runtimes, has its packages in tests/hosts/js.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.hosts.hosts import APPS, KEY, PREFIX, Host, Process, running
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "clients" / "js"
HEAVY: Final = Path(__file__).with_name("js")
SERVICE_KEY: Final = "the-key-that-stays-on-the-server"
INNER: Final = "/inner"
"""Where the service is mounted itself: a path of its own, which nobody outside hears of."""


def _host(name: str, app: str, server: str = "node", *, heavy: bool = False) -> Host:
    return Host(
        name,
        app,
        "",
        users=True,
        lives=app != "next",
        server=server,
        speaks="JavaScript",
        heavy=heavy,
    )


JS_HOSTS: Final = (
    _host("Hono on Node", "hono"),
    _host("Express on Node", "express"),
    _host("Fastify on Node", "fastify"),
    _host("the core, `Request` to `Response`, on Node", "core"),
    _host("Hono on Deno", "deno", "deno", heavy=True),
    _host("Hono on Bun", "bun", "bun", heavy=True),
    _host("Next.js, `next start`", "next", "next", heavy=True),
    _host("Next.js, `next dev`", "next", "next dev", heavy=True),
)


def missing(host: Host) -> str | None:
    """Return what has to be installed before the host can be tried, if anything has."""
    if shutil.which("node") is None:
        return "no node on this machine: make system-deps"
    if not (PACKAGE / "node_modules").is_dir():
        return "no node_modules in clients/js: make node-deps"
    if host.heavy and not (HEAVY / "node_modules" / ".bin").is_dir():
        return "no node_modules in tests/hosts/js: make hosts-deps"
    return None


@cache
def built() -> Path:
    """Build clients/js, once for this process; return it."""
    done = subprocess.run(
        ["node", "tools/build.mjs"], cwd=PACKAGE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return PACKAGE


@contextmanager
def service(data: Path) -> Generator[Process]:
    """Run `stepflow serve` below a path; yield it when it serves."""
    serve = "from stepflow.cli.main import main; main()"
    options = ["--data", str(data), "--port", "0", "--base-path", INNER]
    command = [sys.executable, "-c", serve, "serve", str(APPS / "hosted.py"), *options]
    environ = {
        "DATA": str(data),
        "STEPFLOW_API_KEYS": SERVICE_KEY,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    with running("the service", command, environ) as process:
        process.url += INNER
        process.data = data
        yield process


@contextmanager
def started(
    host: Host, behind: Process, *, below: str = "", endpoints: str = "all"
) -> Generator[Process]:
    """Start the host before the service, its API below `below` and the prefix."""
    package = built()
    environ = {
        "SERVICE_URL": behind.url,
        "SERVICE_KEY": SERVICE_KEY,
        "CALLER_KEY": KEY,
        "ENDPOINTS": endpoints,
        "PREFIX": below + PREFIX,
        "BASE_PATH": below,
        "NEXT_TELEMETRY_DISABLED": "1",
        "NO_COLOR": "1",
    }
    if host.app == "next":
        with _next(host, environ) as process:
            process.service = behind
            yield process
        return
    command = [*_runtime(host), f"build/hosts/{host.app}.js"]
    with running(host.name, command, environ, cwd=package) as process:
        process.service = behind
        yield process


def client_script(host: Host) -> Callable[[str, str], str]:
    """Return what runs our client on the host's runtime."""

    def run(url: str, key: str) -> str:
        command = [*_runtime(host), "build/hosts/client.js", url, key]
        done = subprocess.run(
            command, cwd=built(), capture_output=True, text=True, check=False, timeout=100
        )
        return done.stdout + done.stderr

    return run


def _runtime(host: Host) -> list[str]:
    binaries = HEAVY / "node_modules" / ".bin"
    match host.server:
        case "deno":
            return [str(binaries / "deno"), "run", "--allow-all", "--no-lock"]
        case "bun":
            return [str(binaries / "bun"), "run"]
        case _:
            return ["node"]


# ---------------------------------------------------------------- Next.js


@contextmanager
def _next(host: Host, environ: dict[str, str]) -> Generator[Process]:
    """Serve a site of Next.js's own, from a folder of its own, with our package as it is packed."""
    with _site() as site:
        command = ["node", str(HEAVY / "node_modules" / "next" / "dist" / "bin" / "next")]
        if host.server == "next":
            done = subprocess.run(
                [*command, "build"],
                cwd=site,
                env={**os.environ, **environ},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        port = free_port()
        word = "start" if host.server == "next" else "dev"
        command += [word, "--hostname", "127.0.0.1", "--port", str(port)]
        with running(host.name, command, environ, cwd=site, ready="Ready in") as process:
            yield process


@contextmanager
def _site() -> Generator[Path]:
    # Below the packages, so that they are found from there.
    place = HEAVY / "build"
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as directory:
        site = Path(directory)
        shutil.copytree(HEAVY / "next", site, dirs_exist_ok=True)
        package = site / "node_modules" / "@stepflow" / "client"
        package.mkdir(parents=True)
        pack = ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", directory]
        done = subprocess.run(pack, cwd=built(), capture_output=True, text=True, check=True)
        made = site / done.stdout.strip()
        extract = ["tar", "-xf", str(made), "-C", str(package), "--strip-components", "1"]
        subprocess.run(extract, check=True)
        made.unlink()
        yield site
