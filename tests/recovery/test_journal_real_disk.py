"""The journal on the operating system's own files, with the operating system's own refusals."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from stepflow.clock import SystemClock
from stepflow.journal.disk import RealDisk
from stepflow.journal.verify import verify
from tests.journal_kit import opened

pytestmark = pytest.mark.asyncio

FULL = """
import asyncio, json, resource, sys
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.journal.api import open_journal

settings = Settings(
    segment_bytes_first=65536, segment_bytes_max=1 << 20, room_reserve_bytes=8192,
    reserve_file_bytes=16384, free_bytes_min=0,
)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

async def main():
    journal, _ = await open_journal(
        sys.argv[1], settings=settings, clock=SystemClock(),
        on_line=lambda *_: None, on_record=lambda *_: None,
    )
    room = asyncio.Event()
    journal.on_room = room.set
    async def write():
        lsn = journal.next_lsn
        await journal.durable(journal.append([json.dumps({"lsn": lsn, "d": "x" * 900}).encode()]))
    written = 0
    while journal.has_room(1000):
        await write()
        # Free bytes do not tell that a file may grow no more: only making the next one does.
        await journal._space.make_ready()
        written += 1
    assert journal.failed is None and journal.stats().read_only
    assert journal.has_room(1000, reserve=True)
    await write()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await room.wait()
    for _ in range(200):
        assert journal.has_room(1000)
        await write()
    print(json.dumps({"before": written, "lsn": journal.durable_lsn}))
    await journal.close()

asyncio.run(main())
"""


async def test_a_file_system_that_refuses_more_makes_it_read_only_until_it_does_not(tmp_path):
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FULL, str(tmp_path)],
        stdout=subprocess.PIPE,
        # Not measured: what coverage writes would meet the limit too.
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_PROCESS")},
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        timeout=100,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["before"] > 30
    session = await opened(RealDisk(tmp_path), threads=True, clock=SystemClock())
    assert session.report.clean
    assert session.report.lsn == told["lsn"] + 1
    assert len(session.records) == told["before"] + 201
    await session.journal.close()


async def test_a_directory_goes_through_many_starts_and_snapshots(tmp_path):
    disk = RealDisk(tmp_path)
    lsns = []
    for start in range(6):
        session = await opened(disk, threads=True, clock=SystemClock())
        journal = session.journal
        assert [lsn for lsn in lsns if lsn >= (session.report.snapshot_base or 1)] == list(
            session.records
        )
        lsns.extend(session.append("x" * 700) for _ in range(20))
        await journal.durable(journal.last_lsn)
        if start % 2:
            writer = journal.open_snapshot(await journal.rotate(), 0)
            await writer.write([(lsn, b'{"lsn":%d}' % lsn) for lsn in lsns])
            await writer.finish()
        await journal.close(clean=start != 3)
        report = verify(disk)
        assert report.ok, report.messages
