"""Repair a damaged image of a small directory, and hold the outcome to what was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.errors import JournalCorruptError
from stepflow.journal.lock import LOCK
from stepflow.journal.repair import repair
from stepflow.journal.verify import verify
from tests.damage.damage_kit import NOW_MS, Files, files_of
from tests.journal_kit import recover

if TYPE_CHECKING:
    from tests.damage.sweep import Image, Subject


def kept(before: Files, after: Files) -> list[str]:
    """Return the files of `before` that are neither where they were nor whole in broken/."""
    contents = set(after.values())
    return [
        name
        for name, data in before.items()
        if name != LOCK and not name.endswith(".tmp") and data not in contents
    ]


def mend_image(subject: Subject, image: Image) -> str:
    """Repair the image; what was cut must lie in broken/, what starts must be what was written.

    Returns `whole`, `mended`, or the code of what cannot be mended.
    """
    disk = subject.disk.damaged(image.changes)
    before = files_of(disk)
    try:
        done = repair(disk, NOW_MS)
    except JournalCorruptError as error:
        assert kept(before, files_of(disk)) == [], image.what
        return error.code
    assert kept(before, files_of(disk)) == [], image.what
    assert repair(disk, NOW_MS) == [], f"{image.what}: not mended at once"
    found, seen = recover(disk)
    for lsn, data in seen.items():
        assert data == subject.records[lsn], f"{image.what}: other bytes at lsn {lsn}"
    assert found.lsn <= subject.lsn
    assert verify(disk).exit_code in {0, 65}
    return "mended" if done else "whole"
