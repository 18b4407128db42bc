"""nginx as a balancer before API nodes: any node for any call, streams passed on as they come.

`docs/conformance.md` and `make run-cluster` stand on this configuration; what it does beside the
defaults, and why:

- A node that does not answer is left out for a second, and what had not been sent goes to the next
  one. What was sent is not sent again by nginx: whoever asked knows whether that is harmless.
- nginx's own 502 and 504 become 503 `OUTCOME_UNKNOWN` in the API's shape: clients know what to do.
- Streams: no buffering (the nodes ask for that themselves), and a silence of 60 s, four times that
  of the comment lines.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROGRAM: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

_CONFIG: Final = """
{user}
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 0;
    large_client_header_buffers 8 32k;
    upstream nodes {{
{nodes}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_buffering off;
            proxy_request_buffering on;
            proxy_connect_timeout 2s;
            proxy_read_timeout 60s;
            error_page 502 504 =503 @nobody;
        }}
        location @nobody {{
            internal;
            default_type application/json;
            add_header Retry-After 1 always;
            add_header Cache-Control no-store always;
            return 503 '{{"error":"No node has answered: ask again with the same Idempotency-Key","code":"OUTCOME_UNKNOWN"}}';
        }}
    }}
}}
"""  # noqa: E501  one string of nginx's


def write_config(directory: Path, port: int, nodes: Sequence[str]) -> Path:
    """Write the configuration for nodes (`127.0.0.1:8000`) and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    servers = "\n".join(f"        server {node} max_fails=1 fail_timeout=1s;" for node in nodes)
    path = directory / "nginx.conf"
    path.write_text(
        _CONFIG.format(user=user, dir=directory, port=port, nodes=servers), encoding="utf-8"
    )
    return path


def command(directory: Path, config: Path) -> list[str]:
    """Return what starts it."""
    if PROGRAM is None:
        raise RuntimeError("no nginx on this machine: make system-deps")
    return [PROGRAM, "-p", str(directory), "-c", str(config), "-e", str(directory / "error.log")]
