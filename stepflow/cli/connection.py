"""Which server the client commands talk to, and the key they send.

`STEPFLOW_URL` says where; without it, the server that `stepflow serve` starts by default.
`STEPFLOW_API_KEY` is the key; without it, and on this machine alone, the one that the first start
kept in the data directory. A key that is found is sent to a loopback address and nowhere else.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stepflow.auth.api_key import load_default_key
from stepflow.auth.chain import DEFAULT_KEY_FILE
from stepflow.cli.errors import USAGE, Failure, failing
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.client import SyncClient

__all__ = ["DEFAULT_URL", "connect", "default_data_dir", "find_key", "is_loopback", "server_url"]

DEFAULT_URL: Final = "http://127.0.0.1:8000"


def default_data_dir(environ: Mapping[str, str] = os.environ) -> str:
    """Return the data directory of this machine's server, unless another is named."""
    return environ.get("STEPFLOW_DATA_DIR") or "stepflow-data"


def server_url(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the server."""
    return environ.get("STEPFLOW_URL") or DEFAULT_URL


def is_loopback(host: str) -> bool:
    """Say whether the host is this machine, by its name or address alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the key to send to `url`; None when none is known."""
    given = environ.get("STEPFLOW_API_KEY")
    if given:
        return given
    if not is_loopback(urlsplit(url).hostname or ""):
        return None
    try:
        return load_default_key(Path(default_data_dir(environ)) / DEFAULT_KEY_FILE)
    except (ConfigurationError, OSError):
        # It was not asked for, so it is not the command's business that it cannot be read.
        return None


def connect() -> SyncClient:
    """Return a client of the server that the environment names."""
    # Imported here: it is an extra.
    try:
        from stepflow.client import SyncClient  # noqa: PLC0415
    except ImportError:
        raise Failure("this command needs httpx", USAGE, "pip install 'stepflow[cli]'") from None
    url = server_url()
    with failing():
        return SyncClient(url, find_key(url))
