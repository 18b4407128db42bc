"""From snapshot lines and journal records to runs, through the same `apply` as live.

Called in the recovery thread, before anything is served. A snapshot is fuzzy: each line bears the
LSN it includes, and only newer records are applied to it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from stepflow.model import records as rec
from stepflow.model.ids import RunId
from stepflow.model.records import decode_record
from stepflow.model.run import ApplyError, RunState

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


class _Payload:
    """The payload of one event, how many runs are still to take it, and which did so last."""

    __slots__ = ("body", "taker", "takers")

    def __init__(self, body: bytes, takers: int) -> None:
        self.body = body
        self.takers = takers
        self.taker = ""


class Restored:
    """One run that recovery found. `failure` says why it is set aside, if it is."""

    __slots__ = ("failure", "state")

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.failure = ""


class Restorer:
    """Folds lines and records into runs."""

    def __init__(self) -> None:
        self._runs: dict[str, Restored] = {}
        self._gone: dict[str, int] = {}
        self._payloads: dict[int, _Payload] = {}
        """Payloads of events by LSN, as long as takers are still to come."""
        self.last_ts_ms = 0
        self.messages: list[str] = []

    def on_line(self, lsn: int, data: bytes) -> None:
        """Take one body line of the snapshot."""
        line = _decode_line(data)
        if line.k == "gone":
            self._gone[line.id] = lsn
            return
        if line.k != "run":
            return
        state = RunState.unpack(data)
        self._runs[line.id] = Restored(state)
        self.last_ts_ms = max(self.last_ts_ms, state.updated_ms)

    def on_record(self, lsn: int, data: bytes) -> None:
        """Take one journal record. Raises `UnknownRecordError` for one that must be understood."""
        record = decode_record(data)
        if record is None:
            self._skip(lsn, data)
            return
        self.last_ts_ms = max(self.last_ts_ms, record.ts)
        if isinstance(record, rec.EventReceived):
            self._payloads[lsn] = _Payload(bytes(record.payload), record.takers)
        elif isinstance(record, rec.RunPurged):
            self._purge(record)
        else:
            self._apply(record, data)

    def _purge(self, record: rec.RunPurged) -> None:
        self._runs.pop(record.r, None)
        self._gone[record.r] = record.lsn

    def _apply(self, record: rec.Record, data: bytes) -> None:
        payload = self._payload_for(record)
        run = self._runs.get(record.r)
        if run is None:
            run = self._new_run(record)
            if run is None:
                return
        if record.lsn <= run.state.lsn:
            return
        if run.failure and record.rs != run.state.rs + 1:
            # Part of the history that does not fit; what was recorded while it was set aside does.
            return
        try:
            run.state.apply(record, data, payload)
        except ApplyError as error:
            if not run.failure:
                run.failure = f"SFW401 run {record.r} set aside at lsn {record.lsn}: {error}"
                self._say(run.failure)
            return
        if run.state.finished:
            # Set aside, and cancelled since.
            run.failure = ""

    def _new_run(self, record: rec.Record) -> Restored | None:
        if record.lsn <= self._gone.get(record.r, 0):
            return None
        if not isinstance(record, rec.RunStarted):
            self._say(f"SFW401 run {record.r} has no beginning; record {record.lsn} is left out")
            return None
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
        head = _decode_head(data)
        run = self._runs.get(head.r)
        if run is not None and lsn > run.state.lsn:
            run.state.skip(data)

    def _say(self, message: str) -> None:
        _log.error("%s", message)
        self.messages.append(message)

    def runs(self) -> Iterator[Restored]:
        """Return the runs in the order of their creation."""
        rows = [run for run in self._runs.values() if run.state.started is not None]
        rows.sort(key=lambda run: run.state.started.lsn if run.state.started else 0)
        return iter(rows)
