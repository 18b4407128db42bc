"""nginx in front of a host, as it comes from the system's packages, with its defaults.

Two ways to the same host: `/gw/` is taken away, and the host told of it by `root_path`; everything
else is kept as it came.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.served import doomed, end_group
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

CONFIG: Final = """
{user}
daemon off;
worker_processes 1;
# What is old after a reload may finish for so long; then its streams are cut.
worker_shutdown_timeout 1s;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 2m;
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        location /gw/ {{ proxy_pass {told}/; }}
        location / {{ proxy_pass {kept}; }}
    }}
}}
"""


@dataclass
class Front:
    """A running nginx."""

    popen: subprocess.Popen[bytes]
    url: str
    log: Path

    def reload(self, word: str = "start worker process ") -> None:
        """Let new workers take over; return when nginx has logged `word` once more.

        The old ones' streams are cut a second later: then it logs that they have exited.
        """
        before = self.log.read_text().count(word)
        self.popen.send_signal(signal.SIGHUP)
        while self.log.read_text().count(word) == before:
            assert self.popen.poll() is None
            time.sleep(0.01)


@contextmanager
def fronted(directory: Path, *, told: str, kept: str) -> Generator[Front]:
    """Run nginx before the host that is told of `/gw`, and the one that is told of nothing."""
    assert NGINX is not None
    port = free_port()
    directory.mkdir()
    config, log = directory / "nginx.conf", directory / "error.log"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(CONFIG.format(user=user, dir=directory, port=port, told=told, kept=kept))
    command = [NGINX, "-p", str(directory), "-c", str(config), "-e", str(log)]
    popen = subprocess.Popen(doomed(command), start_new_session=True)
    try:
        while not (log.exists() and "start worker process " in log.read_text()):
            assert popen.poll() is None, log.read_text() if log.exists() else "nginx ended"
            time.sleep(0.01)
        yield Front(popen, f"http://127.0.0.1:{port}", log)
    finally:
        end_group(popen)
