"""One process at a time has a data directory."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys

import pytest

from stepflow.clock import SystemClock
from stepflow.errors import DataDirLockedError, DiskFailedError
from stepflow.journal.disk import RealDisk
from stepflow.journal.lock import LOCK, lock_holder
from stepflow.journal.memory import MemoryDisk
from tests.journal_kit import StillClock, opened, passes
from tests.served import doomed

pytestmark = pytest.mark.asyncio

HOLDER = """
import asyncio, sys
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.journal.api import open_journal

async def main():
    journal, _ = await open_journal(
        sys.argv[1], settings=Settings(segment_bytes_first=65536), clock=SystemClock(),
        on_line=lambda *_: None, on_record=lambda *_: None,
    )
    await journal.durable(journal.append([b'{"t":"x","lsn":2}']))
    print("have it", flush=True)
    sys.stdin.readline()
    await journal.close()

asyncio.run(main())
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the directory."""
    process = subprocess.Popen(
        doomed([sys.executable, "-c", HOLDER, str(tmp_path)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process:
        assert process.stdout.readline() == b"have it\n"
        yield process
        process.kill()


async def test_a_second_process_is_refused_with_the_first_ones_pid(tmp_path, holder):
    with pytest.raises(DataDirLockedError) as caught:
        await opened(RealDisk(tmp_path), clock=SystemClock(), lock_wait_s=0.0)
    assert caught.value.pid == holder.pid
    assert caught.value.exit_code == 75
    assert str(holder.pid) in str(caught.value)


async def test_a_start_waits_for_the_directory_and_says_whose_it_is(tmp_path, holder, caplog):
    clock = StillClock()
    waiting = asyncio.create_task(opened(RealDisk(tmp_path), clock=clock))
    while not caplog.records:
        await passes()
    assert f"pid {holder.pid} has it since" in caplog.text
    assert not waiting.done()
    holder.communicate(b"go\n", timeout=60)
    while not waiting.done():
        clock.advance(0.1)
        await passes()
    session = waiting.result()
    assert list(session.records) == [2]
    assert session.report.clean
    await session.journal.close()


async def test_a_killed_process_gives_the_directory_back(tmp_path, holder):
    holder.kill()
    holder.wait(60)
    session = await opened(RealDisk(tmp_path), clock=SystemClock(), lock_wait_s=0.0)
    assert list(session.records) == [2]
    assert not session.report.clean
    await session.journal.close()


async def test_the_wait_has_an_end():
    disk, clock = MemoryDisk(), StillClock()
    first = await opened(disk)
    waiting = asyncio.create_task(opened(disk, clock=clock))
    for _ in range(310):
        await passes(3)
        clock.advance(0.1)
    with pytest.raises(DataDirLockedError) as caught:
        await waiting
    assert caught.value.pid == os.getpid()
    await first.journal.close()
    second = await opened(disk)
    await second.journal.close()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": null}'])
async def test_the_text_in_the_lock_file_never_decides(text):
    disk = MemoryDisk()
    file = disk.open(LOCK, create=True)
    file.pwrite(text or b" ", 0)
    assert lock_holder(disk) == (None, None)
    session = await opened(disk)
    assert lock_holder(disk)[0] == os.getpid()
    await session.journal.close()


async def test_a_directory_that_cannot_be_made_or_locked_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailedError, match="cannot make"):
        await opened(RealDisk(tmp_path / "file" / "data"))
    (tmp_path / "data" / LOCK).mkdir(parents=True)
    with pytest.raises(DiskFailedError, match="cannot lock"):
        await opened(RealDisk(tmp_path / "data"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_a_full_disk_cannot_say_whose_it_is_and_is_had_all_the_same(code, monkeypatch):
    disk = MemoryDisk()
    session = await opened(disk)
    await session.journal.close()

    def describe(*_):
        raise OSError(code, os.strerror(code))

    lock = disk.try_lock(LOCK)
    assert lock is not None
    monkeypatch.setattr(type(lock), "describe", describe)
    lock.release()
    if code == errno.EIO:
        with pytest.raises(DiskFailedError, match="cannot lock"):
            await opened(disk)
    else:
        session = await opened(disk)
        assert disk.try_lock(LOCK) is None
        await session.journal.close()
    # It was given back.
    assert disk.try_lock(LOCK) is not None
