"""The truth about one run: `RunState.apply(record)` is the only way it changes.

Live, in recovery, in replay and for every view the same records go through the same `apply`. It
checks first and changes afterwards, so a record that does not fit changes nothing.

A run is kept in one of two forms:

- **open**: a `RunState`, with every call the body made as a `CallState`;
- **packed**: one `bytes` object, the run's line in a snapshot::

      {"k":"run","id":"run_…","lsn":L,"payloads":{"E":…},"records":[…]}

  `records` are the run's own records as they stand in the journal, `payloads` the events they name
  by LSN. `RunState.unpack(line).pack() == line`, so a packed run goes into a snapshot verbatim.

A run whose records do not fit is **set aside**: `failure` says why, and those that did not fit are
kept beside the others: `"aside":"<failure>","misfits":[[<how many fit before>,<LSN>,<record>],…]`.
So it is set aside still, and nothing of it is lost, when its history comes from a snapshot alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec

from stepflow.model.records import (
    CallAdopted,
    CallCancelled,
    CancelRequested,
    ChildEnded,
    ChildStarted,
    Emitted,
    EventKept,
    Kind,
    NotifySent,
    Progressed,
    Record,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunReleased,
    RunRestarted,
    RunResumed,
    RunRetried,
    RunStarted,
    SleepEnded,
    SleepStarted,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepStarted,
    ValueRecorded,
    VersionChosen,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
    decode_known,
    decode_record,
    encode_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ACTS_CARRIED",
    "FINISHED",
    "ApplyError",
    "CallState",
    "RunState",
    "RunStatus",
    "RunSummary",
    "StepStatus",
    "call_name",
    "decode_packed",
]

RunStatus = Literal["pending", "running", "completed", "failed", "cancelled"]
StepStatus = Literal["pending", "completed", "failed"]

FINISHED: Final = frozenset({"completed", "failed", "cancelled"})

_WHY_MAX: Final = 300
"""Characters of a reason: it may quote what is wrong."""

FN_SLEEP: Final = "@sleep"
FN_EVENT: Final = "@event"
FN_CHILD: Final = "@child"
FN_NOTIFY: Final = "@notify"
ANY_ARGS: Final = "*"
"""In place of a hash: a fork's operator wants the result whatever the call is asked with."""
ACTS_CARRIED: Final = 100
"""So many of its newest acts a run takes along over a restart: what goes on for ever is bounded."""


# Most runs have none: one for all of them costs neither memory nor the collector's time.
_NO_MARKS: Final[Any] = frozenset[str]()
_NO_ROWS: Final[Any] = ()
_MANY_CALLS: Final = 64
"""With more, those that are pending are kept apart."""


class ApplyError(Exception):
    """A record does not fit the run's state: the run is set aside, nothing was changed."""


def call_name(key: str) -> str:
    """Return the name inside a step key: `charge` of `pay#1/charge#2` and of `charge[sku-7]`."""
    if key.endswith("]"):
        return key.partition("[")[0]
    return key.rpartition("/")[2].partition("#")[0]


class CallState(msgspec.Struct, eq=False, gc=False):
    """One thing the body asked for by name: a step, a sleep, a wait, a child or a notify."""

    key: str
    name: str
    kind: Kind
    fn: str
    args: str
    begun: int = 0
    """LSN of the record that began it."""
    started_ms: int = 0
    generation: int = 0
    """How often the key was given to another call before: part of the idempotency key."""
    status: StepStatus = "pending"
    attempt: int = 0
    failures: int = 0
    """Attempts that failed and were tried again; one cut by the process's end is none."""
    ended_ms: int = 0
    result: bytes | None = None
    error: bytes | None = None
    due: int = 0
    """Hybrid ms at which a sleep, a wait's timeout or a retry is due; 0: none."""
    event: str = ""
    child: str = ""
    lsn: int = 0
    """Place in the order of results; 0 while there is none."""
    cancelled: bool = False
    timed_out: bool = False
    solo: bool = False
    once: bool = False
    undo: bool = False
    """It has a compensation."""
    group: str = ""
    """Key of the `ctx.first` it is part of."""
    awaited: bool = True
    """Of a child: whether the run waits for it."""
    dropped: int = 0
    """LSN of the record that ended another call of its group, and this one by that."""

    @property
    def waits(self) -> bool:
        """Whether nothing of it runs: a timer, an event or a child will end it."""
        if self.kind == "step":
            return self.due > 0
        return self.kind != "notify"


class RunSummary(msgspec.Struct, gc=False):
    """What lists need of a run, without opening it."""

    workflow: str
    status: RunStatus
    created_ms: int
    updated_ms: int
    lsn: int
    tags: tuple[str, ...] = ()
    idem: str = ""
    by: str = ""


class RunState(msgspec.Struct, eq=False, gc=False):
    """All that is known of one run. Only `apply` changes it."""

    id: str
    rs: int = 0
    lsn: int = 0
    status: RunStatus = "pending"
    created_ms: int = 0
    updated_ms: int = 0
    started: RunStarted | None = None
    workflow: str = ""
    """The id of its workflow."""
    input: bytes = b"null"
    first_input: bytes = b"null"
    """What it was triggered with: its input, until it restarts with another."""
    restarts: int = 0
    forgotten: int = 0
    """How many records of it came before its last restart: they are not kept."""
    result: bytes | None = None
    error: bytes | None = None
    forced: bool = False
    due: int = 0
    deadline_ms: int = 0
    """When its timeout is over, from its admission on; 0: it has none."""
    released_lsn: int = 0
    """LSN of the record that let it in, where it had to wait."""
    cancel_deadline_ms: int = 0
    cancel_lsn: int = 0
    cancel_reason: str = ""
    paused: bool = False
    """Somebody holds it before its next effect."""
    acts: list[Record] = []
    """What operators did to it, oldest first."""
    cancel_by: str = ""
    calls: dict[str, CallState] = {}
    """By key, in the order of first asking."""
    open: dict[str, CallState] | None = None
    """Those of `calls` that are pending and not given up, in their order; None: see `calls`.

    Kept once there are many, so that what happens to a run does not cost more the longer it is.
    """
    values: dict[str, bytes] = {}
    versions: dict[str, int] = {}
    marks: set[str] = _NO_MARKS
    """Keys of `emit` and `progress` calls that are recorded."""
    generations: dict[str, int] = {}
    lost: Sequence[CallState] = ()
    """What was given up last because another call of its group had ended."""
    kept: dict[str, deque[int]] = {}
    """Event id to the LSNs of payloads kept for it, oldest first."""
    kept_count: int = 0
    kept_bytes: int = 0
    payloads: dict[int, bytes] = {}
    records: list[bytes] = []
    nbytes: int = 0
    emits: int = 0
    emit_bytes: int = 0
    """What the run and its steps have emitted since it began, or began anew."""
    failure: str = ""
    """Why the run is set aside, where its records do not fit."""
    misfits: list[tuple[int, int, bytes]] = _NO_ROWS
    """Records that did not fit: how many fitted before, their LSN, themselves."""

    # ------------------------------------------------------------ reading

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.status in FINISHED

    @property
    def cancelling(self) -> bool:
        """Whether a cancel was recorded and the run has not ended."""
        return self.cancel_deadline_ms > 0 and not self.finished

    def summary(self) -> RunSummary:
        """Return what lists show."""
        start = self.started
        return RunSummary(
            workflow=self.workflow,
            status=self.status,
            created_ms=self.created_ms,
            updated_ms=self.updated_ms,
            lsn=self.lsn,
            tags=start.tags if start else (),
            idem=start.idem if start else "",
            by=start.by if start else "",
        )

    def pending_calls(self) -> list[CallState]:
        """Return the calls without a result that were not given up, oldest first."""
        if self.open is not None:
            return list(self.open.values())
        found = [c for c in self.calls.values() if c.status == "pending" and not c.cancelled]
        if len(self.calls) > _MANY_CALLS:
            self.open = {call.key: call for call in found}
        return found

    def losers(self, won: CallState) -> Sequence[CallState]:
        """Return the calls of its `ctx.first` that were given up because `won` has ended."""
        if self.lost and self.lost[0].dropped == won.lsn:
            return self.lost
        return [c for c in self.calls.values() if c.dropped and c.dropped == won.lsn]

    def idempotency_key(self, call: CallState) -> str:
        """Return the key that is the same at every attempt of the step, and no other's ever."""
        base = f"{self.id}+{self.restarts}/{call.key}" if self.restarts else f"{self.id}/{call.key}"
        return f"{base}~{call.generation}" if call.generation else base

    # ------------------------------------------------------------ changing

    def apply(self, record: Record, data: bytes, payload: bytes | None = None) -> None:
        """Change the state as `record` says. `data` is its encoding, kept as the run's history.

        `payload` is the event that a `WaitResolved` or `EventKept` names, where the run does not
        have it yet. Raises `ApplyError`, having changed nothing, when the record does not fit.
        """
        rs, lsn = record.rs, record.lsn
        if (rs != self.rs + 1 or lsn <= self.lsn or record.r != self.id) and not self._begins_anew(
            record
        ):
            message = (
                f"record {record.lsn} of {record.r} has number {record.rs}, "
                f"{self.id} expects {self.rs + 1} after LSN {self.lsn}"
            )
            raise ApplyError(message)
        kind = type(record)
        if self.status in FINISHED and kind is not RunRetried:
            message = f"{self.id} has ended, record {record.lsn} came after it"
            raise ApplyError(message)
        handler = _HANDLERS.get(kind)
        if handler is None:
            message = f"{type(record).__name__} does not belong to a run"
            raise ApplyError(message)
        handler(self, record, payload)
        self.rs = rs
        self.lsn = lsn
        self.updated_ms = record.ts
        self.records.append(data)
        self.nbytes += len(data)

    def _begins_anew(self, record: Record) -> bool:
        """Whether the record may stand first in a run's line, whatever its number."""
        return (
            record.__class__ is RunRestarted
            and not (self.rs or self.records)
            and record.rs > 1
            and record.r == self.id
        )

    def fold(self, record: Record, data: bytes, payload: bytes | None = None) -> None:
        """Apply a record of the past; one that does not fit sets the run aside and is kept.

        What was recorded of the run while it was set aside fits; its end ends that too.
        """
        try:
            self.apply(record, data, payload)
        except ApplyError as error:
            self.set_aside(record.lsn, str(error), data)
            return
        if self.finished:
            self.failure = ""

    def set_aside(self, lsn: int, why: str, data: bytes = b"") -> None:
        """Set the run aside for the record `data` at `lsn`, keeping it, or for what its line says.

        `data` is JSON of one line.
        """
        why = why[:_WHY_MAX]
        self.failure = self.failure or f"SFW401 run {self.id} set aside at lsn {lsn}: {why}"
        if data:
            self._misfit((len(self.records), lsn, data))

    def _misfit(self, row: tuple[int, int, bytes]) -> None:
        if not self.misfits:
            self.misfits = []
        self.misfits.append(row)
        self.nbytes += len(row[2])

    @property
    def seen_lsn(self) -> int:
        """LSN of the last record that was folded in or set aside."""
        return max(self.lsn, self.misfits[-1][1]) if self.misfits else self.lsn

    def _pending(self, key: str) -> CallState:
        call = self.calls.get(key)
        if call is None:
            message = f"{self.id} has no call {key!r}"
            raise ApplyError(message)
        if call.status != "pending":
            message = f"{self.id}: call {key!r} has its result already"
            raise ApplyError(message)
        return call

    def _begin(self, record: _Begins, kind: Kind, fn: str, args: str) -> CallState:
        """Return the call that `record` begins: a new one, or the same one once more."""
        key = record.key
        call = self.calls.get(key)
        if call is None:
            generation = self.generations.get(key, 0) if self.generations else 0
        elif (call.kind, call.fn, call.args) == (kind, fn, args):
            if call.cancelled:
                call.cancelled = False
                self.open = None  # it belongs where it was
            call.dropped = 0
            if call.status != "pending":
                message = f"{self.id}: call {record.key!r} has its result already"
                raise ApplyError(message)
            return call
        elif call.status != "pending":
            message = f"{self.id}: key {key!r} belongs to another call"
            raise ApplyError(message)
        else:
            generation = self.generations.get(key, 0) + 1
            self.generations[key] = generation
        fresh = CallState(key, record.name, kind, fn, args, record.lsn, record.ts, generation)
        self.calls[key] = fresh
        if self.open is not None:
            if call is None:
                self.open[key] = fresh
            else:
                self.open = None  # it takes the other's place in the order
        return fresh

    def _end(self, call: CallState, record: Record, status: StepStatus) -> None:
        call.status = status
        call.lsn = record.lsn
        call.ended_ms = record.ts
        call.due = 0
        call.cancelled = False
        if self.open is not None:
            self.open.pop(call.key, None)
        if call.group:
            self._drop_others(call, record.lsn)

    def _drop_others(self, won: CallState, lsn: int) -> None:
        """The first of a group has ended: the others are given up."""
        self.lost = [call for call in self.pending_calls() if call.group == won.group]
        for call in self.lost:
            call.cancelled = True
            call.due = 0
            call.dropped = lsn
            if self.open is not None:
                del self.open[call.key]

    # One method a record type. Each checks before it changes.

    def _run_started(self, record: RunStarted, _: bytes | None) -> None:
        if self.started is not None:
            message = f"{self.id} was started twice"
            raise ApplyError(message)
        self.started = record
        self.workflow = record.workflow
        self.input = self.first_input = bytes(record.input)
        self.created_ms = record.ts
        self.due = record.due
        if record.due or record.held:
            self.status = "pending"
            return
        self.status = "running"
        if record.timeout:
            self.deadline_ms = record.ts + record.timeout

    def _run_released(self, record: RunReleased, _: bytes | None) -> None:
        if self.status != "pending" or self.started is None:
            message = f"{self.id} is {self.status}: it waits for no admission"
            raise ApplyError(message)
        self.due = 0
        self.status = "running"
        self.released_lsn = record.lsn
        if self.started.timeout:
            self.deadline_ms = record.ts + self.started.timeout

    def _run_paused(self, record: RunPaused, _: bytes | None) -> None:
        self.paused = True
        self.acts.append(record)

    def _run_resumed(self, record: RunResumed, _: bytes | None) -> None:
        self.paused = False
        self.acts.append(record)

    def _run_restarted(self, record: RunRestarted, _: bytes | None) -> None:
        start = decode_record(bytes(record.started))
        if not isinstance(start, RunStarted) or start.r != self.id:
            message = f"{self.id} restarts and does not say how it was started"
            raise ApplyError(message)
        if self.started is not None and self.started.lsn != start.lsn:
            message = f"{self.id} restarts as the run of LSN {start.lsn}"
            raise ApplyError(message)
        lost = [lsn for _, lsn in record.kept if lsn not in self.payloads]
        if lost:
            message = f"{self.id}: the payload at LSN {lost[0]} is not known"
            raise ApplyError(message)
        acts = [decode_known(bytes(raw)) for raw in record.acts]
        payloads = {lsn: self.payloads[lsn] for _, lsn in record.kept}
        kept: dict[str, deque[int]] = {}
        for event, lsn in record.kept:
            kept.setdefault(event, deque()).append(lsn)
        self.started = msgspec.structs.replace(start, input=record.input, events=record.events)
        self.workflow = start.workflow
        self.created_ms = start.ts
        self.first_input = bytes(start.input)
        self.input = bytes(record.input)
        self.restarts = record.restarts
        self.forgotten = record.rs - 1
        self.deadline_ms, self.released_lsn = record.deadline, record.released
        self.status = "running"
        self.calls, self.values, self.versions = {}, {}, {}
        self.open, self.lost = None, ()
        self.marks, self.generations, self.acts = set(), {}, acts
        self.payloads, self.kept, self.kept_count = payloads, kept, len(record.kept)
        self.kept_bytes = sum(len(payloads[lsn]) for _, lsn in record.kept)
        self.records = []
        self.nbytes = sum(map(len, payloads.values()))
        self.emits = self.emit_bytes = 0

    @property
    def start_data(self) -> bytes:
        """The run's `RunStarted`, as it stands in the journal."""
        first = self.records[0]
        record = decode_record(first)
        return bytes(record.started) if isinstance(record, RunRestarted) else first

    def kept_events(self) -> tuple[tuple[str, int], ...]:
        """Return the events that are kept for it, oldest first."""
        rows = [(event, lsn) for event, lsns in self.kept.items() for lsn in lsns]
        return tuple(sorted(rows, key=lambda row: row[1]))

    def carried_acts(self) -> tuple[msgspec.Raw, ...]:
        """Return the newest acts, oldest first, as a restart takes them along."""
        return tuple(msgspec.Raw(_carried(act)) for act in self.acts[-ACTS_CARRIED:])

    def _cancel_requested(self, record: CancelRequested, _: bytes | None) -> None:
        # What cleans up is not held.
        self.paused = False
        self.acts.append(record)
        self.cancel_deadline_ms = record.deadline
        self.cancel_lsn = record.lsn
        self.cancel_reason = record.reason
        self.cancel_by = record.by

    def _run_completed(self, record: RunCompleted, _: bytes | None) -> None:
        self.result = bytes(record.result)
        self._close("completed")

    def _run_failed(self, record: RunFailed, _: bytes | None) -> None:
        self.error = bytes(record.error)
        self._close("failed")

    def _run_cancelled(self, record: RunCancelled, _: bytes | None) -> None:
        self.error = bytes(record.error)
        self.forced = record.forced
        if record.asked:
            self.acts.append(record)
        self._close("cancelled")

    def _run_retried(self, record: RunRetried, _: bytes | None) -> None:
        if self.status not in {"failed", "cancelled"}:
            message = f"{self.id} is {self.status}: only what failed or was cancelled is retried"
            raise ApplyError(message)
        self.open = None
        for key in record.forget:
            self._forget(key)
        for key in record.again:
            self._once_more(key)
        self.error = None
        self.forced = False
        self.cancel_deadline_ms = self.cancel_lsn = 0
        self.cancel_reason = self.cancel_by = ""
        self.status = "pending" if record.held else "running"
        # It has its whole time again.
        timeout = self.started.timeout if self.started is not None and not record.held else 0
        self.deadline_ms = record.ts + timeout if timeout else 0
        self.acts.append(record)
        self._keep_again()

    def _forget(self, key: str) -> None:
        """The key was never asked for; another idempotency key stands for it from now on."""
        if self.calls.pop(key, None) is not None:
            self._used_up(key)
        self.values.pop(key, None)
        if self.marks:
            self.marks.discard(key)

    def _once_more(self, key: str) -> None:
        """The call has no result: the body makes it again, with all its attempts."""
        call = self.calls.get(key)
        if call is None or call.kind != "step":
            # A wait, a sleep or a child begins anew.
            self.calls.pop(key, None)
            return
        call.status = "pending"
        call.error = None
        call.lsn = call.ended_ms = call.due = 0
        # Begun once, it would count as interrupted: it is run again on purpose.
        call.failures = call.attempt if call.once else 0
        call.cancelled = False

    def _keep_again(self) -> None:
        """Events that were kept when the run ended, and that no wait has taken, are kept again."""
        if not self.payloads:
            return
        kept: dict[int, str] = {}
        for data in self.records:
            record = decode_record(data)
            if isinstance(record, EventKept):
                kept[record.payload] = record.event
            elif isinstance(record, RunRestarted):
                kept = {lsn: event for event, lsn in record.kept}
            elif isinstance(record, WaitResolved):
                kept.pop(record.payload, None)
        for lsn, event in kept.items():
            self.kept.setdefault(event, deque()).append(lsn)
            self.kept_count += 1
            self.kept_bytes += len(self.payloads[lsn])

    def _close(self, status: RunStatus) -> None:
        self.status = status
        self.paused = False
        self.kept.clear()
        self.kept_count = self.kept_bytes = 0

    def _step_started(self, record: StepStarted, _: bytes | None) -> None:
        call = self._begin(record, "step", record.fn, record.args)
        call.attempt = record.attempt
        call.solo = record.solo
        # To look costs a tenth of what it costs to set.
        if call.due:
            call.due = 0
        if call.once is not record.once:
            call.once = record.once
        if record.undo:
            call.undo = True
        if call.group != record.group:
            call.group = record.group

    def _step_retrying(self, record: StepRetrying, _: bytes | None) -> None:
        call = self._pending(record.key)
        call.due = record.due
        call.failures += 1
        call.error = bytes(record.error)

    def _step_completed(self, record: StepCompleted, _: bytes | None) -> None:
        call = self.calls.get(record.key)
        if call is None or call.status != "pending":
            call = self._pending(record.key)
        call.result = bytes(record.result)
        call.status = "completed"
        call.lsn = record.lsn
        call.ended_ms = record.ts
        # To look costs a tenth of what it costs to set.
        if call.error is not None:
            call.error = None
        if call.due:
            call.due = 0
        if call.cancelled:
            call.cancelled = False
        if self.open is not None:
            self.open.pop(call.key, None)
        if call.group:
            self._drop_others(call, record.lsn)

    def _step_failed(self, record: StepFailed, _: bytes | None) -> None:
        call = self._pending(record.key)
        call.error = bytes(record.error)
        self._end(call, record, "failed")

    def _sleep_started(self, record: SleepStarted, _: bytes | None) -> None:
        call = self._begin(record, "sleep", FN_SLEEP, "")
        call.due = record.due
        call.solo = record.solo
        call.group = record.group

    def _sleep_ended(self, record: SleepEnded, _: bytes | None) -> None:
        call = self._pending(record.key)
        call.result = b"null"
        self._end(call, record, "completed")

    def _wait_started(self, record: WaitStarted, _: bytes | None) -> None:
        call = self._begin(record, "event", FN_EVENT, record.args or record.event)
        call.event = record.event
        call.due = record.due
        call.solo = record.solo
        call.group = record.group

    def _wait_resolved(self, record: WaitResolved, payload: bytes | None) -> None:
        call = self._pending(record.key)
        body = self.payloads.get(record.payload) if payload is None else payload
        if body is None:
            message = f"{self.id}: the payload at LSN {record.payload} is not known"
            raise ApplyError(message)
        queue = self.kept.get(call.event)
        if queue and queue[0] == record.payload:
            queue.popleft()
            self.kept_count -= 1
            self.kept_bytes -= len(body)
            if not queue:
                del self.kept[call.event]
        self._hold(record.payload, body)
        call.result = body
        self._end(call, record, "completed")

    def _wait_timed_out(self, record: WaitTimedOut, _: bytes | None) -> None:
        call = self._pending(record.key)
        call.timed_out = True
        self._end(call, record, "failed")

    def _event_kept(self, record: EventKept, payload: bytes | None) -> None:
        body = self.payloads.get(record.payload) if payload is None else payload
        if body is None:
            message = f"{self.id}: the payload at LSN {record.payload} is not known"
            raise ApplyError(message)
        self._hold(record.payload, body)
        self.kept.setdefault(record.event, deque()).append(record.payload)
        self.kept_count += 1
        self.kept_bytes += len(body)

    def _hold(self, lsn: int, body: bytes) -> None:
        """Keep a payload, once, however many records of the run name it."""
        if lsn not in self.payloads:
            self.payloads[lsn] = body
            self.nbytes += len(body)

    def _child_started(self, record: ChildStarted, _: bytes | None) -> None:
        call = self._begin(record, "child", f"{FN_CHILD}:{record.workflow}", record.args)
        call.child = record.child
        call.solo = record.solo
        call.group = record.group
        call.awaited = record.awaited
        if not record.awaited:
            call.result = msgspec.json.encode(record.child)
            self._end(call, record, "completed")

    def _child_ended(self, record: ChildEnded, _: bytes | None) -> None:
        call = self._pending(record.key)
        if record.error:
            call.error = bytes(record.error)
            self._end(call, record, "failed")
        else:
            call.result = bytes(record.result)
            self._end(call, record, "completed")

    def _notify_sent(self, record: NotifySent, _: bytes | None) -> None:
        call = self._begin(record, "notify", FN_NOTIFY, record.args)
        call.result = b"%d" % record.count
        self._end(call, record, "completed")

    def _call_cancelled(self, record: CallCancelled, _: bytes | None) -> None:
        call = self._pending(record.key)
        call.cancelled = True
        call.due = 0
        if self.open is not None:
            self.open.pop(call.key, None)

    def _call_adopted(self, record: CallAdopted, _: bytes | None) -> None:
        source = next((c for c in self.calls.values() if c.lsn == record.of), None)
        if source is None:
            message = f"{self.id}: no result at LSN {record.of} to adopt"
            raise ApplyError(message)
        if source.key != record.key:
            self._used_up(source.key)
            displaced = self.calls.get(record.key)
            if displaced is not None:
                self._used_up(record.key)
                # Its result may still be adopted, but no call has this key by its name.
                displaced.key = f"{record.key}@{displaced.lsn or record.lsn}"
                displaced.cancelled |= displaced.status == "pending"
            source.key = record.key
            self.calls = {call.key: call for call in self.calls.values()}
            self.open = None
        source.name = record.name
        source.fn = record.fn
        source.args = record.args
        source.lsn = record.lsn

    def _used_up(self, key: str) -> None:
        """The key's idempotency key was used: another call under it gets a new one."""
        self.generations[key] = self.generations.get(key, 0) + 1

    def _value_recorded(self, record: ValueRecorded, _: bytes | None) -> None:
        self.values[record.key] = bytes(record.value)

    def _version_chosen(self, record: VersionChosen, _: bytes | None) -> None:
        self.versions[record.name] = record.n

    def _emitted(self, record: Emitted, _: bytes | None) -> None:
        self.emits += 1
        self.emit_bytes += len(record.data)
        self._mark(record.key)

    def _progressed(self, record: Progressed, _: bytes | None) -> None:
        self._mark(record.key)

    def _mark(self, key: str) -> None:
        if not self.marks:
            self.marks = set()
        self.marks.add(key)

    # Each handler takes its own record type; the key says which.
    _handlers: ClassVar[dict[type[Record], Any]] = {
        RunStarted: _run_started,
        RunReleased: _run_released,
        RunRestarted: _run_restarted,
        CancelRequested: _cancel_requested,
        RunPaused: _run_paused,
        RunResumed: _run_resumed,
        RunRetried: _run_retried,
        RunCompleted: _run_completed,
        RunFailed: _run_failed,
        RunCancelled: _run_cancelled,
        StepStarted: _step_started,
        StepRetrying: _step_retrying,
        StepCompleted: _step_completed,
        StepFailed: _step_failed,
        SleepStarted: _sleep_started,
        SleepEnded: _sleep_ended,
        WaitStarted: _wait_started,
        WaitResolved: _wait_resolved,
        WaitTimedOut: _wait_timed_out,
        EventKept: _event_kept,
        ChildStarted: _child_started,
        ChildEnded: _child_ended,
        NotifySent: _notify_sent,
        CallCancelled: _call_cancelled,
        CallAdopted: _call_adopted,
        ValueRecorded: _value_recorded,
        VersionChosen: _version_chosen,
        Emitted: _emitted,
        Progressed: _progressed,
    }

    # ------------------------------------------------------------ packing

    def pack(self) -> bytes:
        """Return the run as its snapshot line: one exact `bytes` object, without a newline."""
        head = b'{"k":"run","id":"%b","lsn":%d' % (self.id.encode(), self.lsn)
        parts = [head]
        if self.payloads:
            pairs = b",".join(b'"%d":%b' % (k, v) for k, v in self.payloads.items())
            parts.append(b',"payloads":{%b}' % pairs)
        if self.failure:
            parts.append(b',"aside":%b' % msgspec.json.encode(self.failure))
        if self.misfits:
            rows = b",".join(b"[%d,%d,%b]" % row for row in self.misfits)
            parts.append(b',"misfits":[%b]' % rows)
        parts.append(b',"records":[%b]}' % b",".join(self.records))
        return b"".join(parts)

    @classmethod
    def unpack(cls, line: bytes, doubt: Callable[[Record, bytes], str] | None = None) -> RunState:
        """Return the run that `pack` wrote; a run that does not fold up is set aside.

        `doubt` says why a record cannot be believed, where the line comes from a disk. Raises
        `msgspec.MsgspecError` or `ValueError` for bytes that are no packed run.
        """
        packed = decode_packed(line)
        state = cls(packed.id)
        payloads = {int(k): bytes(v) for k, v in packed.payloads.items()}
        if packed.records and bytes(packed.records[0]).startswith(_ANEW):
            # What it names was recorded before it, and stands in no record of the line.
            state.payloads = payloads
        for raw in packed.records:
            state.fold_data(bytes(raw), payloads.get, doubt)
        if state.lsn != packed.lsn:
            state.set_aside(
                packed.lsn, f"its line says LSN {packed.lsn}, its records end at {state.lsn}"
            )
        for place, lsn, raw in packed.misfits:
            state._misfit((place, lsn, bytes(raw)))
        state.failure = packed.aside or state.failure
        return state

    def fold_data(
        self,
        data: bytes,
        payload_at: Callable[[int], bytes | None],
        doubt: Callable[[Record, bytes], str] | None = None,
    ) -> None:
        """Decode a record of the past and fold it in; `payload_at` returns an event's by its LSN.

        Raises `UnknownRecordError` for one that must be understood.
        """
        try:
            record = decode_record(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.set_aside(self.lsn, f"a record cannot be read: {error}", data)
            return
        if record is None:
            self.skip(data)
            return
        if doubt is not None and (why := doubt(record, data)):
            self.set_aside(record.lsn, why, data)
            return
        payload = None
        if isinstance(record, WaitResolved | EventKept):
            payload = payload_at(record.payload)
        self.fold(record, data, payload)

    def skip(self, data: bytes) -> None:
        """Keep a record of a type this version does not know and may skip."""
        try:
            head = _decode_skipped(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.set_aside(self.lsn, f"a record cannot be read: {error}", data)
            return
        if head.rs != self.rs + 1 or head.lsn <= self.lsn:
            self.set_aside(head.lsn, f"record {head.lsn} has number {head.rs}", data)
            return
        self.rs = head.rs
        self.lsn = head.lsn
        self.records.append(data)
        self.nbytes += len(data)


_HANDLERS: Final = RunState._handlers  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  looked up for each record


class _Packed(msgspec.Struct):
    id: str
    lsn: int
    records: list[msgspec.Raw]
    payloads: dict[str, msgspec.Raw] = {}
    aside: str = ""
    misfits: list[tuple[int, int, msgspec.Raw]] = []


class _Skipped(msgspec.Struct):
    lsn: int
    rs: int


def _carried(act: Record) -> bytes:
    """Return an act without what belongs to the history that it was done to."""
    if isinstance(act, RunRetried):
        act = msgspec.structs.replace(act, again=(), forget=())
    return encode_record(act)


_ANEW: Final = b'{"t":"run.restarted"'
decode_packed: Callable[[bytes], _Packed] = msgspec.json.Decoder(_Packed).decode
"""Return the parts of a packed run."""
_decode_skipped: Callable[[bytes], _Skipped] = msgspec.json.Decoder(_Skipped).decode

_Begins = StepStarted | SleepStarted | WaitStarted | ChildStarted | NotifySent
