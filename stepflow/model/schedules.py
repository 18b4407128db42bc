"""PURE. What is known of each schedule: records in, rows out.

A row says up to which time everything is decided, so that each fire time gets its one run, however
often the process dies. A snapshot has one line for each::

    {"k":"schedule","id":"nightly","lsn":57,"spec":"0 2 * * * Europe/Berlin","last":1705280400000}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType

from stepflow.model.records import ScheduleFired, SchedulePaused, ScheduleSet
from stepflow.model.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BackfillRun", "BackfillView", "ScheduleRecord", "ScheduleRow", "ScheduleRows"]
__all__ += ["ScheduleView"]

ScheduleRecord = ScheduleSet | ScheduleFired | SchedulePaused


class ScheduleRow(msgspec.Struct, eq=False, omit_defaults=True):
    """One schedule."""

    id: str
    lsn: int = 0
    spec: str = ""
    """As it was set last; empty when it is gone."""
    last: int = 0
    """Every time up to this one is decided."""
    paused: bool = False
    fired: int = 0
    skipped: int = 0
    run: str = ""
    """The run started last, and for when."""
    at: int = 0

    def apply(self, record: ScheduleRecord) -> None:
        """Change the row as the record says."""
        match record:
            case ScheduleSet():
                self.spec = record.spec
                self.last = max(self.last, record.ts)
            case ScheduleFired():
                self.last = max(self.last, record.at)
                self.skipped += record.skipped
                if record.run:
                    self.fired += 1
                    self.run = record.run
                    self.at = record.at
            case _:
                self.paused = record.paused
                self.last = max(self.last, record.ts)
        self.lsn = record.lsn

    def line(self) -> bytes:
        """Return the row's line in a snapshot."""
        return b'{"k":"schedule",%b' % _encode(self)[1:]


class ScheduleRows:
    """All rows, by id."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[str, ScheduleRow] = {}

    def take_line(self, data: bytes) -> None:
        """Take a snapshot's line. Raises `msgspec.MsgspecError` for one that is none."""
        row = _decode(data)
        self.rows[row.id] = row

    def take(self, record: ScheduleRecord) -> ScheduleRow:
        """Apply a record, unless its row includes it."""
        row = self.rows.get(record.schedule)
        if row is None:
            row = self.rows[record.schedule] = ScheduleRow(record.schedule)
        if record.lsn > row.lsn:
            row.apply(record)
        return row


class ScheduleView(Shown, rename="camel", kw_only=True, omit_defaults=True):
    """A schedule, as `GET /schedules` gives it."""

    id: str
    workflow_id: str
    spec: str
    """The cron line and its time zone, or the interval."""
    state: Literal["active", "paused"]
    catch_up: str
    overlap: str
    next_at: str | UnsetType = UNSET
    next: list[str] | UnsetType = UNSET
    """The times to come, where they were asked for."""
    last_at: str | UnsetType = UNSET
    """For which time the last run was started."""
    last_run_id: str | UnsetType = UNSET
    live_run_ids: list[str]
    """The first 100 of its runs that have not ended."""
    fired: int
    skipped: int


class BackfillRun(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """One time of a backfill, and the run that was started for it."""

    scheduled_at: str
    run_id: str | UnsetType = UNSET


class BackfillView(Shown, rename="camel", kw_only=True):
    """What a backfill starts, or would start."""

    runs: list[BackfillRun]
    existing: int
    """So many times of the range have their run already."""
    dry_run: bool


_encode: Callable[[ScheduleRow], bytes] = msgspec.json.Encoder().encode
_decode: Callable[[bytes], ScheduleRow] = msgspec.json.Decoder(ScheduleRow).decode
