"""A PostgreSQL of its own for a measurement: own directory, loopback, default durability."""

from __future__ import annotations

import os
import pwd
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tools.ports import free_port
from tools.postgres import programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """Run a server; give the URL of its database."""
    bin_ = programs()
    if bin_ is None:
        raise RuntimeError("no PostgreSQL on this machine: apt-get install postgresql")
    port, data = free_port(), directory / "postgres"
    data.mkdir()
    user = None
    if os.geteuid() == 0:
        # The server refuses to run as root.
        user = "postgres"
        who = pwd.getpwnam(user)
        os.chown(data, who.pw_uid, who.pw_gid)
        for parent in data.parents:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)

    def run(*command: str) -> None:
        subprocess.run(
            [str(bin_ / command[0]), *command[1:]],
            user=user,
            cwd=data,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data}"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", options, "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "fast", "stop")
