"""Disk, marker, suspects, recovery and repair where the operating system or a file misbehaves."""

from __future__ import annotations

import errno
import fcntl
import os
import zlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.config import Settings
from stepflow.errors import DiskFailedError, JournalCorruptError
from stepflow.journal import opening, repair
from stepflow.journal.backup import backup
from stepflow.journal.disk import RealDisk, copy_bytes
from stepflow.journal.frame import ALIGN, Verdict, encode_frame, judge
from stepflow.journal.marker import Marker, read_marker
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.opening import Opening
from stepflow.journal.recovery import LeftOutError, Recovery
from stepflow.journal.segment import segment_lsn, segment_name
from stepflow.journal.snapshot import SnapshotFile
from stepflow.journal.store import FORMAT_FILE, read_store, refuse_newer_files
from stepflow.journal.suspects import Suspects
from tests.journal_kit import KIB, StillClock, handmade, record, recover, write_file
from tests.unit.run_writer import RUN, Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN_ID = RUN.encode()


def nothing(*_: object) -> None:
    return


def fail(code: int) -> Callable[..., Any]:
    def failing(*_: object) -> None:
        raise OSError(code, "injected")

    return failing


def _short(*_: object) -> int:
    """Write a part only."""
    return 1


# ---------------------------------------------------------------- disks


def test_an_empty_file_is_copied_too() -> None:
    disk = MemoryDisk()
    copy_bytes(disk, "empty", b"")
    assert disk.read("empty") == b""


def test_a_file_may_be_closed_twice(tmp_path: Path) -> None:
    file = RealDisk(tmp_path).open("file", create=True)
    file.close()
    file.close()


def test_a_lock_that_cannot_be_asked_for_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    with pytest.raises(OSError, match="injected"):
        RealDisk(tmp_path).try_lock("LOCK")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_cut_may_leave_one_file_under_two_names() -> None:
    disk = MemoryDisk()
    write_file(disk, "a", b"data")
    disk.rename("a", "b")
    disk.rename("b", "c")
    kept = iter([False, True])
    left = disk.power_cut(lambda: next(kept))
    assert left.listdir() == ["a", "c"]
    assert left.read("a") == left.read("c") == b"data"


def test_space_is_put_aside_in_a_file_that_is_there() -> None:
    disk = MemoryDisk(capacity=16 * KIB)
    disk.allocate("RESERVE", KIB)
    disk.allocate("RESERVE", 2 * KIB)
    assert disk.size("RESERVE") == 2 * KIB


# ---------------------------------------------------------------- frames


def test_a_header_that_was_not_written_to_its_end_is_torn() -> None:
    frame, _ = encode_frame([b'{"a":1}'], 1, 0)
    bad = judge(frame[:20] + bytes(4 * KIB), 0)
    assert bad.verdict is Verdict.TORN
    assert "header" in bad.reason


def test_a_frame_whose_lengths_do_not_add_up_is_refused_whatever_its_checksum() -> None:
    made = handmade()
    made.add("one")
    name, end, _ = made.frames[-1]
    data = bytearray(made.disk.read(name))
    frame, _ = encode_frame([b'{"t":"x","lsn":2}'], 2, int.from_bytes(data[540:544], "little"))
    wrong = bytearray(frame)
    wrong[32:36] = (1000).to_bytes(4, "little")
    crc = zlib.crc32(wrong[32:], zlib.crc32(wrong[:28], int.from_bytes(data[540:544], "little")))
    wrong[28:32] = crc.to_bytes(4, "little")
    assert len(wrong) % ALIGN == 0
    data[end : end + len(wrong)] = wrong
    write_file(made.disk, name, bytes(data))
    with pytest.raises(JournalCorruptError, match="do not add up") as caught:
        recover(made.disk)
    assert caught.value.code == "SFW202"


def test_a_whole_frame_of_another_lsn_is_damage_and_no_torn_tail() -> None:
    made = handmade()
    made.add("one")
    name, end, _ = made.frames[-1]
    data = bytearray(made.disk.read(name))
    stranger, _ = encode_frame([b'{"t":"x","lsn":9}'], 9, 0)
    data[end : end + len(stranger)] = stranger
    write_file(made.disk, name, bytes(data))
    with pytest.raises(JournalCorruptError, match="the frame of lsn 9 lies in its place") as caught:
        recover(made.disk)
    assert (caught.value.code, caught.value.offset) == ("SFW202", end)


# ---------------------------------------------------------------- starting


def _opening(disk: MemoryDisk) -> Opening:
    clock: Any = StillClock()
    return Opening(disk, Settings(), clock, os.urandom, nothing, nothing, nothing)


@pytest.mark.parametrize("operation", ["read", "listdir"])
def test_a_store_that_cannot_be_read_fails_the_start(operation: str) -> None:
    disk = handmade().disk
    assert isinstance(disk, MemoryDisk)

    def before(done: str, _: str) -> None:
        if done == operation:
            raise OSError(errno.EIO, "injected")

    disk.before = before
    with pytest.raises(DiskFailedError, match="SFW209"):
        _opening(disk).run()


def test_a_start_without_room_for_the_reserve_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "fill_reserve", fail(errno.ENOSPC))
    assert _opening(MemoryDisk()).run()[2] == 0


def test_a_start_whose_reserve_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "fill_reserve", fail(errno.EIO))
    with pytest.raises(DiskFailedError, match="reserve"):
        _opening(MemoryDisk()).run()


def test_a_build_that_was_not_installed_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", missing)
    assert opening.version() == "0"


def test_a_segment_that_goes_while_it_is_looked_at_was_not_newer() -> None:
    disk = handmade().disk
    assert isinstance(disk, MemoryDisk)
    names = [*disk.listdir(), segment_name(9)]
    disk.listdir = lambda folder="": names  # type: ignore[method-assign]
    refuse_newer_files(disk)


# ---------------------------------------------------------------- recovery, what is left out


def _with_a_line() -> MemoryDisk:
    made = handmade()
    made.add("one")
    file = SnapshotFile(made.disk, made.rotate(), 0, made.store.store_id)
    file.write([(1, b'{"k":"run"}')])
    file.seal()
    file.publish()
    assert isinstance(made.disk, MemoryDisk)
    return made.disk


def _refuse(_lsn: int, _data: bytes) -> None:
    raise LeftOutError("nobody can use it")


def _recovery(disk: MemoryDisk) -> Recovery:
    store = read_store(disk)
    assert store is not None
    return Recovery(disk, store, 1, _refuse, _refuse)


def test_a_line_that_cannot_be_used_is_left_out_said_and_kept_aside() -> None:
    disk = _with_a_line()
    found = _recovery(disk).run()
    assert any("nobody can use it" in line for line in found.messages)
    (copy,) = disk.listdir("broken")
    assert disk.read(f"broken/{copy}") == b'{"k":"run"}\n'


def test_a_copy_that_cannot_be_written_fails_the_start_unless_the_disk_is_full() -> None:
    disk = _with_a_line()

    def before(done: str, on: str) -> None:
        if done == "pwrite" and on.startswith("broken/"):
            raise OSError(errno.EIO, "injected")

    disk.before = before
    with pytest.raises(DiskFailedError, match="injected"):
        _recovery(disk).run()


def test_what_is_left_out_of_one_run_is_said_once_and_copied_once_over_all_starts() -> None:
    made = handmade()
    made.add("one", "two", "three")
    disk = made.disk
    assert isinstance(disk, MemoryDisk)
    store = read_store(disk)
    assert store is not None

    def refuse(lsn: int, _data: bytes) -> None:
        raise LeftOutError("" if lsn > 1 else "nobody knows the run")

    for now_ms in (1, 2):
        found = Recovery(disk, store, now_ms, _refuse, refuse).run()
        assert [line for line in found.messages if "A copy" in line] == [
            "nobody knows the run. A copy of it is in broken/"
        ]
    (copy,) = disk.listdir("broken")
    lines = disk.read(f"broken/{copy}").splitlines()
    assert lines == [record(1, "one"), record(2, "two"), record(3, "three")]


# ---------------------------------------------------------------- backup


def test_a_copy_of_a_directory_without_a_format_invents_none_and_is_refused() -> None:
    made = handmade()
    made.add("one")
    made.disk.unlink(FORMAT_FILE)
    target = MemoryDisk()
    with pytest.raises(JournalCorruptError, match="SFW211"):
        backup(made.disk, target)
    assert target.listdir() == [made.frames[0][0]]


# ---------------------------------------------------------------- repair


def test_repair_of_a_directory_that_never_ran_has_nothing_to_do() -> None:
    disk = MemoryDisk()
    assert repair.repair(disk, 1) == []


def test_repair_gives_up_when_nothing_it_does_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = handmade()
    made.add("one")
    made.disk.unlink(FORMAT_FILE)
    asked: list[JournalCorruptError] = []

    def mend(_self: object, error: JournalCorruptError) -> None:
        asked.append(error)

    monkeypatch.setattr("stepflow.journal.repair._Repair._mend", mend)
    with pytest.raises(JournalCorruptError, match="SFW211"):
        repair.repair(made.disk, 1)
    assert len(asked) == len(made.disk.listdir()) + 2


def test_repair_learns_the_stores_id_from_a_segment() -> None:
    made = handmade(store_id=11)
    made.add("one")
    made.disk.unlink(FORMAT_FILE)
    assert repair.repair(made.disk, 1)
    store = read_store(made.disk)
    assert store is not None
    assert store.store_id == 11


def test_a_repair_whose_disk_fails_says_where_what_was_cut_is() -> None:
    made = handmade()
    made.add("one")
    made.disk.unlink(FORMAT_FILE)
    assert isinstance(made.disk, MemoryDisk)

    def before(done: str, _on: str) -> None:
        if done == "pwrite":
            raise OSError(errno.EIO, "injected")

    made.disk.before = before
    with pytest.raises(DiskFailedError, match=r"SFW209 repairing .*injected.* is whole in broken/"):
        repair.repair(made.disk, 1)


def test_a_snapshot_that_reaches_past_its_missing_journal_is_written_again_behind_it() -> None:
    made = handmade()
    made.add("one")
    base = made.rotate()
    file = SnapshotFile(made.disk, base, 5, made.store.store_id)
    file.write([(1, b'{"k":"run"}'), (base + 7, b'{"k":"later"}')])
    file.seal()
    file.publish()
    assert isinstance(made.disk, MemoryDisk)
    disk = made.disk
    for name in [name for name in disk.listdir() if segment_lsn(name) is not None]:
        disk.unlink(name)
    done = repair.repair(disk, 1)
    lines: dict[int, bytes] = {}
    store = read_store(disk)
    assert store is not None
    found = Recovery(disk, store, 1, lines.__setitem__, _refuse).run()
    assert lines == {1: b'{"k":"run"}', base + 7: b'{"k":"later"}'}
    assert found.base_lsn == base + 8
    assert any(line.startswith("wrote ") for line in done)
    assert any(line.startswith(f"began the journal anew at lsn {base + 8}") for line in done)


def test_what_is_put_aside_takes_no_name_from_what_lies_there() -> None:
    made = handmade()
    made.add("one")
    made.add("two")
    name, end, _ = made.frames[-1]
    disk = made.disk
    disk.mkdir("broken")
    for number in (7, 8):
        write_file(disk, f"broken/{name}.{number}", b"older")
    data = bytearray(disk.read(name))
    data[end - ALIGN] ^= 1
    write_file(disk, name, bytes(data))
    repair.repair(disk, 7)
    assert disk.listdir("broken") == [f"{name}.{number}" for number in (7, 8, 9)]
    assert disk.read(f"broken/{name}.8") == b"older"
    assert disk.read(f"broken/{name}.9") == bytes(data)


# ---------------------------------------------------------------- marker


def test_a_marker_that_cannot_be_made_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr(os, "ftruncate", fail(errno.EIO))
    with pytest.raises(OSError, match="injected"):
        Marker(tmp_path / "marker", nothing)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_marker_that_has_no_room_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", _short)
    with pytest.raises(OSError, match="No space"):
        Marker(tmp_path / "marker", nothing)


def test_a_run_that_goes_on_is_marked_once_and_a_flush_of_nothing_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = Marker(tmp_path / "marker", nothing)
    marker.enter(RUN_ID)
    written: list[bytes] = []
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        written.append(bytes(data))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    marker.enter(RUN_ID)
    assert written == []
    marker.flush()
    assert len(written) == 1
    marker.flush()
    assert len(written) == 1
    marker.close()
    marker.close()


def test_a_marker_that_cannot_be_read_suspects_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "marker").mkdir()
    assert read_marker(tmp_path / "marker") == []
    assert "cannot be read" in caplog.text


# ---------------------------------------------------------------- suspects


def _suspected(path: Path, *, times: int, steps: int = 1) -> Suspects:
    """Return the suspects of a start after so many crashes in the same run."""
    for _ in range(times):
        marker = Suspects(path, clean=False).marker(nothing)
        marker.enter(RUN_ID)
        suspects = Suspects(path, clean=False)
        suspects.count([_run(steps).state])
    return Suspects(path, clean=True)


def _run(steps: int) -> Writer:
    run = Writer().start()
    for number in range(steps):
        run.step(f"s#{number}")
    return run


def test_a_run_that_has_gone_on_is_not_counted_any_more(tmp_path: Path) -> None:
    suspects: Any = _suspected(tmp_path, times=2)
    assert suspects.count([_run(1).state]) == set()
    assert suspects._rows[RUN].count == 2
    assert suspects.count([_run(3).state]) == set()
    assert suspects._rows == {}


def test_releasing_a_run_that_nobody_suspects_writes_nothing(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path, clean=True)
    suspects.release("run_nobody00")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("short", [False, True])
def test_counts_that_find_no_room_do_not_stop_a_start(
    short: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Suspects(tmp_path, clean=False).marker(nothing).enter(RUN_ID)
    suspects = Suspects(tmp_path, clean=False)
    monkeypatch.setattr(os, "write", _short if short else fail(errno.ENOSPC))
    assert suspects.count([_run(1).state]) == set()
    assert "no room to count" in caplog.text


def test_counts_that_cannot_be_written_fail_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Suspects(tmp_path, clean=False).marker(nothing).enter(RUN_ID)
    suspects = Suspects(tmp_path, clean=False)
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    with pytest.raises(DiskFailedError, match="SFW209"):
        suspects.count([_run(1).state])


def test_who_was_not_running_is_not_counted(tmp_path: Path) -> None:
    Suspects(tmp_path, clean=False).marker(nothing).enter(b"run_bbbbbbbb")
    suspects: Any = Suspects(tmp_path, clean=False)
    assert not suspects.knows(RUN)
    assert suspects.count([_run(1).state]) == set()
    assert suspects._rows == {}
    assert not (tmp_path / "suspects.json").exists()


def test_a_released_run_starts_from_nothing_at_the_next_start(tmp_path: Path) -> None:
    suspects = _suspected(tmp_path, times=3)
    assert suspects.count([_run(1).state]) == {RUN}
    suspects.release(RUN)
    assert not Suspects(tmp_path, clean=True).knows(RUN)
