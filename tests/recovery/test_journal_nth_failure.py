"""The disk fails at the N-th operation, for every N: nothing acknowledged is lost, and the only
errors are the documented ones.

SQLite's method: the same life again and again, with the first operation failing, then the second,
until a life goes by without meeting the failure. `EIO` once and for good; `ENOSPC` once, for a
while and for good; a short write.
"""

from __future__ import annotations

import contextlib
import errno
import json
from dataclasses import dataclass, field

import pytest

from stepflow.errors import DiskFailedError, OutcomeUnknownError, UnavailableError
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import Recovery
from stepflow.journal.snapshot import BadSnapshotError
from stepflow.journal.store import read_store
from tests.journal_kit import KIB, StillClock, opened, passes

pytestmark = pytest.mark.asyncio

TINY = {
    "segment_bytes_first": 4 * KIB,
    "segment_bytes_max": 8 * KIB,
    "frame_bytes_max": 4 * KIB,
    "reserve_file_bytes": 4 * KIB,
}
EXPECTED = (DiskFailedError, UnavailableError, OutcomeUnknownError, OSError, BadSnapshotError)


class Fault:
    """Raises at the N-th operation, `times` times."""

    def __init__(self, at, code, times):
        self.at, self.code, self.times = at, code, times
        self.seen = 0

    @property
    def met(self):
        return self.seen > self.at

    def __call__(self, operation, name):
        if operation in {"listdir", "read", "pread"}:
            return
        self.seen += 1
        if self.at < self.seen <= self.at + self.times:
            raise OSError(self.code, f"injected into {operation} of {name}")


@dataclass
class Life:
    disk: MemoryDisk
    clock: StillClock = field(default_factory=StillClock)
    history: dict[int, bytes] = field(default_factory=dict)
    acked: int = 0
    fatal: list[BaseException] = field(default_factory=list)

    def write(self, journal, size):
        lsn = journal.next_lsn
        data = json.dumps({"t": "row", "lsn": lsn, "d": "x" * size}).encode()
        journal.append((data,))
        self.history[lsn] = data
        journal.when_durable(lsn, lambda error: self.ack(lsn) if error is None else None)

    def ack(self, lsn):
        assert lsn > self.acked
        self.acked = lsn

    async def live(self):
        session = await opened(self.disk, clock=self.clock, **TINY)
        journal = session.journal
        journal.on_fatal = self.fatal.append
        try:
            for step in range(10):
                self.write(journal, 300 + 100 * step)
                await self.wait()
                if step in {3, 7}:
                    with contextlib.suppress(OSError, BadSnapshotError, UnavailableError):
                        await self.snapshot(journal)
            for _ in range(4):
                self.clock.advance(1.0)
                await self.wait()
        finally:
            closing = passes_until_done(journal.close(), self.clock)
            await closing

    async def wait(self):
        await passes(6)
        self.clock.advance(1.0)
        await passes(6)

    async def snapshot(self, journal):
        base = await journal.rotate()
        writer = journal.open_snapshot(base, 0)
        try:
            lsn = journal.last_lsn
            await writer.write([(lsn, b'{"upto":%d}' % lsn)])
            await passes_until_done(writer.finish(), self.clock)
        except BaseException:
            with contextlib.suppress(OSError):
                await writer.abort()
            raise


async def passes_until_done(work, clock):
    """Await it while time goes by."""
    import asyncio

    task = asyncio.ensure_future(work)
    while not task.done():
        await passes(6)
        clock.advance(1.0)
    return task.result()


def check(life, disk, what):
    """All that was acknowledged is there, whatever the disk did."""
    store = read_store(disk)
    if store is None:
        assert life.acked == 0, what
        return
    lines, seen = [], {}
    found = Recovery(
        disk, store, 0, lambda lsn, line: lines.append((lsn, line)), seen.__setitem__
    ).run()
    assert found.lsn >= life.acked, what
    upto = json.loads(lines[0][1])["upto"] if lines else 0
    for lsn, data in life.history.items():
        if upto < lsn <= found.lsn:
            assert seen[lsn] == data, what
    assert set(seen) <= set(life.history), what


@pytest.mark.parametrize(
    ("code", "times"),
    [
        (errno.EIO, 1),
        (errno.EIO, 10**9),
        (errno.ENOSPC, 1),
        (errno.ENOSPC, 5),
        (errno.ENOSPC, 10**9),
        (errno.EROFS, 1),
    ],
)
async def test_a_failure_at_any_operation_loses_nothing_that_was_acknowledged(code, times):
    lives, ended, survived = 0, 0, 0
    for at in range(10_000):
        fault = Fault(at, code, times)
        life = Life(MemoryDisk())
        life.disk.before = fault
        try:
            await life.live()
        except EXPECTED:
            ended += 1
        else:
            survived += not life.fatal
        life.disk.before = None
        what = f"{errno.errorcode[code]} x{times} at operation {at}"
        check(life, life.disk.power_cut(), what)
        check(life, life.disk.process_kill(), what)
        lives += 1
        if not fault.met:
            break
        if times == 1 and code == errno.ENOSPC and not life.fatal:
            after = await opened(life.disk, **TINY)
            await after.journal.close()
    assert lives > 60
    assert ended + survived > 0
    assert not fault.met


async def test_short_writes_change_nothing():
    for at in range(0, 60, 3):
        disk = MemoryDisk()
        life = Life(disk)
        real_open = disk.open

        def open_short(name, *, create=False, real_open=real_open, at=at):
            file = real_open(name, create=create)
            return _Short(file, at)

        disk.open = open_short
        await life.live()
        del disk.open
        assert life.acked == max(life.history)
        check(life, disk.power_cut(), f"short write of {at}")


class _Short:
    """Writes only some bytes of what it is given."""

    def __init__(self, file, most):
        self._file, self._most = file, most + 1

    def pwrite(self, data, offset):
        return self._file.pwrite(data[: max(self._most, len(data) // 3)], offset)

    def __getattr__(self, name):
        return getattr(self._file, name)
