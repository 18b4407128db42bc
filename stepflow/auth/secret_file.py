"""Small files that hold secrets: private, whole or absent, and durable when the call returns.

Reading refuses a file that others than its owner may read. Writing goes to a neighbour first, which
is synced, renamed over the old one, and made durable by a sync of the directory.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_secret", "write_secret"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path, bytes_max: int) -> bytes | None:
    """Return the file's bytes, or None when there is none.

    Raises `ConfigurationError` when it is readable by others, too long or not a plain file.
    """
    try:
        # Without O_NONBLOCK a pipe of that name would hold us for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        _check_private(path, os.fstat(fd))
        content = os.read(fd, bytes_max + 1)
    finally:
        os.close(fd)
    if len(content) > bytes_max:
        raise ConfigurationError(f"{path} is longer than {bytes_max} bytes")
    return content


def _check_private(path: Path, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise ConfigurationError(f"{path} is not a plain file")
    if os.name == "posix" and info.st_mode & _OTHERS:
        raise ConfigurationError(
            f"{path} holds a secret and others may read it; run: chmod 600 {path}"
        )


def write_secret(path: Path, content: bytes) -> None:
    """Replace the file by `content`, mode 0600; durable when it returns."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123  made private before the first byte
        file.write(content)
        file.flush()
        os.fsync(fd)
    draft.rename(path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
