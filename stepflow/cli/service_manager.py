"""A word to systemd: ready, how far, stopping (`Type=notify`).

A datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names; a leading `@` stands for
the abstract name space. Nobody listens where the variable is not set. See sd_notify(3).
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["tell_service_manager"]

logger = logging.getLogger("stepflow.serve")


def tell_service_manager(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send the lines; return whether there was anybody to send them to. Never raises."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    name = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            # The loop is at work: what cannot be sent at once is not sent.
            out.setblocking(False)
            out.sendto("\n".join(lines).encode(), name)
    except OSError as error:
        logger.warning("the service manager at NOTIFY_SOCKET does not hear: %s", error)
        return False
    return True
