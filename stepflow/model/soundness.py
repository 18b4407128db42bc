"""PURE. What the types of a record do not say: bounds that every record we write keeps.

A frame's checksum proves that a record is what was written, not that what was written makes sense.
Recovery asks here before it believes one, so that nothing further on meets a time outside the
calendar or a run id that is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.model import records as rec
from stepflow.model.failures import is_error
from stepflow.model.ids import is_run_id
from stepflow.tracing import is_traceparent

if TYPE_CHECKING:
    from msgspec import Raw

    from stepflow.model.records import Record

__all__ = ["COUNT_MAX", "TIME_MAX_MS", "doubt", "is_line"]

TIME_MAX_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
COUNT_MAX: Final = 2**63 - 1
_OUTSIDE: Final = "a time of it is outside the calendar"
_TIMES: Final[dict[type[Record], str]] = {
    rec.RunStarted: "due",
    rec.StepRetrying: "due",
    rec.SleepStarted: "due",
    rec.WaitStarted: "due",
    rec.CancelRequested: "deadline",
    rec.RunRestarted: "deadline",
    rec.ScheduleFired: "at",
}
"""The kinds that have a time besides their own, and its name."""
_OF_NO_RUN: Final[frozenset[type[Record]]] = frozenset(
    {
        rec.BulkActed,
        rec.KeyActed,
        rec.EventReceived,
        rec.ScheduleSet,
        rec.ScheduleFired,
        rec.SchedulePaused,
    }
)
_ACTS: Final = (
    rec.CancelRequested,
    rec.RunPaused,
    rec.RunResumed,
    rec.RunRetried,
    rec.RunCancelled,
)
"""What operators do to a run."""
_WITH_ERROR: Final[frozenset[type[Record]]] = frozenset(
    {rec.RunFailed, rec.RunCancelled, rec.StepRetrying, rec.StepFailed, rec.ChildEnded}
)


def is_line(data: bytes) -> bool:
    """Say whether the bytes could stand in a line of a snapshot: UTF-8 without a line break."""
    if b"\n" in data:
        return False
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True


def doubt(record: Record, data: bytes) -> str:
    """Return why a record cannot be one of ours, or an empty text."""
    if not is_line(data):
        return "it has line breaks, or is not UTF-8"
    return _doubt_place(record) or _doubt_members(record)


def _doubt_place(record: Record) -> str:
    if not 0 < record.lsn <= COUNT_MAX or not 0 <= record.rs <= COUNT_MAX:
        return "a number of it is out of range"
    if type(record) in _OF_NO_RUN:
        return "it belongs to no run and names one" if record.r or record.rs else ""
    return "" if is_run_id(record.r) else f"{record.r[:80]!r} is no run id"


def _doubt_members(record: Record) -> str:
    # A million of them are asked at a start: most kinds have nothing here but their time.
    if not 0 <= record.ts <= TIME_MAX_MS:
        return _OUTSIDE
    kind = type(record)
    time = _TIMES.get(kind)
    if time is not None and not 0 <= getattr(record, time) <= TIME_MAX_MS:
        return _OUTSIDE
    if isinstance(record, rec.RunStarted):
        return _doubt_started(record)
    if isinstance(record, rec.RunRestarted):
        return _doubt_start(record.started) or _doubt_acts(record)
    if kind in _WITH_ERROR:
        error: Raw = getattr(record, "error")  # noqa: B009  its class is not known here
        if error and not is_error(bytes(error)):
            return "its error is none"
    return ""


def _doubt_started(record: rec.RunStarted) -> str:
    if record.trace and not is_traceparent(record.trace):
        return "its trace context is none"
    sound = 0 <= record.scheduled <= TIME_MAX_MS and 0 <= record.timeout <= TIME_MAX_MS
    return "" if sound else _OUTSIDE


def _doubt_start(data: Raw) -> str:
    """Return why a restart's own copy of the run's start cannot be one."""
    try:
        start = rec.decode_record(bytes(data))
    except (msgspec.MsgspecError, rec.UnknownRecordError):
        start = None
    if type(start) is not rec.RunStarted:
        return "it does not say how its run was started"
    return _doubt_place(start) or _doubt_members(start)


def _doubt_acts(restart: rec.RunRestarted) -> str:
    """Return why what a restart takes along cannot be acts on its run."""
    before = 0
    for data in restart.acts:
        try:
            act = rec.decode_record(bytes(data))
        except (msgspec.MsgspecError, rec.UnknownRecordError):
            act = None
        if not isinstance(act, _ACTS) or act.r != restart.r:
            return "what it takes along is no act on its run"
        if not before < act.lsn < restart.lsn:
            return "the acts that it takes along are not in order"
        if told := _doubt_place(act) or _doubt_members(act):
            return told
        before = act.lsn
    return ""
