"""Append, gather, sync once, release in order; and the ways it ends."""

from __future__ import annotations

import asyncio
import errno
import json
import logging

import pytest

from stepflow.clock import SystemClock
from stepflow.config import MEMORY
from stepflow.errors import DiskFailedError, OutcomeUnknownError, UnavailableError
from stepflow.journal.api import open_journal
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import BROKEN
from stepflow.journal.segment import RESERVE, segment_lsn, segment_name
from stepflow.journal.snapshot import snapshot_lsn
from tests.journal_kit import KIB, SMALL, StillClock, Trace, opened, passes, record

pytestmark = pytest.mark.asyncio


@pytest.fixture
def disk():
    return MemoryDisk()


def failing(operation, code, when=lambda: True):
    def before(done, _name):
        if done == operation and when():
            raise OSError(code, "injected")

    return before


# ---------------------------------------------------------------- group commit


@pytest.mark.parametrize("threads", [False, True])
async def test_what_was_acknowledged_is_there_at_the_next_start(disk, threads):
    session = await opened(disk, threads=threads, clock=SystemClock())
    for number in range(5):
        await session.journal.durable(session.append(f"n{number}"))
    await session.journal.close()
    again = await opened(disk, threads=threads, clock=SystemClock())
    assert [json.loads(r)["d"] for r in again.records.values()] == [f"n{n}" for n in range(5)]
    assert all(json.loads(r)["lsn"] == lsn for lsn, r in again.records.items())
    assert again.report.clean
    await again.journal.close()


async def test_lsns_are_dense_and_the_journals_own_records_are_not_handed_out(disk):
    session = await opened(disk)
    assert session.journal.next_lsn == 2
    assert session.append() == 2
    assert session.journal.append([record(3), record(4)]) == 4
    assert session.journal.last_lsn == 4
    await session.journal.close()
    again = await opened(disk)
    assert list(again.records) == [2, 3, 4]
    assert again.report.lsn == 5
    assert again.report.records == 5
    await again.journal.close()


async def test_a_journal_that_closes_has_no_room(disk):
    # So nothing is decided that could not be recorded any more: state and journal stay one.
    session = await opened(disk)
    assert session.journal.has_room(100)
    closing = asyncio.create_task(session.journal.close())
    await asyncio.sleep(0)
    assert not session.journal.has_room(100)
    assert not session.journal.has_room(100, reserve=True)
    await closing
    assert not session.journal.has_room(100)


async def test_a_thousand_appends_of_one_turn_share_one_sync(disk):
    session = await opened(disk)
    trace = Trace(disk)
    for _ in range(1000):
        session.append()
    await session.journal.durable(session.journal.last_lsn)
    frames = -(-1000 * 40 // SMALL.frame_bytes_max)
    assert trace.count("fdatasync") <= frames + 1
    await session.journal.close()


async def test_code_woken_by_one_release_shares_the_next_sync(disk):
    session = await opened(disk)
    trace = Trace(disk)
    lsn = session.append()
    lasts = []

    async def follow():
        await session.journal.durable(lsn)
        lasts.append(session.append())
        await session.journal.durable(lasts[-1])

    await asyncio.gather(*(follow() for _ in range(200)))
    assert trace.count("fdatasync") == 2
    await session.journal.close()


async def test_while_one_batch_syncs_the_next_one_gathers(disk):
    session = await opened(disk, threads=True, clock=SystemClock())
    loop = asyncio.get_running_loop()
    syncing, go_on = asyncio.Event(), __import__("threading").Event()
    syncs = []

    def before(operation, _name):
        if operation == "fdatasync":
            syncs.append(operation)
            if len(syncs) == 1:
                loop.call_soon_threadsafe(syncing.set)
                go_on.wait(30)

    disk.before = before
    session.append()
    await syncing.wait()
    for _ in range(50):
        session.append()
    go_on.set()
    await session.journal.durable(session.journal.last_lsn)
    assert len(syncs) == 2
    await session.journal.close()


async def test_a_group_is_one_frame_whatever_its_size(disk):
    session = await opened(disk)
    size = 3 * SMALL.segment_bytes_max
    group = [record(session.journal.next_lsn + n, "x" * (size // 4)) for n in range(4)]
    trace = Trace(disk)
    await session.journal.durable(session.journal.append(group))
    assert trace.count("fdatasync") - trace.count("rename") <= 1 + size // (8 * KIB * KIB)
    cut = disk.power_cut()
    await session.journal.close()
    again = await opened(cut)
    assert list(again.records.values()) == group
    await again.journal.close()


async def test_a_batch_is_closed_at_its_size(disk):
    session = await opened(disk)
    trace = Trace(disk)
    for _ in range(10):
        session.append("x" * (SMALL.frame_bytes_max // 3))
    await session.journal.durable(session.journal.last_lsn)
    assert trace.count("fdatasync") == 5
    await session.journal.close()


# ---------------------------------------------------------------- lazy


async def test_a_lazy_record_rides_with_the_next_strict_one(disk):
    session = await opened(disk)
    trace = Trace(disk)
    lazy = session.append(strict=False)
    await passes()
    assert trace.count("fdatasync") == 0
    session.append()
    await passes()
    assert trace.count("fdatasync") == 1
    assert session.journal.durable_lsn == lazy + 1
    await session.journal.close()


async def test_a_lazy_record_goes_alone_after_its_delay(disk):
    clock = StillClock()
    session = await opened(disk, clock=clock)
    lazy = session.append(strict=False)
    await passes()
    assert session.journal.durable_lsn < lazy
    clock.advance(SMALL.lazy_delay_s)
    await passes()
    assert session.journal.durable_lsn == lazy
    await session.journal.close()


async def test_whoever_waits_for_a_lazy_record_makes_it_strict(disk):
    session = await opened(disk)
    await session.journal.durable(session.append(strict=False))
    lazy = session.append(strict=False)
    session.journal.hurry(lazy)
    session.journal.hurry(lazy)
    session.journal.hurry(1)
    await passes()
    assert session.journal.durable_lsn == lazy
    await session.journal.close()


async def test_a_lazy_record_appended_during_a_sync_is_not_forgotten(disk):
    clock = StillClock()
    session = await opened(disk, clock=clock)
    session.append()
    await passes(2)
    lazy = session.append(strict=False)
    await passes()
    clock.advance(SMALL.lazy_delay_s)
    await passes()
    assert session.journal.durable_lsn == lazy
    await session.journal.close()


# ---------------------------------------------------------------- release


async def test_releases_come_in_lsn_order_after_on_commit_and_never_at_once(disk):
    session = await opened(disk)
    order = []
    session.journal.on_commit = lambda lsn: order.append(("commit", lsn))
    first, second, third = session.append(), session.append(), session.append()
    for lsn, name in ((third, "c"), (first, "a"), (second, "b"), (first, "a2"), (second, "b2")):
        session.journal.when_durable(lsn, lambda error, name=name: order.append((name, error)))
    assert order == []
    await passes()
    names = [name for name, _ in order]
    assert names == ["commit", "a", "a2", "b", "b2", "c"]
    assert order[0] == ("commit", third)
    assert all(error is None for name, error in order if name != "commit")
    session.journal.when_durable(first, lambda _error: order.append(("late", None)))
    assert order[-1][0] == "c"
    await passes(1)
    assert order[-1][0] == "late"
    await session.journal.close()


async def test_a_callback_that_fails_does_not_stop_the_others(disk, caplog):
    session = await opened(disk)
    heard = []

    def bad(_error):
        raise ZeroDivisionError

    def bad_commit(_lsn):
        raise KeyError("commit")

    session.journal.on_commit = bad_commit
    lsn = session.append()
    session.journal.when_durable(lsn, bad)
    session.journal.when_durable(lsn, heard.append)
    with caplog.at_level(logging.ERROR):
        await passes()
    assert heard == [None]
    assert {r.exc_info[0] for r in caplog.records} == {ZeroDivisionError, KeyError}
    assert session.journal.failed is None
    await session.journal.close()


async def test_one_batch_wakes_the_loop_once(disk):
    session = await opened(disk, threads=True, clock=SystemClock())
    loop = asyncio.get_running_loop()
    wakes = []
    original = loop.call_soon_threadsafe

    def counted(*args, **kwargs):
        wakes.append(args[0])
        return original(*args, **kwargs)

    loop.call_soon_threadsafe = counted
    try:
        for _ in range(100):
            session.append()
        await session.journal.durable(session.journal.last_lsn)
    finally:
        del loop.call_soon_threadsafe
    assert len(wakes) == 1
    await session.journal.close()


async def test_waiting_has_an_end_and_the_outcome_is_then_unknown(disk):
    clock = StillClock()
    session = await opened(disk, clock=clock)
    stuck = asyncio.Event()
    session.journal._writing.submit = lambda _work: stuck.set()
    waiting = asyncio.create_task(session.journal.durable(session.append()))
    await stuck.wait()
    clock.advance(SMALL.outcome_wait_s)
    with pytest.raises(OutcomeUnknownError):
        await waiting
    session.journal._busy = False
    await session.journal.close(clean=False)


# ---------------------------------------------------------------- failure


@pytest.mark.parametrize("operation", ["fdatasync", "pwrite"])
@pytest.mark.parametrize("threads", [False, True])
async def test_a_failed_write_or_sync_ends_the_journal_for_good(disk, operation, threads):
    session = await opened(disk, threads=threads, clock=SystemClock())
    journal = session.journal
    fatal, heard = [], []
    over = asyncio.Event()
    journal.on_fatal = lambda error: (fatal.append(error), over.set())
    attempts = []

    def before(done, _name):
        if done == operation:
            attempts.append(done)
            raise OSError(errno.EIO, "injected")

    disk.before = before
    lsn = session.append()
    journal.when_durable(lsn, heard.append)
    waiting = asyncio.create_task(journal.durable(lsn))
    await over.wait()
    with pytest.raises(OutcomeUnknownError):
        await waiting
    assert len(attempts) == 1
    assert len(fatal) == 1
    assert isinstance(fatal[0], DiskFailedError)
    assert fatal[0].exit_code == 74
    assert heard == fatal
    assert journal.failed is fatal[0]

    disk.before = None
    with pytest.raises(UnavailableError):
        session.append()
    with pytest.raises(OutcomeUnknownError):
        await journal.durable(lsn)
    with pytest.raises(UnavailableError):
        await journal.rotate()
    journal.when_durable(lsn, heard.append)
    await passes(1)
    assert heard == fatal * 2
    assert len(attempts) == 1
    await journal.close()
    again = await opened(disk)
    assert not again.report.clean
    await again.journal.close()


async def test_a_failed_sync_full_disk_or_not_is_never_tried_again(disk):
    session = await opened(disk)
    disk.before = failing("fdatasync", errno.ENOSPC)
    session.append()
    await passes()
    assert isinstance(session.journal.failed, DiskFailedError)
    await session.journal.close()


async def test_a_failed_rotation_ends_the_journal(disk):
    session = await opened(disk)
    session.append()
    disk.before = failing("sync_dir", errno.EIO)
    with pytest.raises(DiskFailedError):
        await session.journal.rotate()
    assert session.journal.failed is not None
    await session.journal.close()


async def test_a_start_whose_first_write_fails_is_refused_and_gives_the_lock_back(disk):
    disk.before = failing("fdatasync", errno.EIO)
    with pytest.raises(DiskFailedError):
        await opened(disk)
    disk.before = None
    again = await opened(disk)
    await again.journal.close()


async def test_a_start_that_recovery_refuses_gives_the_lock_back(disk):
    session = await opened(disk)
    await session.journal.close()
    disk.before = failing("read", errno.EIO)
    with pytest.raises(DiskFailedError):
        await opened(disk, threads=True, clock=SystemClock())
    disk.before = None
    again = await opened(disk)
    await again.journal.close()


# ---------------------------------------------------------------- a full disk


async def test_an_append_that_meets_a_full_disk_is_tried_again_and_then_acknowledged():
    disk = MemoryDisk()
    clock = StillClock()
    session = await opened(disk, clock=clock)
    room = []
    session.journal.on_room = lambda: room.append(True)
    before = session.journal.durable_lsn
    disk.before = failing("pwrite", errno.ENOSPC)
    waiting = asyncio.create_task(session.journal.durable(session.append()))
    for _ in range(5):
        await passes()
        clock.advance(1.0)
    assert session.journal.durable_lsn == before
    assert session.journal.failed is None
    assert not session.journal.has_room(10)
    disk.before = None
    clock.advance(1.0)
    await waiting
    await passes()
    clock.advance(1.0)
    await passes()
    assert session.journal.has_room(10)
    assert room
    await session.journal.close()
    again = await opened(disk)
    assert again.report.clean
    assert len(again.records) == 1
    await again.journal.close()


async def test_a_caller_of_a_full_disk_gets_outcome_unknown_and_the_record_may_still_come():
    disk = MemoryDisk()
    clock = StillClock()
    session = await opened(disk, clock=clock)
    disk.before = failing("pwrite", errno.EDQUOT)
    lsn = session.append()
    waiting = asyncio.create_task(session.journal.durable(lsn))
    await passes()
    clock.advance(SMALL.outcome_wait_s)
    with pytest.raises(OutcomeUnknownError):
        await waiting
    disk.before = None
    await passes()
    clock.advance(1.0)
    await passes()
    assert session.journal.durable_lsn == lsn
    await session.journal.close()


async def test_a_full_disk_is_met_before_a_decision_and_cancels_may_use_the_rest():
    disk = MemoryDisk(capacity=100 * KIB)
    clock = StillClock()
    session = await opened(disk, clock=clock)
    journal = session.journal
    room = []
    journal.on_room = lambda: room.append(journal.durable_lsn)
    disk.capacity = 0  # nothing more than what is made
    clock.advance(1.0)
    await passes()
    while journal.has_room(900):
        await journal.durable(session.append("x" * 850))
        clock.advance(1.0)
        await passes()
    assert journal.failed is None
    assert journal.stats().read_only
    assert journal.has_room(900, reserve=True)
    await journal.durable(session.append("cancel"))
    assert room == []
    disk.capacity = None
    clock.advance(1.0)
    await passes()
    assert room == [journal.durable_lsn]
    assert journal.has_room(900)
    assert not journal.stats().read_only
    await journal.close()


async def test_the_reserve_is_given_up_before_the_journal_is_read_only_and_filled_again():
    disk = MemoryDisk(capacity=120 * KIB)
    clock = StillClock()
    session = await opened(disk, clock=clock)
    assert RESERVE in disk.listdir()
    while RESERVE in disk.listdir():
        assert session.journal.has_room(1000)
        await session.journal.durable(session.append("x" * 1000))
        await passes()
    assert session.journal.failed is None
    disk.capacity = None
    for _ in range(3):
        clock.advance(1.0)
        await passes()
    assert RESERVE in disk.listdir()
    await session.journal.close()


async def test_a_start_without_room_comes_up_and_goes_on_when_there_is_some():
    disk = MemoryDisk()
    first = await opened(disk)
    await first.journal.durable(first.append("kept"))
    await first.journal.close()
    disk.unlink(RESERVE)
    disk.capacity = 0
    clock = StillClock()
    session = await opened(disk, clock=clock)
    assert list(session.records) == [2]
    assert not session.journal.has_room(10)
    assert session.journal.durable_lsn == session.report.lsn
    heard = []
    session.journal.when_durable(session.report.lsn, heard.append)
    await passes(1)
    assert heard == [None]
    disk.capacity = None
    for _ in range(3):
        clock.advance(1.0)
        await passes()
    assert session.journal.has_room(10)
    await session.journal.durable(session.append())
    await session.journal.close()
    again = await opened(disk)
    assert len(again.records) == 2
    await again.journal.close()


async def test_a_rotation_without_room_is_refused_and_the_journal_goes_on():
    disk = MemoryDisk()
    session = await opened(disk)
    await session.journal.durable(session.append())
    disk.unlink(RESERVE)
    disk.capacity = 0
    with pytest.raises(UnavailableError, match="no room"):
        await session.journal.rotate()
    await session.journal.durable(session.append("fits"))
    disk.capacity = None
    await session.journal.rotate()
    await session.journal.close()


# ---------------------------------------------------------------- segments and snapshots


async def test_segments_double_up_to_their_limit_and_are_made_ahead(disk):
    session = await opened(disk)
    for _ in range(300):
        await session.journal.durable(session.append("x" * 1000))
    sizes = {}
    for name in disk.listdir():
        if segment_lsn(name):
            sizes[name] = disk.size(name)
    last = sizes[max(sizes)]
    assert last == SMALL.segment_bytes_max
    assert session.journal.stats().segments == len(sizes)
    assert session.journal.stats().segment_bytes == sum(sizes.values())
    assert "wal-next.tmp" in disk.listdir() or session.journal.stats().room_bytes > last // 2
    await session.journal.close()
    assert "wal-next.tmp" not in disk.listdir()
    again = await opened(disk)
    assert len(again.records) == 300
    await again.journal.close()


async def snapshot(session, lines=()):
    journal = session.journal
    base = await journal.rotate()
    writer = journal.open_snapshot(base, 1)
    await writer.write(list(lines) or [(journal.last_lsn, b'{"all":%d}' % journal.last_lsn)])
    await writer.finish()
    return base


@pytest.mark.parametrize("threads", [False, True])
async def test_two_restore_points_always_exist_and_no_more(disk, threads):
    session = await opened(disk, threads=threads, clock=SystemClock())
    bases = []
    for number in range(4):
        session.append("x" * 2000)
        bases.append(await snapshot(session))
        names = disk.listdir()
        assert [snapshot_lsn(n) for n in names if snapshot_lsn(n)] == bases[-2:]
        oldest = min(segment_lsn(n) for n in names if segment_lsn(n))
        assert oldest == (1 if number == 0 else bases[-2])
    stats = session.journal.stats()
    names = [n for n in disk.listdir() if segment_lsn(n)]
    assert (stats.segments, stats.snapshots, stats.snapshot_lsn) == (len(names), 2, bases[-1])
    assert stats.segment_bytes == sum(disk.size(n) for n in names)
    await session.journal.close()

    again = await opened(disk)
    assert again.report.snapshot_base == bases[-1]
    assert len(again.lines) == 1
    await again.journal.close()


async def test_a_snapshot_is_named_only_when_its_lines_are_durable(disk):
    session = await opened(disk)
    journal = session.journal
    base = await journal.rotate()
    writer = journal.open_snapshot(base, 1)
    lsn = session.append(strict=False)
    await writer.write([(lsn, b"1")])
    seen = []
    disk.before = lambda operation, name: (
        seen.append(journal.durable_lsn) if operation == "rename" and snapshot_lsn(name) else None
    )
    await writer.finish()
    assert seen == [lsn]
    await journal.close()


async def test_a_snapshot_that_is_given_up_leaves_nothing(disk):
    session = await opened(disk)
    base = await session.journal.rotate()
    writer = session.journal.open_snapshot(base, 1)
    await writer.write([(1, b"1")])
    await writer.abort()
    await session.journal.open_snapshot(base, 1).abort()
    assert not [n for n in disk.listdir() if n.startswith("snap")]
    await session.journal.close()


async def test_a_failed_snapshot_leaves_the_journal_as_it_was(disk):
    session = await opened(disk)
    base = await session.journal.rotate()
    writer = session.journal.open_snapshot(base, 1)
    await writer.write([(1, b"1")])
    disk.before = failing("fsync", errno.EIO)
    with pytest.raises(OSError, match="injected"):
        await writer.finish()
    disk.before = None
    await writer.abort()
    await session.journal.durable(session.append())
    await session.journal.close()


async def test_a_rotation_without_new_records_keeps_its_segment(disk):
    session = await opened(disk)
    first = await session.journal.rotate()
    assert await session.journal.rotate() == first
    assert first == 2
    bases = await asyncio.gather(*(session.journal.rotate() for _ in range(3)))
    assert bases == [2, 2, 2]
    await session.journal.close()


async def test_a_rotation_waits_for_the_batch_in_flight_and_appends_go_on(disk):
    session = await opened(disk)
    first = session.append()
    rotating = asyncio.create_task(session.journal.rotate())
    second = session.append()
    base = await rotating
    assert base in (first, second, second + 1)
    await session.journal.durable(second)
    await session.journal.close()
    again = await opened(disk)
    assert list(again.records) == [first, second]
    await again.journal.close()


# ---------------------------------------------------------------- ends


async def test_a_clean_close_writes_what_is_queued(disk):
    session = await opened(disk)
    session.append("strict")
    session.append("lazy", strict=False)
    await session.journal.close()
    await session.journal.close()
    with pytest.raises(UnavailableError):
        session.append()
    again = await opened(disk)
    assert again.report.clean
    assert len(again.records) == 2
    await again.journal.close()


async def test_an_unclean_close_drops_what_is_queued_and_tells_those_who_wait(disk):
    session = await opened(disk)
    heard = []
    session.journal.when_durable(session.append(), heard.append)
    await session.journal.close(clean=False)
    assert len(heard) == 1
    assert isinstance(heard[0], UnavailableError)
    again = await opened(disk)
    assert not again.report.clean
    assert len(again.records) == 0
    await again.journal.close()


async def test_a_closed_loop_does_not_upset_the_writer(disk):
    session = await opened(disk, threads=True, clock=SystemClock())
    thread = session.journal._writing
    thread._loop = closed = asyncio.new_event_loop()
    closed.close()
    thread.submit(lambda: lambda: None)
    await asyncio.to_thread(thread._thread.join, 30)
    assert not thread._thread.is_alive()
    await session.journal.close(clean=False)


async def test_memory_is_a_directory_like_any_other():
    journal, report = await open_journal(
        MEMORY,
        settings=SMALL,
        clock=SystemClock(),
        on_line=lambda *_: None,
        on_record=lambda *_: None,
    )
    assert report.lsn == 0
    await journal.durable(journal.append([record(journal.next_lsn)]))
    await journal.close()


async def test_a_slow_sync_is_logged(disk, caplog):
    clock = StillClock()
    session = await opened(disk, clock=clock)

    def slow(operation, _name):
        if operation == "fdatasync":
            clock.now_s += 3.0

    disk.before = slow
    with caplog.at_level(logging.WARNING):
        await session.journal.durable(session.append())
    assert "slow disk: a sync of" in caplog.text
    stats = session.journal.stats()
    assert stats.sync_seconds_max == stats.sync_seconds_last == 3.0
    await session.journal.close()


async def test_the_stores_id_stays(disk):
    session = await opened(disk)
    store_id = session.journal.store_id
    await session.journal.close()
    again = await opened(disk)
    assert again.journal.store_id == store_id
    assert len(store_id) == 16
    assert disk.listdir(BROKEN) == []
    await again.journal.close()


async def test_segments_are_named_after_their_first_record(disk):
    session = await opened(disk)
    assert [n for n in disk.listdir() if segment_lsn(n)] == [segment_name(1)]
    await session.journal.close()


async def test_lazy_records_behind_a_full_batch_are_not_forgotten(disk):
    session = await opened(disk)
    for _ in range(4):
        session.append("x" * (SMALL.frame_bytes_max // 2))
    lazy = session.append(strict=False)
    await passes(60)
    assert session.journal.durable_lsn == lazy
    await session.journal.close()


async def test_a_group_may_be_changed_after_it_was_appended(disk):
    session = await opened(disk)
    group = [record(2), record(3)]
    session.journal.append(group)
    group.clear()
    await session.journal.durable(3)
    await session.journal.close()
    again = await opened(disk)
    assert list(again.records) == [2, 3]
    await again.journal.close()


@pytest.mark.parametrize("stuck_before", [True, False])
async def test_a_stop_does_not_wait_for_a_full_disk(disk, stuck_before):
    session = await opened(disk)
    disk.before = failing("pwrite", errno.ENOSPC)
    if stuck_before:
        session.append()
        await passes()
    await session.journal.close()
    disk.before = None
    again = await opened(disk)
    assert not again.report.clean
    await again.journal.close()


async def test_a_cancelled_close_still_gives_the_lock_back(disk):
    session = await opened(disk)
    session.journal._writing.submit = lambda _work: None
    closing = asyncio.create_task(session.journal.close())
    await passes(3)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    again = await opened(disk)
    await again.journal.close()


async def test_what_is_durable_stays_so_for_those_who_ask_late(disk):
    session = await opened(disk)
    lsn = session.append()
    await session.journal.durable(lsn)
    await session.journal.close()
    heard = []
    session.journal.when_durable(lsn, heard.append)
    session.journal.when_durable(lsn + 9, heard.append)
    await passes(1)
    assert heard[0] is None
    assert isinstance(heard[1], UnavailableError)
    await session.journal.durable(lsn)


async def test_a_broken_disk_under_the_next_segment_ends_the_journal(disk):
    session = await opened(disk)
    fatal = []
    session.journal.on_fatal = fatal.append
    disk.before = failing("open", errno.EIO)
    while not fatal:
        session.append("x" * 1000)
        await passes()
    assert isinstance(session.journal.failed, DiskFailedError)
    assert "next segment" in str(fatal[0])
    await session.journal.close()


async def test_progress_is_told_once_a_phase(disk):
    session = await opened(disk)
    for _ in range(20):
        await session.journal.durable(session.append())
    await session.journal.close()
    told = []
    journal, _ = await open_journal(
        "unused",
        settings=SMALL,
        clock=StillClock(),
        disk=disk,
        on_line=lambda *_: None,
        on_record=lambda *_: None,
        progress=told.append,
        threads=False,
    )
    assert [progress.phase for progress in told] == ["journal"]
    await journal.close()


async def test_an_exception_of_the_caller_comes_through_and_gives_the_lock_back(disk):
    session = await opened(disk)
    await session.journal.durable(session.append())
    await session.journal.close()

    def bad(_lsn, _data):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await open_journal(
            "unused",
            settings=SMALL,
            clock=StillClock(),
            disk=disk,
            on_line=bad,
            on_record=bad,
        )
    again = await opened(disk)
    await again.journal.close()
