"""The journal where things come late, go missing or are over: what no ordinary day reaches."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.errors import OutcomeUnknownError, UnavailableError
from stepflow.journal.background import InlineWriter
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.release import Patience
from stepflow.journal.segment import SegmentHeader, SegmentStock, segment_lsn
from stepflow.journal.snapshot import SnapshotFile, snapshot_lsn
from tests.journal_kit import KIB, StillClock, handmade, opened, passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.journal_kit import Opened

pytestmark = pytest.mark.asyncio


def failing(operation: str, code: int, name: str = "") -> Callable[[str, str], None]:
    """Return a disk's `before` that fails one kind of operation, on files named like that."""

    def before(done: str, on: str) -> None:
        if done == operation and on.startswith(name):
            raise OSError(code, "injected")

    return before


def held(session: Opened) -> list[Callable[[], Callable[[], None]]]:
    """Keep the writer's work from now on instead of doing it."""
    works: list[Callable[[], Callable[[], None]]] = []
    journal: Any = session.journal
    journal._writing.submit = works.append
    return works


def let_go(session: Opened) -> None:
    """Let the writer do its work again."""
    journal: Any = session.journal
    del journal._writing.submit


# ---------------------------------------------------------------- reports that come too late


@pytest.mark.parametrize("code", [None, errno.ENOSPC, errno.EIO])
async def test_what_the_writer_says_of_a_batch_after_the_end_concerns_nobody(
    code: int | None,
) -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    fatal: list[BaseException] = []
    session.journal.on_fatal = fatal.append
    works = held(session)
    session.append()
    await passes(4)
    disk.before = failing("pwrite", code) if code else None
    report = works[0]()
    disk.before = None
    before = session.journal.durable_lsn
    await session.journal.abandon()
    report()
    assert session.journal.durable_lsn == before
    assert fatal == []


@pytest.mark.parametrize("code", [None, errno.ENOSPC, errno.EIO])
async def test_what_the_writer_says_of_a_rotation_after_the_end_concerns_nobody(
    code: int | None,
) -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    works = held(session)
    rotation = asyncio.ensure_future(session.journal.rotate())
    await passes(4)
    disk.before = failing("rename", code) if code else None
    report = works[0]()
    disk.before = None
    await session.journal.abandon()
    report()
    with pytest.raises(UnavailableError):
        await rotation


@pytest.mark.parametrize("code", [None, errno.ENOSPC])
async def test_a_rotation_that_nobody_waits_for_any_more_is_done_with(code: int | None) -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    works = held(session)
    rotation = asyncio.ensure_future(session.journal.rotate())
    await passes(4)
    rotation.cancel()
    await passes()
    disk.before = failing("rename", code) if code else None
    works[0]()()
    disk.before = None
    let_go(session)
    await session.journal.durable(session.append())
    await session.journal.close()


async def test_records_that_came_during_a_rotation_without_room_are_written_after_it() -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    works = held(session)
    rotation = asyncio.ensure_future(session.journal.rotate())
    await passes(4)
    lsn = session.append()
    disk.before = failing("rename", errno.ENOSPC)
    report = works[0]()
    disk.before = None
    let_go(session)
    report()
    with pytest.raises(UnavailableError, match="no room"):
        await rotation
    await session.journal.durable(lsn)
    await session.journal.close()


async def test_a_lazy_record_that_is_waited_for_during_a_sync_goes_with_the_next_one() -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    works = held(session)
    session.append()
    await passes(4)
    lazy = session.append(strict=False)
    session.journal.hurry(lazy)
    report = works[0]()
    let_go(session)
    report()
    await passes()
    assert session.journal.durable_lsn == lazy
    await session.journal.close()


async def test_no_rotation_begins_while_records_wait_for_room() -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    disk.before = failing("pwrite", errno.ENOSPC)
    session.append()
    await passes()
    with pytest.raises(UnavailableError, match="wait for room already"):
        await session.journal.rotate()
    disk.before = None
    await session.journal.abandon()


async def test_work_that_was_handed_over_at_the_end_is_not_begun() -> None:
    writing = InlineWriter(asyncio.get_running_loop())
    done: list[str] = []

    def work() -> Callable[[], None]:
        done.append("work")
        return lambda: done.append("report")

    writing.submit(work)
    writing.stop()
    await passes()
    assert done == []


async def test_a_snapshot_that_is_done_after_the_end_is_not_recorded() -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    file = SnapshotFile(disk, 1, 0, int(session.journal.store_id, 16))
    file.seal()
    file.publish()
    info = file.read_back()
    await session.journal.close()
    before = session.journal.last_lsn
    session.journal.snapshot_done(info, [])
    assert session.journal.last_lsn == before


# ---------------------------------------------------------------- what goes wrong beside it


async def test_old_segments_that_cannot_be_cut_do_not_stop_a_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    await session.journal.durable(session.append())
    await session.journal.abandon()
    disk.before = failing("truncate", errno.EIO, "wal-0")
    again = await opened(disk)
    assert "could not be cut" in caplog.text
    disk.before = None
    await again.journal.durable(again.append())
    await again.journal.close()
    last = await opened(disk)
    assert len(last.records) == 2
    await last.journal.close()


async def test_a_prepared_segment_that_cannot_be_removed_does_not_stop_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    journal: Any = session.journal
    await journal._space.make_ready()
    disk.before = failing("unlink", errno.EIO)
    await session.journal.close()
    disk.before = None
    assert "could not remove the prepared segment" in caplog.text
    again = await opened(disk)
    assert again.report.clean
    await again.journal.close()


async def test_a_compaction_that_fails_keeps_what_it_could_not_remove(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    for _ in range(3):
        await session.journal.durable(session.append())
        disk.before = failing("unlink", errno.EIO)
        writer = session.journal.open_snapshot(await session.journal.rotate(), 0)
        await writer.write([(session.journal.durable_lsn, b"{}")])
        await writer.finish()
        disk.before = None
    assert "could not be removed" in caplog.text
    assert len([name for name in disk.listdir() if snapshot_lsn(name)]) == 3
    await session.journal.close()


async def test_an_end_waits_for_a_segment_that_is_being_made() -> None:
    disk = MemoryDisk()
    session = await opened(disk)
    journal: Any = session.journal
    space = journal._space
    space.prepare()
    await space.close()
    assert "wal-next.tmp" in disk.listdir()
    await session.journal.close()


async def test_who_is_refused_is_told_why() -> None:
    session = await opened(MemoryDisk())
    assert "full" in session.journal.why_no_room
    await session.journal.close()
    assert "stopping" in session.journal.why_no_room


async def test_work_on_other_files_is_done_where_the_journal_does_its_own() -> None:
    session = await opened(MemoryDisk(), threads=True)
    done: list[int] = []
    await session.journal.run_blocking(lambda: done.append(1))
    assert done == [1]
    await session.journal.close()


async def test_a_segment_without_room_for_its_header_leaves_nothing() -> None:
    disk = MemoryDisk()
    stock = SegmentStock(disk)
    stock.prepare(4 * KIB)
    disk.before = failing("pwrite", errno.ENOSPC)
    with pytest.raises(OSError, match="injected"):
        stock.name_next(SegmentHeader(7, 1, 0, 4 * KIB))
    disk.before = None
    assert disk.listdir() == []


async def test_giving_up_a_snapshot_that_has_its_name_takes_nothing_away() -> None:
    disk = MemoryDisk()
    file = SnapshotFile(disk, 1, 0, 7)
    file.seal()
    file.publish()
    file.abandon()
    assert disk.listdir() == [file.name]


async def test_a_snapshot_of_which_nothing_was_written_leaves_nothing() -> None:
    disk = MemoryDisk()
    SnapshotFile(disk, 1, 0, 7).abandon()
    assert disk.listdir() == []


async def test_a_writer_may_be_closed_twice_and_before_it_wrote_anything() -> None:
    made = handmade()
    made.writer.close()
    made.add("one")
    made.writer.close()
    made.writer.close()
    assert [name for name in made.disk.listdir() if segment_lsn(name)]


# ---------------------------------------------------------------- patience


async def test_each_wait_has_its_own_end_and_one_timer_serves_them_all() -> None:
    clock: Any = StillClock()
    loop = asyncio.get_running_loop()
    patience = Patience(clock, 10.0)
    waits: list[asyncio.Future[None]] = [loop.create_future() for _ in range(4)]
    patience.add(waits[0])
    patience.add(waits[1])
    clock.advance(4)
    patience.add(waits[2])
    patience.add(waits[3])
    waits[0].set_result(None)
    waits[2].set_result(None)
    clock.advance(6)
    assert isinstance(waits[1].exception(), OutcomeUnknownError)
    assert not waits[3].done()
    clock.advance(3)
    assert not waits[3].done()
    clock.advance(1)
    assert isinstance(waits[3].exception(), OutcomeUnknownError)
    assert waits[0].result() is waits[2].result() is None
    patience.tidy()
