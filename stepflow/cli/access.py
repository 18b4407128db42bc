"""Who may call a server that `serve` starts: what is configured, or a key that is made now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stepflow.auth.api_key import create_default_key, load_default_key, make_key
from stepflow.auth.chain import DEFAULT_KEY_FILE, KEYS_FILE
from stepflow.auth.handlers import allow_all, api_key_auth
from stepflow.auth.keys_file import KeysFile
from stepflow.clock import SystemClock
from stepflow.config import MEMORY
from stepflow.errors import DiskFailedError
from stepflow.journal.disk import RealDisk
from stepflow.journal.store import refuse_newer_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.auth.handlers import AuthHandler

__all__ = ["Access", "key_of_directory", "prepare_access"]


@dataclass(frozen=True, slots=True)
class Access:
    """How the API is entered: a key's file, or what else decides. `made` is a key just made."""

    key_file: Path | None = None
    made: str | None = None
    open_to_all: bool = False
    said: str = ""
    handler: AuthHandler | None = None


def prepare_access(data_dir: str, environ: Mapping[str, str], *, no_auth: bool) -> Access:
    """Make the directory and, where nothing is configured, a key in it.

    Raises `ConfigurationError` for a key file that cannot be used, `DiskFailedError` when the
    directory cannot be made, `JournalCorruptError` for a newer version's, where nothing is made.
    """
    directory = None if data_dir == MEMORY else _made(Path(data_dir))
    if no_auth:
        return Access(open_to_all=True, handler=allow_all)
    said = _configured(environ)
    if said:
        return Access(said=said)
    if directory is None:
        key, _ = make_key()
        return Access(made=key, handler=api_key_auth(key))
    return _access_of(directory)


def key_of_directory(directory: Path) -> str | None:
    """Return the key that a first start kept there, if there is one."""
    return load_default_key(directory / DEFAULT_KEY_FILE)


def _access_of(directory: Path) -> Access:
    file = directory / DEFAULT_KEY_FILE
    if load_default_key(file) is not None:
        return Access(key_file=file)
    now_ms = SystemClock().wall_ms()
    if any(row.live(now_ms) for row in KeysFile(directory / KEYS_FILE).rows()):
        return Access(said=f"those of: stepflow keys list --data {directory}")
    return Access(key_file=file, made=create_default_key(file))


def _configured(environ: Mapping[str, str]) -> str:
    for name in ("STEPFLOW_API_KEYS", "STEPFLOW_API_KEYS_FILE"):
        if environ.get(name, "").strip():
            return f"those of {name}"
    for name in ("STEPFLOW_JWT_SECRET", "STEPFLOW_JWT_SECRET_FILE", "STEPFLOW_JWT_JWKS"):
        if environ.get(name):
            return f"a JWT, by {name}"
    return ""


def _made(directory: Path) -> Path:
    disk = RealDisk(directory)
    try:
        disk.make_root()
        refuse_newer_files(disk)
    except OSError as error:
        raise DiskFailedError(f"cannot make the data directory {directory}: {error}") from error
    return directory
