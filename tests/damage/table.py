"""The table of what a start may find in a data directory, and what comes of it.

Each `Row` damages a real directory. Its expectation is the table's: served or refused, with which
code, with which words for the operator, with which exit status.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.damage import directories as on
from tests.damage.snapshot_text import rows_of, snapshot, with_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVED: Final = 0
CORRUPT: Final = 65
DISK: Final = 74

NEXT_MOVES: Final = ("Restore a backup", "stepflow verify", "stepflow repair")
UPGRADE: Final = ("Start the newer version", "Nothing was changed")


@dataclass(frozen=True)
class Row:
    """One line of the table. `of` names the directory that is damaged."""

    number: int
    found: str
    damage: Callable[[Path], object]
    of: str = "killed"
    exit_code: int = SERVED
    codes: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """Runs that may be gone: what was torn was never acknowledged."""
    aside: str = ""
    broken: str = ""
    """What begins the name of a file that lies in broken/ afterwards."""

    def __str__(self) -> str:
        return f"{self.number}: {self.found}"


def refused(
    number: int,
    found: str,
    damage: Callable[[Path], object],
    code: str,
    *says: str,
    of: str = "killed",
) -> Row:
    return Row(number, found, damage, of, CORRUPT, (code,), says or NEXT_MOVES)


# ---------------------------------------------------------------- what is done


def nothing(_data: Path) -> None:
    """Leave it."""


def tear_the_end(data: Path) -> None:
    last = on.segments(data)[-1]
    begin, end = on.ends_of(last).frames[-1]
    on.blank(last, begin + 64, end)


def tear_a_sector(data: Path) -> None:
    """Lose the sector in the middle of a long last frame."""
    on.append(data, [{"t": "later", "r": "", "d": "x" * 3000}])
    last = on.segments(data)[-1]
    begin, _ = on.ends_of(last).frames[-1]
    hole = (begin // 512 + 2) * 512
    on.blank(last, hole, hole + 512)


def tear_behind_the_close(data: Path) -> None:
    on.append(data, [{"t": "later", "r": "", "d": "x" * 300}])
    tear_the_end(data)


def lose_what_the_snapshot_has(data: Path) -> None:
    newest = on.snapshots(data)[-1]
    text = newest.read_bytes()
    rows = [*rows_of(text), (99, b'{"k":"gone","id":"run_gone00000000","lsn":99}')]
    newest.write_bytes(snapshot(text.partition(b"\n")[0] + b"\n", rows))


def rot_the_last_frame(data: Path) -> None:
    last = on.segments(data)[-1]
    on.flip(last, on.ends_of(last).frames[-1][0] + 60)


def rot_a_frame(data: Path) -> None:
    last = on.segments(data)[-1]
    on.flip(last, on.ends_of(last).frames[0][0] + 60)


def rot_two_frames(data: Path) -> None:
    """The last but one loses a sector's share, and the last its header with that sector."""
    on.append(data, [{"t": "later", "r": "", "d": "x" * 1500}])
    on.append(data, [{"t": "later", "r": "", "d": "x" * 1500}])
    last = on.segments(data)[-1]
    (begin, _), (second, _) = on.ends_of(last).frames[-2:]
    hole = (begin // 512 + 1) * 512
    on.blank(last, hole, hole + 512)
    on.blank(last, second, (second // 512 + 1) * 512)


def rot_a_sealed_segment(data: Path) -> None:
    on.flip(on.segments(data)[1], 560)


def rot_a_needless_segment(data: Path) -> None:
    on.flip(on.segments(data)[0], 20)


def prepare_half_a_segment(data: Path) -> None:
    (data / "wal-next.tmp").write_bytes(bytes(4096))


def half_a_snapshot(data: Path) -> None:
    newest = on.snapshots(data)[-1]
    half = newest.read_bytes()[:2000]
    (data / "snap-00000000000000000075.jsonl.tmp").write_bytes(half)


def rot_a_header(data: Path) -> None:
    on.flip(on.segments(data)[-1], 20)


def empty_the_last_segment(data: Path) -> None:
    on.segments(data)[-1].write_bytes(b"")


def lose_a_segment(data: Path) -> None:
    on.segments(data)[1].unlink()


def lose_a_middle_segment(data: Path) -> None:
    on.segments(data)[1].rename(data.parent / "away")


def double_a_segment(data: Path) -> None:
    """The same journal under another name: as good as a segment that does not follow."""
    second, last = on.segments(data)[1:]
    last.write_bytes(second.read_bytes())


def another_history(data: Path) -> None:
    on.set_header(on.segments(data)[-1], chain=1)


def foreign_segment(data: Path) -> None:
    on.set_header(on.segments(data)[-1], store_id=0xBAD)


def foreign_snapshot(data: Path) -> None:
    newest = on.snapshots(data)[-1]
    text = newest.read_bytes()
    store = json.loads(text.partition(b"\n")[0])["store"].encode()
    newest.write_bytes(with_head(text, store, b"0" * 13 + b"bad"))


def newer_format(data: Path) -> None:
    told = json.loads((data / "FORMAT").read_text())
    told |= {"format": 9, "min_reader": 9, "created_by": "9.1"}
    (data / "FORMAT").write_text(json.dumps(told))


def newer_segment(data: Path) -> None:
    on.set_header(on.segments(data)[-1], format=9, min_reader=9)


def newer_snapshot(data: Path) -> None:
    newest = on.snapshots(data)[-1]
    newest.write_bytes(with_head(newest.read_bytes(), b'"min_reader":1', b'"min_reader":9'))


def unknown_record(data: Path) -> None:
    on.append(data, [{"t": "from.later", "r": "", "rs": 0, "ts": 1}])


def unknown_record_of_a_run(data: Path) -> None:
    on.append(data, [{"t": "from.later", "r": on.WAITING, "rs": 5, "ts": 1}])


def critical_record(data: Path) -> None:
    on.append(data, [{"t": "from.later", "crit": True, "r": "", "rs": 0, "ts": 1}])


def record_that_does_not_fit(data: Path) -> None:
    told = {"t": "step.completed", "r": on.WAITING, "rs": 5, "ts": 1, "key": "no#1", "result": 1}
    on.append(data, [told])


def record_with_another_number(data: Path) -> None:
    told = {"t": "sleep.ended", "r": on.WAITING, "rs": 50, "ts": 1, "key": "wait#1"}
    on.append(data, [told])


def record_that_makes_no_sense(data: Path) -> None:
    on.append(data, [{"t": "step.completed", "r": on.WAITING, "rs": "five", "ts": None}])


def record_of_nobody(data: Path) -> None:
    on.append(data, [{"t": "sleep.ended", "r": "run_nobody000000", "rs": 4, "ts": 1, "key": "x#1"}])


def rot_the_newest_snapshot(data: Path) -> None:
    on.flip(on.snapshots(data)[-1], 300)


def cut_the_newest_snapshot(data: Path) -> None:
    newest = on.snapshots(data)[-1]
    newest.write_bytes(b"".join(newest.read_bytes().splitlines(keepends=True)[:-1]))


def rot_all_snapshots(data: Path) -> None:
    for path in on.snapshots(data):
        on.flip(path, 300)


def lose_all_segments(data: Path) -> None:
    for path in on.segments(data):
        path.unlink()


def unreadable_segment(data: Path) -> None:
    """A folder in its place: opening it is an error of the disk, never the end of the journal."""
    last = on.segments(data)[-1]
    last.unlink()
    last.mkdir()


def open_to_others(data: Path) -> None:
    on.segments(data)[-1].chmod(0o644)
    on.snapshots(data)[-1].chmod(0o666)


def cut_the_file(data: Path) -> None:
    last = on.segments(data)[-1]
    last.write_bytes(last.read_bytes()[: on.ends_of(last).end])


def lose_the_format(data: Path) -> None:
    (data / "FORMAT").unlink()


def spoil_the_format(data: Path) -> None:
    (data / "FORMAT").write_bytes(b'{"store_id": 5}')


# ---------------------------------------------------------------- the table

TORN: Final = ("dropped", "unacknowledged bytes at wal-", "normal after power loss")

TABLE: Final = (
    Row(1, "a clean stop", nothing, "stopped", says=("recovered clean lsn=",)),
    Row(2, "a crash", nothing, says=("recovered after crash lsn=",)),
    Row(
        3,
        "a last frame that ends in zeros",
        tear_the_end,
        codes=("SFW101",),
        says=TORN,
        lost=(on.LAST,),
        broken="wal-",
    ),
    Row(
        3,
        "a last frame with an unwritten sector",
        tear_a_sector,
        codes=("SFW101",),
        says=TORN,
        broken="wal-",
    ),
    refused(
        4,
        "a torn frame behind a clean stop",
        tear_behind_the_close,
        "SFW201",
        "was closed at lsn",
        *NEXT_MOVES,
        of="stopped",
    ),
    refused(
        4,
        "a snapshot with an LSN behind the end",
        lose_what_the_snapshot_has,
        "SFW201",
        "the disk has lost data that was synced",
        *NEXT_MOVES,
    ),
    refused(
        5,
        "rot in the last frame",
        rot_the_last_frame,
        "SFW202",
        "no power cut leaves it so",
        *NEXT_MOVES,
    ),
    refused(
        6, "rot with good data behind it", rot_a_frame, "SFW203", "good data after it", *NEXT_MOVES
    ),
    refused(6, "rot in the last two frames", rot_two_frames, "SFW203", "damaged too", *NEXT_MOVES),
    refused(
        7,
        "rot in a sealed segment",
        rot_a_sealed_segment,
        "SFW204",
        "good data goes on with lsn 75",
        *NEXT_MOVES,
    ),
    Row(
        7,
        "rot in a segment below the base",
        rot_a_needless_segment,
        codes=("SFW107",),
        says=("the snapshot makes it needless",),
    ),
    Row(
        8,
        "half a segment",
        prepare_half_a_segment,
        codes=("SFW102",),
        says=("removed unfinished file wal-next.tmp",),
    ),
    refused(
        9, "a damaged segment header", rot_a_header, "SFW205", "the header of wal-", *NEXT_MOVES
    ),
    refused(9, "an empty segment", empty_the_last_segment, "SFW205"),
    refused(10, "a missing segment", lose_a_segment, "SFW206", "is missing", *NEXT_MOVES),
    refused(10, "a missing segment, moved away", lose_a_middle_segment, "SFW206"),
    refused(
        10,
        "a segment under another's name",
        double_a_segment,
        "SFW206",
        "it was renamed",
        *NEXT_MOVES,
    ),
    refused(10, "a segment of another history", another_history, "SFW206"),
    refused(
        10,
        "a segment of another store",
        foreign_segment,
        "SFW207",
        "belongs to store 0000000000000bad",
        *NEXT_MOVES,
    ),
    refused(10, "a snapshot of another store", foreign_snapshot, "SFW207"),
    refused(11, "FORMAT of a newer version", newer_format, "SFW301", "version 9.1", *UPGRADE),
    refused(11, "a segment of a newer version", newer_segment, "SFW301", *UPGRADE),
    refused(11, "a snapshot of a newer version", newer_snapshot, "SFW301", *UPGRADE),
    Row(12, "an unknown record", unknown_record),
    Row(12, "an unknown record of a run", unknown_record_of_a_run),
    refused(
        12,
        "an unknown record that must be understood",
        critical_record,
        "SFW302",
        "'from.later'",
        "Start the version that wrote it",
        "Nothing was changed",
    ),
    Row(
        13,
        "a record that does not fit",
        record_that_does_not_fit,
        codes=("SFW401",),
        says=("set aside at lsn 81", "no call 'no#1'"),
        aside=on.WAITING,
    ),
    Row(
        13,
        "a record with another number",
        record_with_another_number,
        codes=("SFW401",),
        says=("has number 50",),
        aside=on.WAITING,
    ),
    Row(
        13,
        "a record that makes no sense",
        record_that_makes_no_sense,
        codes=("SFW401",),
        says=("cannot be read",),
        aside=on.WAITING,
    ),
    Row(
        13,
        "a record of no run",
        record_of_nobody,
        codes=("SFW403",),
        says=("run_nobody000000 has no beginning", "A copy of it is in broken/"),
        broken="left-out-",
    ),
    Row(
        14,
        "a damaged newest snapshot",
        rot_the_newest_snapshot,
        codes=("SFW103",),
        says=("it is not used", "using snap-00000000000000000049.jsonl"),
        broken="snap-",
    ),
    Row(
        14,
        "a newest snapshot without its end",
        cut_the_newest_snapshot,
        codes=("SFW103",),
        says=("its last line is missing",),
        broken="snap-",
    ),
    Row(
        15,
        "no whole snapshot, the journal from LSN 1",
        rot_all_snapshots,
        "young",
        codes=("SFW103", "SFW104"),
        says=("using the journal from lsn 1",),
        broken="snap-",
        lost=(on.AFTER, on.LAST),
    ),
    refused(
        16,
        "no whole snapshot, a later journal",
        rot_all_snapshots,
        "SFW208",
        "begins with lsn 49",
        "Nothing was changed",
        "Restore a backup; nothing in the directory can replace it",
    ),
    refused(16, "no journal at all", lose_all_segments, "SFW206", "is not there", *NEXT_MOVES),
    Row(
        17,
        "half a snapshot",
        half_a_snapshot,
        codes=("SFW102",),
        says=("removed unfinished file snap-",),
    ),
    Row(
        19,
        "a segment that cannot be read",
        unreadable_segment,
        exit_code=DISK,
        codes=("SFW209",),
        says=("check the disk",),
    ),
    Row(
        20,
        "files that others may read",
        open_to_others,
        codes=("SFW105",),
        says=("its mode is now 0600",),
    ),
    refused(21, "a segment that lost its end", cut_the_file, "SFW210", "it was cut", *NEXT_MOVES),
    refused(
        21,
        "no FORMAT",
        lose_the_format,
        "SFW211",
        "is missing beside journal files",
        "Restore it from a backup",
        "stepflow repair",
    ),
    refused(
        21,
        "a damaged FORMAT",
        spoil_the_format,
        "SFW211",
        "cannot be read",
        "Restore it from a backup",
        "stepflow repair",
    ),
)
"""18, a directory in use, needs two processes: it stands in the tests."""
