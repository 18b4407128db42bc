"""A whole directory damaged everywhere: nothing is silently dropped, and nothing bad is read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from stepflow.errors import JournalCorruptError
from stepflow.journal.frame import SECTOR
from stepflow.journal.system import system_record
from tests.damage.sweep import (
    ENDS,
    Image,
    Subject,
    confused_files,
    cuts,
    flips,
    forged,
    judge,
    noise,
    spoiled_sectors,
    subject,
    torn_sectors,
)
from tests.journal_kit import handmade, recover, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTS = 4


def judge_all(made: Subject, images: Iterable[Image]) -> int:
    count = 0
    for image in images:
        judge(made, image)
        count += 1
    return count


@pytest.fixture(params=ENDS)
def made(request: pytest.FixtureRequest) -> Subject:
    return subject(request.param)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_flipped_bit_in_any_byte_of_any_file_is_never_believed(made: Subject, part: int) -> None:
    assert judge_all(made, islice(flips(made, every_bit=False), part, None, PARTS)) > 1000
    # In a snapshot: the one before is used. In the journal: refused.
    assert "SFW101" not in made.answers
    assert {"SFW103", "SFW203", "SFW204", "SFW205", "SFW211"} <= set(made.answers)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_file_cut_at_any_byte_loses_nothing_that_was_acknowledged(
    made: Subject, part: int
) -> None:
    assert judge_all(made, islice(cuts(made, step=3), part, None, PARTS)) > 300
    assert {"SFW103", "SFW205", "SFW210"} <= set(made.answers)


def test_every_subset_of_the_last_frames_sectors_is_torn_and_nothing_else() -> None:
    made = subject("crash")
    assert judge_all(made, torn_sectors(made)) > 5
    assert set(made.answers) == {"SFW101"}


def test_a_torn_close_record_is_a_crash(made: Subject) -> None:
    judge_all(made, torn_sectors(made))
    assert set(made.answers) <= {"SFW101", "SFW201"}


def test_a_sector_of_zeros_or_noise_or_of_another_place_is_never_believed(made: Subject) -> None:
    assert judge_all(made, spoiled_sectors(made, 11)) > 500


def test_lost_emptied_swapped_and_doubled_files_lose_nothing_silently(made: Subject) -> None:
    assert judge_all(made, confused_files(made)) > 100
    assert {"SFW103", "SFW205", "SFW206", "SFW211"} <= set(made.answers)


def test_files_of_another_history_store_place_or_version_are_refused(made: Subject) -> None:
    codes = {image.what: judge(made, image) for image in forged(made)}
    torn = codes.pop(f"{made.last} with a torn frame behind its end")
    closed = len(made.frames) > 4
    assert torn == ("SFW201" if closed else "SFW101")
    last = made.last
    newest = max(made.lines)
    header = f"{last} with "
    assert codes[f"{newest} includes lsn {made.lsn + 1}"] == "SFW201"
    told = {what.removeprefix(header): code for what, code in codes.items() if header in what}
    assert sorted(told.values()) == ["SFW206", "SFW206", "SFW207", "SFW301"]


@pytest.mark.parametrize("seed", range(4))
def test_noise_in_several_places_is_never_believed(made: Subject, seed: int) -> None:
    assert judge_all(made, noise(made, seed, 200)) == 200


def test_no_sector_of_zeros_takes_what_a_clean_stop_has_closed() -> None:
    """Wherever the last frames lie in their sectors, unless one begins with the very sector."""
    for size in range(0, 600, 16):
        made = handmade(size=4096)
        made.add("d" * 700)
        made.add("d" * size)
        made.add("d")
        closed = made.add_records([system_record("close", made.next_lsn, 0)])
        name, data = made.frames[-1][0], made.disk.read(made.frames[-1][0])
        for at in range(SECTOR, made.frames[-1][1], SECTOR):
            write_file(made.disk, name, data[:at] + bytes(SECTOR) + data[at + SECTOR :])
            try:
                found, _ = recover(made.disk, read_only=True)
            except JournalCorruptError:
                continue
            begins = any(stop == at for _, stop, _ in made.frames)
            assert found.lsn == closed - 1 or begins, (size, at)


def test_a_whole_directory_is_read_whole(made: Subject) -> None:
    assert judge(made, Image("as it was", {})) == "whole"
    assert len(made.lines) == 2
    assert made.lsn == max(made.records)
