"""A PostgreSQL of one's own: the system's programs, a directory of its own, loopback, any user.

It is started directly, not by `pg_ctl`, so that it can be killed and ends with whoever started it;
with its default durability. PostgreSQL refuses to run as root: then it runs as the user `postgres`
that the package makes, in a directory that this user can reach.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from tools.children import Child, EndedError
from tools.ports import free_port

HOMES: Final = Path("/usr/lib/postgresql")
USER: Final = "postgres"
READY: Final = "database system is ready to accept connections"
TRIES: Final = 5


def programs() -> Path | None:
    """Return the directory of the newest installed server's programs, or None."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(HOMES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class Postgres:
    """One server. Used as a context manager; its directory goes with it unless it was given."""

    def __init__(self, directory: Path | None = None) -> None:
        found = programs()
        if found is None:
            raise RuntimeError("no PostgreSQL on this machine: make system-deps")
        self._bin = found
        self._kept = directory is not None
        # Not below a directory of the caller's, which another user may not enter.
        self.directory = directory or Path(tempfile.mkdtemp(prefix="stepflow-postgres-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._user = None
        if os.geteuid() == 0:
            self._user = USER
            who = pwd.getpwnam(USER)
            os.chown(self.directory, who.pw_uid, who.pw_gid)
        self._server: Child | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of; 0 while there is none."""
        return self._server.pid if self._server is not None else 0

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.status is None

    @property
    def url(self) -> str:
        """Its first database; the same over restarts."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        data = self.directory / "data"
        if not (data / "PG_VERSION").exists():
            self._run("initdb", "-D", str(data), "-A", "trust", "-U", USER, "-E", "UTF8")
        for left in reversed(range(TRIES)):
            port = self.port or free_port()
            self._server = Child(
                [
                    *(str(self._bin / "postgres"), "-D", str(data), "-p", str(port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                ],
                self.directory / "log",
                cwd=self.directory,
                user=self._user,
            )
            try:
                self._server.until_said(READY)
            except EndedError:
                # Another has taken the port meanwhile; a port that was told is kept.
                if self.port or not left:
                    raise
                continue
            self.port = port
            return

    def stop(self) -> None:
        """Let it end by itself, as an operator would: open connections are cut."""
        if self._server is not None:
            self._server.stop(signal.SIGINT)

    def kill(self) -> None:
        """End all of it at once, as a machine's end would but for what the kernel has."""
        if self._server is not None:
            self._server.kill()

    def close(self) -> None:
        """End it and forget what it held, unless the directory was given."""
        self.stop()
        if not self._kept:
            shutil.rmtree(self.directory, ignore_errors=True)

    def make_database(self, name: str) -> str:
        """Make a database and return its URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return self.url_of(name)

    def query(self, sql: str, database: str = "postgres") -> str:
        """Return what the server answers, a line a row."""
        return self._run("psql", "-qAtX", "-d", self.url_of(database), "-c", sql)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._user,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")
        return done.stdout.strip()
