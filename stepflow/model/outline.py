"""A run in outline: what the tables need of it, folded straight from its records.

A start folds millions of records, and most runs are of one kind: one call at a time, nothing kept,
nothing given up. For these an `Outline` knows what timers, waiters and lists ask for, and keeps the
records as they are; no call is made into an object. It never says that something is wrong: where
`take` is not sure that `RunState.apply` would take a record, it returns False, having changed
nothing, and the run is opened (`state()`): what does not fit is found, and said, by `apply` alone.

`Outline.line()` is what `RunState.pack()` of the same records is, byte for byte.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from stepflow.model import records as rec
from stepflow.model.failures import is_error
from stepflow.model.records import Kind, Record
from stepflow.model.run import (
    FINISHED,
    FN_CHILD,
    FN_EVENT,
    FN_NOTIFY,
    FN_SLEEP,
    RunState,
    RunStatus,
    RunSummary,
    decode_packed,
)
from stepflow.model.soundness import COUNT_MAX, TIME_MAX_MS, doubt, is_line

__all__ = ["Outline"]

_RECORDS_MAX: Final = 64
_BYTES_MAX: Final = 32 * 1024
"""A longer history is opened: each record copies the bytes of those before it."""
_OPENS: Final = ord("{")
_CLOSES: Final = ord("}")


class Outline(msgspec.Struct, eq=False, gc=False, array_like=True):
    """One run of the plain kind. `of` begins it, `take` goes on."""

    id: str
    start_lsn: int
    lsn: int
    created_ms: int
    updated_ms: int
    workflow: str
    body: bytes
    """Its records, with commas between."""
    nbytes: int
    rs: int = 1
    status: RunStatus = "running"
    due: int = 0
    """Of a run that is held: until when."""
    events: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    idem: str = ""
    by: str = ""
    keys: str = "\n"
    """Keys of all calls, a line each."""
    key: str = ""
    """Of the call under way; the rest of it follows."""
    kind: Kind = "step"
    fn: str = ""
    args: str = ""
    event: str = ""
    call_due: int = 0
    solo: bool = False
    payloads: bytes = b""
    """Events it has taken: `"<LSN>":<payload>`, with commas between."""
    payload_lsn: int = 0

    @classmethod
    def of(cls, record: rec.RunStarted, data: bytes) -> Outline | None:
        """Return the run that its first record begins, or None where it is not plain, or sound."""
        special = (
            record.lineage
            or record.admission
            or record.schedule
            or record.held
            or record.timeout
            or record.exclusive
        )
        if (
            special
            or record.rs != 1
            or len(data) > _BYTES_MAX
            or data[0] != _OPENS
            or data[-1] != _CLOSES
            or doubt(record, data)
        ):
            return None
        return cls(
            record.r,
            record.lsn,
            record.lsn,
            record.ts,
            record.ts,
            record.workflow,
            data,
            len(data),
            1,
            "pending" if record.due else "running",
            record.due,
            record.events,
            record.tags,
            record.idem,
            record.by,
        )

    @classmethod
    def unpack(cls, line: bytes) -> Outline | None:
        """Return the run of a snapshot line, or None where it is not plain, or not sound.

        Raises what decoding may raise of bytes that make no sense.
        """
        packed = decode_packed(line)
        if packed.aside or packed.misfits or not packed.records:
            return None
        data = bytes(packed.records[0])
        first = rec.decode_known(data)
        if not isinstance(first, rec.RunStarted) or first.r != packed.id:
            return None
        run = cls.of(first, data)
        taken = 0
        for raw in packed.records[1:]:
            data = bytes(raw)
            record = rec.decode_known(data)
            payload = None
            if isinstance(record, rec.WaitResolved):
                found = packed.payloads.get(str(record.payload))
                payload = None if found is None else bytes(found)
                taken += 1
            if run is None or record.r != packed.id or not run.take(record, data, payload):
                return None
        # An event that no record takes may be none at all.
        sound = taken == len(packed.payloads) and run is not None and run.lsn == packed.lsn
        return run if sound else None

    # ------------------------------------------------------------ reading

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.status in FINISHED

    @property
    def sleeps(self) -> bool:
        """Whether it may stay as it is until something wakes it: see `supervisor.sleeps`."""
        if self.status == "pending":
            return True
        return self.solo and self.key != "" and (self.kind != "step" or self.call_due > 0)

    def summary(self) -> RunSummary:
        """Return what lists show."""
        return RunSummary(
            self.workflow,
            self.status,
            self.created_ms,
            self.updated_ms,
            self.lsn,
            self.tags,
            self.idem,
            self.by,
        )

    def line(self) -> bytes:
        """Return the run as its snapshot line."""
        payloads = b',"payloads":{%b}' % self.payloads if self.payloads else b""
        return b'{"k":"run","id":"%b","lsn":%d%b,"records":[%b]}' % (
            self.id.encode(),
            self.lsn,
            payloads,
            self.body,
        )

    def state(self) -> RunState:
        """Return the run's state, open."""
        return RunState.unpack(self.line())

    # ------------------------------------------------------------ changing

    def take(self, record: Record, data: bytes, payload: bytes | None = None) -> bool:
        """Fold the run's next record in; return False, with nothing changed, when not sure of it.

        `payload` is the event that a `WaitResolved` names.
        """
        handler = self._handlers.get(record.__class__)
        if (
            handler is None
            or record.rs != self.rs + 1
            or not self.lsn < record.lsn <= COUNT_MAX
            or not 0 <= record.ts <= TIME_MAX_MS
            or self.status in FINISHED
            or data[0] != _OPENS
            or data[-1] != _CLOSES
            or self.rs >= _RECORDS_MAX
            or self.nbytes + len(data) > _BYTES_MAX
            or not is_line(data)
            or not handler(self, record, payload)
        ):
            return False
        self.rs = record.rs
        self.lsn = record.lsn
        self.updated_ms = record.ts
        self.body = b"%b,%b" % (self.body, data)
        self.nbytes += len(data)
        return True

    def _begin(self, record: _Begins, kind: Kind, fn: str, args: str) -> bool:
        """Begin a call, or the one that is under way once more; a second one is not plain."""
        key = record.key
        if self.key:
            return (self.key, self.kind, self.fn, self.args) == (key, kind, fn, args)
        line = f"{key}\n"
        if not key or f"\n{line}" in self.keys:
            return False
        self.keys += line
        self.key = key
        self.kind = kind
        self.fn = fn
        self.args = args
        return True

    def _end(self, key: str) -> bool:
        if not key or key != self.key:
            return False
        self.key = self.event = ""
        self.call_due = 0
        return True

    # One method a record type, as in `RunState`. Each is sure before it changes anything.

    def _run_released(self, record: rec.RunReleased, _: bytes | None) -> bool:
        if record.admission or self.status != "pending":
            return False
        self.due = 0
        self.status = "running"
        return True

    def _run_completed(self, _record: rec.RunCompleted, _: bytes | None) -> bool:
        self.status = "completed"
        return True

    def _run_failed(self, record: rec.RunFailed, _: bytes | None) -> bool:
        if not _sound(record.error):
            return False
        self.status = "failed"
        return True

    def _step_started(self, record: rec.StepStarted, _: bytes | None) -> bool:
        if not self._begin(record, "step", record.fn, record.args):
            return False
        self.call_due = 0
        self.solo = record.solo
        return True

    def _step_retrying(self, record: rec.StepRetrying, _: bytes | None) -> bool:
        if record.key != self.key or not _sound(record.error) or not _on_time(record.due):
            return False
        self.call_due = record.due
        return True

    def _step_completed(self, record: rec.StepCompleted, _: bytes | None) -> bool:
        return self._end(record.key)

    def _step_failed(self, record: rec.StepFailed, _: bytes | None) -> bool:
        return _sound(record.error) and self._end(record.key)

    def _sleep_started(self, record: rec.SleepStarted, _: bytes | None) -> bool:
        if not (_on_time(record.due) and self._begin(record, "sleep", FN_SLEEP, "")):
            return False
        self.call_due = record.due
        self.solo = record.solo
        return True

    def _sleep_ended(self, record: rec.SleepEnded, _: bytes | None) -> bool:
        return self._end(record.key)

    def _wait_started(self, record: rec.WaitStarted, _: bytes | None) -> bool:
        if not (_on_time(record.due) and self._begin(record, "event", FN_EVENT, record.event)):
            return False
        self.event = record.event
        self.call_due = record.due
        self.solo = record.solo
        return True

    def _wait_resolved(self, record: rec.WaitResolved, payload: bytes | None) -> bool:
        if (
            payload is None
            or record.payload <= self.payload_lsn
            or self.nbytes + len(payload) > _BYTES_MAX
            or not self._end(record.key)
        ):
            return False
        comma = b"," if self.payloads else b""
        self.payloads = b'%b%b"%d":%b' % (self.payloads, comma, record.payload, payload)
        self.payload_lsn = record.payload
        self.nbytes += len(payload)
        return True

    def _wait_timed_out(self, record: rec.WaitTimedOut, _: bytes | None) -> bool:
        return self._end(record.key)

    def _child_started(self, record: rec.ChildStarted, _: bytes | None) -> bool:
        if not self._begin(record, "child", f"{FN_CHILD}:{record.workflow}", record.args):
            return False
        self.solo = record.solo
        return record.awaited or self._end(record.key)

    def _child_ended(self, record: rec.ChildEnded, _: bytes | None) -> bool:
        return _sound(record.error) and self._end(record.key)

    def _notify_sent(self, record: rec.NotifySent, _: bytes | None) -> bool:
        return self._begin(record, "notify", FN_NOTIFY, record.args) and self._end(record.key)

    def _noted(self, _record: Record, _: bytes | None) -> bool:
        return True

    # Each takes its own record type; the key says which. The rest is not plain: cancels, events
    # that are kept, calls that were given up or adopted.
    _handlers: ClassVar[dict[type[Record], Any]] = {
        rec.RunReleased: _run_released,
        rec.RunCompleted: _run_completed,
        rec.RunFailed: _run_failed,
        rec.StepStarted: _step_started,
        rec.StepRetrying: _step_retrying,
        rec.StepCompleted: _step_completed,
        rec.StepFailed: _step_failed,
        rec.SleepStarted: _sleep_started,
        rec.SleepEnded: _sleep_ended,
        rec.WaitStarted: _wait_started,
        rec.WaitResolved: _wait_resolved,
        rec.WaitTimedOut: _wait_timed_out,
        rec.ChildStarted: _child_started,
        rec.ChildEnded: _child_ended,
        rec.NotifySent: _notify_sent,
        rec.ValueRecorded: _noted,
        rec.VersionChosen: _noted,
        rec.Emitted: _noted,
        rec.Progressed: _noted,
    }


_Begins = rec.StepStarted | rec.SleepStarted | rec.WaitStarted | rec.ChildStarted | rec.NotifySent


def _sound(error: msgspec.Raw) -> bool:
    return not error or is_error(bytes(error))


def _on_time(due: int) -> bool:
    return 0 <= due <= TIME_MAX_MS
