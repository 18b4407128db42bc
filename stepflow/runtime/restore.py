"""From snapshot lines and journal records to runs, through the same `apply` as live.

Called in the recovery thread, before anything is served. A snapshot is fuzzy: each line bears the
LSN it includes, and only newer records are applied to it.

A checksum proves that bytes are what was written, not that they make sense. A run whose records do
not fit is set aside (SFW401) with all of them; what belongs to no run that could be shown is left
out (SFW403): the journal keeps a copy of it. A record of an unknown type that must be understood
refuses the start (SFW302).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from stepflow.errors import JournalCorruptError
from stepflow.journal.recovery import LeftOutError
from stepflow.model import records as rec
from stepflow.model.ids import RunId, is_run_id
from stepflow.model.records import UnknownRecordError, decode_record
from stepflow.model.run import RunState
from stepflow.model.soundness import doubt, is_line

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


class Restored:
    """One run that recovery found."""

    __slots__ = ("state",)

    def __init__(self, state: RunState) -> None:
        self.state = state

    @property
    def failure(self) -> str:
        """Why it is set aside, if it is."""
        return self.state.failure


class Restorer:
    """Folds lines and records into runs."""

    def __init__(self) -> None:
        self._runs: dict[str, Restored] = {}
        self._gone: dict[str, int] = {}
        self._payloads: dict[int, _Payload] = {}
        """Payloads of events by LSN, as long as takers are still to come."""
        self._headless: set[str] = set()
        """Runs without a beginning: said once."""
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

    def _take_run(self, lsn: int, line: _Line, data: bytes) -> None:
        if not is_run_id(line.id):
            raise _left_out(f"the snapshot's line of lsn {lsn} names no run: {line.id[:80]!r}")
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
        twin = self._runs.get(line.id)
        if twin is not None and twin.state.lsn >= state.lsn:
            raise _left_out(f"the snapshot has two lines of run {line.id}; the longer is used")
        self._runs[line.id] = Restored(state)
        if state.failure:
            self._say(state.failure)
        self.last_ts_ms = max(self.last_ts_ms, state.updated_ms)
        if twin is not None:
            raise _left_out(f"the snapshot has two lines of run {line.id}; the longer is used")

    def on_record(self, lsn: int, data: bytes) -> None:
        """Take one journal record.

        Raises `LeftOutError` for one that belongs to no run that could be shown, and
        `JournalCorruptError` for one of an unknown type that must be understood.
        """
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
        else:
            self._apply(record, data)

    def _purge(self, record: rec.RunPurged, data: bytes) -> None:
        run = self._runs.get(record.r)
        if run is not None and record.rs != run.state.rs + 1:
            self._misfit(record.lsn, data, f"it is purged with number {record.rs}")
            return
        self._runs.pop(record.r, None)
        self._gone[record.r] = record.lsn

    def _apply(self, record: rec.Record, data: bytes) -> None:
        run = self._runs.get(record.r) or self._new_run(record)
        payload = self._payload_for(record)
        if run is None:
            return
        state = run.state
        if record.lsn <= state.seen_lsn:
            return
        failed = state.failure
        state.fold(record, data, payload)
        if state.failure and not failed:
            self._say(state.failure)

    def _misfit(self, lsn: int, data: bytes, why: str) -> None:
        """Set the run aside whose record makes no sense; without one it is left out."""
        run = None
        with suppress(*_UNREADABLE):
            # Bytes that are no line of JSON could not stand in the run's own.
            run = self._runs.get(_decode_head(data).r) if is_line(data) else None
        if run is None:
            raise _left_out(f"lsn {lsn}: {why}")
        state = run.state
        if lsn <= state.seen_lsn:
            return
        failed = state.failure
        state.set_aside(lsn, why, data)
        if not failed:
            self._say(state.failure)

    def _new_run(self, record: rec.Record) -> Restored | None:
        """Return a fresh run for its first record, or None for a record of a purged one."""
        if record.lsn <= self._gone.get(record.r, 0):
            return None
        if not isinstance(record, rec.RunStarted) or record.rs != 1:
            said = record.r in self._headless
            self._headless.add(record.r)
            raise LeftOutError(
                "" if said else _text_of(f"run {record.r} has no beginning, from lsn {record.lsn}")
            )
        run = Restored(RunState(RunId(record.r)))
        self._runs[record.r] = run
        return run

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
        run = self._runs.get(head.r)
        if run is None or lsn <= run.state.seen_lsn:
            return
        if head.lsn != lsn or not is_line(data):
            self._misfit(lsn, data, f"record {lsn} is not what it says")
            return
        failed = run.state.failure
        run.state.skip(data)
        if run.state.failure and not failed:
            self._say(run.state.failure)

    def _say(self, message: str) -> None:
        _log.error("%s", message)
        self.messages.append(message)

    def runs(self) -> Iterator[Restored]:
        """Return the runs in the order of their creation."""
        rows = [run for run in self._runs.values() if run.state.started is not None]
        rows.sort(key=lambda run: run.state.started.lsn if run.state.started else 0)
        return iter(rows)


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
