"""From snapshot lines and journal records to runs, through the same `apply` as live.

Called in the recovery thread, before anything is served. A snapshot is fuzzy: each line bears the
LSN it includes, and only newer records are applied to it.

Most runs are plain and are folded in outline (model/outline.py); the others, and all that does not
fit, are opened. What was not touched for a while is kept as bytes: a million runs must fit.

A checksum proves that bytes are what was written, not that they make sense. A run whose records do
not fit is set aside (SFW401) with all of them; what belongs to no run that could be shown is left
out (SFW403): the journal keeps a copy of it. A record of an unknown type that must be understood
refuses the start (SFW302).
"""

from __future__ import annotations

import logging
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from stepflow.errors import JournalCorruptError
from stepflow.journal.recovery import LeftOutError
from stepflow.model import records as rec
from stepflow.model.ids import RunId, is_run_id
from stepflow.model.outline import Outline
from stepflow.model.rates import Rates
from stepflow.model.records import UnknownRecordError, decode_known, decode_record
from stepflow.model.run import RunState
from stepflow.model.schedules import ScheduleRows
from stepflow.model.soundness import doubt, is_line
from stepflow.runtime.audit import AuditTable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Restored", "Restorer"]

_log = logging.getLogger("stepflow.recovery")


class _Line(msgspec.Struct):
    k: str
    id: str = ""
    lsn: int = 0


class _Head(msgspec.Struct):
    r: str = ""
    lsn: int = 0


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_head = msgspec.json.Decoder(_Head).decode

_WHY_MAX = 300
"""Characters of a reason: it may quote what is wrong."""
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding may say of bytes that are whole and make no sense."""


class _Payload:
    """The payload of one event, how many runs are still to take it, and which did so last."""

    __slots__ = ("body", "taker", "takers")

    def __init__(self, body: bytes, takers: int) -> None:
        self.body = body
        self.takers = takers
        self.taker = ""


_Row = Outline | RunState | bytes
"""A run in outline, the same as bytes, or open."""

_START = struct.Struct("<Q")
_encode_outline = msgspec.msgpack.Encoder().encode
_decode_outline = msgspec.msgpack.Decoder(Outline).decode

_WARM_MAX = 65_536
"""So many runs in outline at a time, and those that are under way: what is more is kept as bytes,
which takes half as much."""


class Restored:
    """One run that recovery found. `state` opens it, for good."""

    __slots__ = ("_rows", "id")

    def __init__(self, run_id: str, rows: dict[str, _Row]) -> None:
        self.id = run_id
        self._rows = rows

    @property
    def outline(self) -> Outline | None:
        """The run in outline; None of one that is open."""
        row = self._rows[self.id]
        if isinstance(row, bytes):
            return _warmed(row)
        return row if isinstance(row, Outline) else None

    @property
    def state(self) -> RunState:
        """The run's state."""
        return _open(self._rows, self.id)

    def forget(self) -> None:
        """The run was adopted: what recovery holds of it is needed no more."""
        del self._rows[self.id]

    @property
    def failure(self) -> str:
        """Why it is set aside, if it is."""
        row = self._rows[self.id]
        return row.failure if isinstance(row, RunState) else ""


class Restorer:
    """Folds lines and records into runs."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._warm: list[str] = []
        """Runs in outline that are not kept as bytes yet."""
        self._cooled_lsn = 0
        """What was not touched since then is kept as bytes when there are many more."""
        self._gone: dict[str, int] = {}
        self._payloads: dict[int, _Payload] = {}
        """Payloads of events by LSN, as long as takers are still to come."""
        self._headless: set[str] = set()
        """Runs without a beginning: said once."""
        self._order: list[str] | None = None
        self.rates = Rates()
        self.schedules = ScheduleRows()
        self.audit = AuditTable()
        self.last_ts_ms = 0
        self.messages: list[str] = []

    def on_line(self, lsn: int, data: bytes) -> None:
        """Take one body line of the snapshot. Raises `LeftOutError` for one that cannot be used."""
        try:
            line = _decode_line(data)
        except _UNREADABLE as error:
            raise _left_out(f"the snapshot's line of lsn {lsn} cannot be read: {error}") from error
        if line.k == "gone":
            self._gone[line.id] = lsn
        elif line.k == "run":
            self._take_run(lsn, line, data)
        elif line.k in {"rate", "schedule", "audit"}:
            self._take_row(lsn, line, data)

    def _take_row(self, lsn: int, line: _Line, data: bytes) -> None:
        what = f"the snapshot's line of {line.k} {line.id[:80]!r}"
        if line.lsn != lsn:
            raise _left_out(f"{what} includes lsn {lsn} and says {line.lsn}")
        tables: dict[str, Rates | ScheduleRows | AuditTable] = {
            "rate": self.rates,
            "schedule": self.schedules,
            "audit": self.audit,
        }
        try:
            tables[line.k].take_line(data)
        except _UNREADABLE as error:
            raise _left_out(f"{what} cannot be read: {error}") from error

    def _take_run(self, lsn: int, line: _Line, data: bytes) -> None:
        if not is_run_id(line.id):
            raise _left_out(f"the snapshot's line of lsn {lsn} names no run: {line.id[:80]!r}")
        twin = self._rows.get(line.id)
        outline = self._outline(lsn, data) if twin is None else None
        if outline is not None:
            self._rows[line.id] = _cooled(outline)
            self.last_ts_ms = max(self.last_ts_ms, outline.updated_ms)
            return
        try:
            state = RunState.unpack(data, doubt)
        except UnknownRecordError as error:
            raise _too_new(lsn, error) from error
        except _UNREADABLE as error:
            raise _left_out(
                f"the snapshot's line of run {line.id} cannot be read: {error}"
            ) from error
        if state.started is None:
            raise _left_out(f"the snapshot's line of run {line.id} has no beginning")
        if state.lsn != lsn:
            state.set_aside(lsn, f"its line includes lsn {lsn}, its records end at {state.lsn}")
        if twin is not None and _open(self._rows, line.id).lsn >= state.lsn:
            raise _left_out(f"the snapshot has two lines of run {line.id}; the longer is used")
        self._rows[line.id] = state
        if state.failure:
            self._say(state.failure)
        self.last_ts_ms = max(self.last_ts_ms, state.updated_ms)
        if twin is not None:
            raise _left_out(f"the snapshot has two lines of run {line.id}; the longer is used")

    @staticmethod
    def _outline(lsn: int, line: bytes) -> Outline | None:
        """Return the run of a line that is plain and makes sense."""
        with suppress(*_UNREADABLE):
            outline = Outline.unpack(line)
            if outline is not None and outline.lsn == lsn:
                return outline
        return None

    def on_record(self, lsn: int, data: bytes) -> None:
        """Take one journal record.

        Raises `LeftOutError` for one that belongs to no run that could be shown, and
        `JournalCorruptError` for one of an unknown type that must be understood.
        """
        try:
            record = decode_known(data)
        except _UNREADABLE:
            record = None
        if record is None or record.lsn != lsn or not self._take_plain(record, data):
            self._take_any(lsn, data)

    def _take_plain(self, record: rec.Record, data: bytes) -> bool:
        """Fold the record of a plain run; return False, with nothing changed, of any other."""
        run_id = record.r
        run = self._rows.get(run_id)
        if run is None:
            return isinstance(record, rec.RunStarted) and self._begin(record, data)
        if isinstance(run, bytes):
            run = self._rows[run_id] = _warmed(run)
            self._warm.append(run_id)
        if not isinstance(run, Outline):
            return False
        if record.lsn <= run.lsn or isinstance(record, rec.RunPurged):
            return self._pass_over(record, data, run)
        if not isinstance(record, rec.WaitResolved):
            if not run.take(record, data):
                return False
        else:
            row = self._payloads.get(record.payload)
            if row is None or not run.take(record, data, row.body):
                return False
            self._payload_for(record)
        self.last_ts_ms = max(self.last_ts_ms, record.ts)
        return True

    def _pass_over(self, record: rec.Record, data: bytes, run: Outline) -> bool:
        """Take a sound record that the run's line includes already, or that forgets the run."""
        if doubt(record, data):
            return False
        if isinstance(record, rec.RunPurged):
            if record.rs != run.rs + 1:
                return False
            del self._rows[record.r]
            self._gone[record.r] = record.lsn
            self.audit.note(record)
        self._payload_for(record)
        self.last_ts_ms = max(self.last_ts_ms, record.ts)
        return True

    def _begin(self, record: rec.RunStarted, data: bytes) -> bool:
        run_id = record.r
        run = Outline.of(record, data) if record.lsn > self._gone.get(run_id, 0) else None
        if run is None:
            return False
        self._rows[run_id] = run
        self._warm.append(run_id)
        if len(self._warm) > _WARM_MAX:
            self._cool(record.lsn)
        self.last_ts_ms = max(self.last_ts_ms, record.ts)
        return True

    def _cool(self, lsn: int) -> None:
        """Keep as bytes what was not touched since the last time."""
        rows = self._rows
        warm: list[str] = []
        for run_id in self._warm:
            row = rows.get(run_id)
            if isinstance(row, Outline):
                if row.lsn > self._cooled_lsn:
                    warm.append(run_id)
                else:
                    rows[run_id] = _cooled(row)
        self._warm = warm
        self._cooled_lsn = lsn

    def _take_any(self, lsn: int, data: bytes) -> None:
        try:
            record = decode_record(data)
            why = "" if record is None else doubt(record, data)
        except UnknownRecordError as error:
            raise _too_new(lsn, error) from error
        except _UNREADABLE as error:
            record, why = None, f"record {lsn} cannot be read: {error}"
        if record is not None and record.lsn != lsn:
            why = f"record {lsn} says that it is record {record.lsn}"
        if why:
            self._misfit(lsn, data, why)
        elif record is None:
            self._skip(lsn, data)
        else:
            self._take(record, lsn, data)

    def _take(self, record: rec.Record, lsn: int, data: bytes) -> None:
        self.last_ts_ms = max(self.last_ts_ms, record.ts)
        if isinstance(record, rec.EventReceived):
            self._payloads[lsn] = _Payload(bytes(record.payload), record.takers)
        elif isinstance(record, rec.RunPurged):
            self._purge(record, data)
        elif isinstance(record, rec.ScheduleSet | rec.ScheduleFired | rec.SchedulePaused):
            self.schedules.take(record)
            self.audit.note(record)
        elif isinstance(record, rec.BulkActed | rec.KeyActed):
            self.audit.note(record)
        else:
            if isinstance(record, rec.RunStarted | rec.RunReleased):
                self.rates.take(lsn, record.ts, record.admission)
            self._apply(record, data)

    def _purge(self, record: rec.RunPurged, data: bytes) -> None:
        run = self._state(record.r)
        if run is not None and record.rs != run.rs + 1:
            self._misfit(record.lsn, data, f"it is purged with number {record.rs}")
            return
        self._rows.pop(record.r, None)
        self._gone[record.r] = record.lsn
        self.audit.note(record)

    def _apply(self, record: rec.Record, data: bytes) -> None:
        state = self._state(record.r) or self._new_run(record)
        payload = self._payload_for(record)
        if state is None:
            return
        if record.lsn <= state.seen_lsn:
            return
        failed = state.failure
        acts = len(state.acts)
        state.fold(record, data, payload)
        if state.failure and not failed:
            self._say(state.failure)
        if len(state.acts) > acts or state.started is record:
            self.audit.note(record, state.workflow)

    def _misfit(self, lsn: int, data: bytes, why: str) -> None:
        """Set the run aside whose record makes no sense; without one it is left out."""
        state = None
        with suppress(*_UNREADABLE):
            # Bytes that are no line of JSON could not stand in the run's own.
            state = self._state(_decode_head(data).r) if is_line(data) else None
        if state is None:
            raise _left_out(f"lsn {lsn}: {why}")
        if lsn <= state.seen_lsn:
            return
        failed = state.failure
        state.set_aside(lsn, why, data)
        if not failed:
            self._say(state.failure)

    def _state(self, run_id: str) -> RunState | None:
        """Return the run's state, open from now on; None where there is no such run."""
        return _open(self._rows, run_id) if run_id in self._rows else None

    def _new_run(self, record: rec.Record) -> RunState | None:
        """Return a fresh run for its first record, or None for a record of a purged one."""
        if record.lsn <= self._gone.get(record.r, 0):
            return None
        if not isinstance(record, rec.RunStarted) or record.rs != 1:
            said = record.r in self._headless
            self._headless.add(record.r)
            raise LeftOutError(
                "" if said else _text_of(f"run {record.r} has no beginning, from lsn {record.lsn}")
            )
        state = self._rows[record.r] = RunState(RunId(record.r))
        return state

    def _payload_for(self, record: rec.Record) -> bytes | None:
        if not isinstance(record, rec.WaitResolved | rec.EventKept):
            return None
        row = self._payloads.get(record.payload)
        if row is None:
            # A kept event that is taken now: the run itself has the payload.
            return None
        if row.taker != record.r:
            # A run that waits twice takes it with two records and then has it itself.
            row.taker = record.r
            row.takers -= 1
            if row.takers <= 0:
                del self._payloads[record.payload]
        return row.body

    def _skip(self, lsn: int, data: bytes) -> None:
        """Keep a record of an unknown type in its run; one of no run may be passed over."""
        try:
            head = _decode_head(data)
        except _UNREADABLE as error:
            raise _left_out(f"lsn {lsn}: record {lsn} cannot be read: {error}") from error
        state = self._state(head.r)
        if state is None or lsn <= state.seen_lsn:
            return
        if head.lsn != lsn or not is_line(data):
            self._misfit(lsn, data, f"record {lsn} is not what it says")
            return
        failed = state.failure
        state.skip(data)
        if state.failure and not failed:
            self._say(state.failure)

    def _say(self, message: str) -> None:
        _log.error("%s", message)
        self.messages.append(message)

    def sort(self) -> None:
        """Make ready for `runs`: with a million this takes a while."""
        starts = [(start, name) for name, row in self._rows.items() if (start := _start_lsn(row))]
        starts.sort()
        self._order = [name for _, name in starts]

    def runs(self) -> Iterator[Restored]:
        """Return the runs in the order of their creation."""
        if self._order is None:
            self.sort()
        rows, order = self._rows, self._order or ()
        return (Restored(run_id, rows) for run_id in order)


def _cooled(outline: Outline) -> bytes:
    return _START.pack(outline.start_lsn) + _encode_outline(outline)


def _warmed(row: bytes) -> Outline:
    return _decode_outline(memoryview(row)[_START.size :])


def _start_lsn(row: _Row) -> int:
    """Return the LSN of the run's start; 0 where it has none."""
    if isinstance(row, bytes):
        return int(_START.unpack_from(row)[0])
    if isinstance(row, Outline):
        return row.start_lsn
    return row.started.lsn if row.started else 0


def _open(rows: dict[str, _Row], run_id: str) -> RunState:
    """Return the run's state, and keep it open."""
    row = rows[run_id]
    if isinstance(row, bytes):
        row = _warmed(row)
    if isinstance(row, Outline):
        row = rows[run_id] = row.state()
    return row


def _text_of(why: str) -> str:
    return f"SFW403 {why[:_WHY_MAX]}; it is left out"


def _left_out(why: str) -> LeftOutError:
    return LeftOutError(_text_of(why))


def _too_new(lsn: int, error: UnknownRecordError) -> JournalCorruptError:
    return JournalCorruptError(
        "SFW302",
        f"lsn {lsn}: {error}, and says that it must be understood. Start the version that wrote "
        "it, or a newer one. Nothing was changed",
    )
