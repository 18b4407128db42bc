"""A directory whose runs go on elsewhere says so, and an engine does not start on it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from stepflow.config import Settings
from stepflow.errors import ConfigurationError, DiskFailedError
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.moved import (
    MOVED,
    Moved,
    forget_moved,
    read_moved,
    refuse_moved,
    write_moved,
)
from stepflow.journal.opening import Opening
from tests.journal_kit import StillClock

THERE = Moved("postgresql://db/shop", "00ff")


def opening(disk: MemoryDisk) -> Opening:
    def nothing(*_: object) -> None:
        return

    return Opening(disk, Settings(), StillClock(), lambda n: b"x" * n, nothing, nothing, nothing)


def test_what_is_written_is_read_and_outlives_a_power_cut() -> None:
    disk = MemoryDisk()
    assert read_moved(disk) is None
    write_moved(disk, THERE)
    assert read_moved(disk.power_cut()) == THERE
    write_moved(disk, Moved(THERE.to, THERE.migration, done=True))
    found = read_moved(disk.power_cut())
    assert found is not None
    assert found.done


def test_what_is_forgotten_is_gone_and_forgotten_twice_is_no_harm() -> None:
    disk = MemoryDisk()
    write_moved(disk, THERE)
    forget_moved(disk)
    forget_moved(disk)
    assert read_moved(disk.power_cut()) is None


def test_a_file_that_cannot_be_read_says_moved_all_the_same() -> None:
    disk = MemoryDisk()
    file = disk.open(MOVED, create=True)
    file.pwrite(b"\xff{", 0)
    file.close()
    found = read_moved(disk)
    assert found is not None
    assert not found.done
    with pytest.raises(ConfigurationError, match="SFW503"):
        refuse_moved(disk)


def test_no_engine_starts_on_it_and_each_message_names_the_next_move() -> None:
    disk = MemoryDisk()
    refuse_moved(disk)
    write_moved(disk, THERE)
    with pytest.raises(ConfigurationError, match=r"SFW503 .*db/shop.*stepflow migrate .*--abort"):
        opening(disk).run()
    write_moved(disk, Moved(THERE.to, THERE.migration, done=True))
    with pytest.raises(ConfigurationError, match=r"SFW503 .*db/shop.*--database.*remove .*MOVED"):
        opening(disk).run()
    # It was refused before anything was made.
    assert disk.listdir() == [MOVED]


def test_a_disk_that_does_not_let_it_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()

    def failing(name: str) -> Any:
        raise OSError(errno.EIO, "Input/output error", name)

    monkeypatch.setattr(disk, "read", failing)
    with pytest.raises(DiskFailedError, match="SFW209"):
        opening(disk).run()
