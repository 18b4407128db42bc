"""Small files that hold secrets: private, whole or absent, and durable when the call returns.

Reading refuses a file that others than its owner may read. Writing goes to a neighbour first, which
is synced, renamed over the old one, and made durable by a sync of the directory.

`STEPFLOW_API_KEYS_FILE` and its like name a file with what the variable without `_FILE` would hold:
an environment is inherited by every child and shown by many tools. Such a file may be readable by
its group, because that is how a container's platform hands it to a process that is not root.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stepflow.errors import ConfigurationError, DiskFailedError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = [
    "SECRET_NAMES",
    "read_own_secret",
    "read_secret",
    "with_secret_files",
    "write_secret",
]

SECRET_NAMES: Final = ("STEPFLOW_API_KEYS", "STEPFLOW_JWT_SECRET", "STEPFLOW_TOKEN_KEY")
"""The variables that may be given as a file."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_BUT_GROUP_READS: Final = _OTHERS & ~stat.S_IRGRP
_BYTES_MAX: Final = 64 * 1024


def with_secret_files(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment with the secrets that it names files for, as if they stood in it.

    Raises `ConfigurationError` for a file that is missing, empty, no text or open to others, and
    for a secret that is given both ways.
    """
    found = {
        name: _secret_of(name, path, environ)
        for name in SECRET_NAMES
        if (path := environ.get(f"{name}_FILE"))
    }
    return {**environ, **found} if found else environ


def _secret_of(name: str, path: str, environ: Mapping[str, str]) -> str:
    if environ.get(name):
        raise ConfigurationError(f"set {name} or {name}_FILE, not both")
    try:
        content = read_secret(Path(path), _BYTES_MAX, _OTHERS_BUT_GROUP_READS)
    except OSError as error:
        raise ConfigurationError(f"{name}_FILE: cannot read {path}: {error.strerror}") from None
    try:
        text = (content or b"").decode().strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}_FILE: {path} is no UTF-8 text") from None
    if not text:
        what = "there is no" if content is None else "nothing is in"
        raise ConfigurationError(f"{name}_FILE: {what} {path}")
    return text


def read_secret(path: Path, bytes_max: int, forbidden: int = _OTHERS) -> bytes | None:
    """Return the file's bytes, or None when there is none.

    Raises `ConfigurationError` when it is readable by others, too long or not a plain file.
    """
    try:
        # Without O_NONBLOCK a pipe of that name would hold us for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        _check_private(path, os.fstat(fd), forbidden)
        content = os.read(fd, bytes_max + 1)
    finally:
        os.close(fd)
    if len(content) > bytes_max:
        raise ConfigurationError(f"{path} is longer than {bytes_max} bytes")
    return content


def _check_private(path: Path, info: os.stat_result, forbidden: int) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise ConfigurationError(f"{path} is not a plain file")
    if os.name == "posix" and info.st_mode & forbidden:
        raise ConfigurationError(
            f"{path} holds a secret and others may read it; run: chmod 600 {path}"
        )


def read_own_secret(path: Path, bytes_max: int) -> bytes | None:
    """Return what `write_secret` kept in the data directory, or None.

    Raises as `read_secret` does, and `DiskFailedError` where the system does not let it be read.
    """
    with _on_disk(path):
        return read_secret(path, bytes_max)


def write_secret(path: Path, content: bytes) -> None:
    """Replace the file by `content`, mode 0600; durable when it returns.

    Raises `DiskFailedError`.
    """
    with _on_disk(path):
        _replace(path, content)


@contextlib.contextmanager
def _on_disk(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise DiskFailedError(
            f"cannot keep a secret in {path}: {error.strerror or error}. Check the disk, its room "
            "and whose the directory is, then start again"
        ) from error


def _replace(path: Path, content: bytes) -> None:
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
