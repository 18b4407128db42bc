"""The MOVED file: this directory's runs were copied to a database, and go on there.

It is written before the switch, so that at no moment two engines may run the same runs; an engine
that finds it does not start. A copy of the directory has it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.errors import ConfigurationError
from stepflow.journal.disk import replace_file

if TYPE_CHECKING:
    from stepflow.journal.disk import Disk

__all__ = ["MOVED", "Moved", "forget_moved", "read_moved", "refuse_moved", "write_moved"]

MOVED: Final = "MOVED"


class Moved(msgspec.Struct, frozen=True):
    """What the file says: where to, by which migration, and whether the switch is known done."""

    to: str
    """Without a password."""
    migration: str
    done: bool = False


def read_moved(disk: Disk) -> Moved | None:
    """Return what the file says; None where there is none, or no directory.

    A file that cannot be read says that the directory has moved, and not where to.
    """
    try:
        data = disk.read(MOVED)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=Moved)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Moved("a database", "")


def write_moved(disk: Disk, moved: Moved) -> None:
    """Write the file, durably and all or nothing."""
    replace_file(disk, MOVED, msgspec.json.encode(moved) + b"\n")


def forget_moved(disk: Disk) -> None:
    """Remove the file, durably, if it is there."""
    if MOVED in disk.listdir():
        disk.unlink(MOVED)
        disk.sync_dir()


def refuse_moved(disk: Disk) -> None:
    """Raise `ConfigurationError` for a directory whose runs go on elsewhere."""
    moved = read_moved(disk)
    if moved is None:
        return
    if moved.done:
        message = (
            f"SFW503 the runs of {disk.path} have moved to {moved.to}: start with "
            "`--database` and its URL. There is one way back: stop everything on that database, "
            f"remove {disk.path}/{MOVED}, and lose what happened there since the move"
        )
    else:
        message = (
            f"SFW503 the runs of {disk.path} are being moved to {moved.to}: "
            f"`stepflow migrate {disk.path} URL` finishes it; the same with `--abort` takes it "
            "back, unless they go on there already"
        )
    raise ConfigurationError(message)
