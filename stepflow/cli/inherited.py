"""A listening socket that whoever started this process hands over (systemd's socket activation).

`LISTEN_PID` names this process, `LISTEN_FDS` says how many sockets there are, from descriptor 3 on.
See sd_listen_fds(3). The socket outlives the process, so over a restart connections queue at it
instead of being refused, and the next process takes them once it is ready.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["inherited_socket"]

_FIRST: Final = 3
_NAMES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited_socket(
    environ: MutableMapping[str, str] = os.environ, first: int = _FIRST
) -> socket.socket | None:
    """Return the socket that was handed over, or None. Raises `ConfigurationError` for another.

    The variables are taken away, so that no child believes that they are meant for it.
    """
    pid, count, _ = (environ.pop(name, "") for name in _NAMES)
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) > 1:
        raise ConfigurationError(f"{count} sockets were handed over: serve listens on one")
    os.set_inheritable(first, False)
    try:
        handed = socket.socket(fileno=first)
        listens = handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigurationError(f"what was handed over is no socket: {error}") from None
    if not listens or handed.type != socket.SOCK_STREAM or handed.family == socket.AF_UNIX:
        handed.close()
        raise ConfigurationError("the socket that was handed over must be a listening one of TCP")
    handed.setblocking(False)
    return handed
