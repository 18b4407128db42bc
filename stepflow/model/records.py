"""The facts of a run, one class each: this module is the specification of record format 1.

A record is a JSON object. Every record carries

===== =====================================================================
`t`   its type, the tag below
`v`   version of that type, left out while it is 1
`lsn` its log sequence number, dense over the whole journal, from 1
`r`   the run it belongs to; empty for records that belong to none
`rs`  its number within that run, dense, from 1: the `id:` on the run's stream
`ts`  hybrid time in milliseconds since 1970
===== =====================================================================

A reader refuses a type it does not know when the record says `"crit":true`, and skips it otherwise.
A **lazy** record starts no sync of its own: nothing is lost that anyone was told of when the
process dies before it is written, because whatever rests on it has a later LSN.

Times are hybrid milliseconds. `key` is a step key, `args` the hash of the encoded arguments, `fn`
the function's qualified name. `solo` says that the run had one task and one call outstanding when
it asked, so that a run whose last word is a solo wait may sleep until something wakes it.

`group` joins the calls of one `ctx.first`, under the key of that: the record that ends the first of
them says by that which one has won, and the others are given up by it, with no record of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from msgspec import Raw

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NOTHING",
    "Admission",
    "BulkActed",
    "CallAdopted",
    "CallCancelled",
    "CancelRequested",
    "ChildEnded",
    "ChildStarted",
    "Emitted",
    "EventKept",
    "EventReceived",
    "KeyActed",
    "Kind",
    "NotifySent",
    "Progressed",
    "Record",
    "RunCancelled",
    "RunCompleted",
    "RunFailed",
    "RunPaused",
    "RunPurged",
    "RunReleased",
    "RunRestarted",
    "RunResumed",
    "RunRetried",
    "RunStarted",
    "ScheduleFired",
    "SchedulePaused",
    "ScheduleSet",
    "SleepEnded",
    "SleepStarted",
    "StepCompleted",
    "StepFailed",
    "StepRetrying",
    "StepStarted",
    "UnknownRecordError",
    "ValueRecorded",
    "VersionChosen",
    "WaitResolved",
    "WaitStarted",
    "WaitTimedOut",
    "decode_known",
    "decode_record",
    "encode_record",
]

NOTHING = Raw()
"""No value: left out of the JSON, because it is the very object that is the fields' default."""

Kind = Literal["step", "sleep", "event", "child", "notify"]


Admission = tuple[tuple[str, str, int], ...]
"""Rate limits: id, key and window in milliseconds of each."""


class Record(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="t", gc=False
):
    """What every record has."""

    lazy: ClassVar[bool] = False

    lsn: int
    r: str
    rs: int
    ts: int
    v: int = 1


# ------------------------------------------------------------------- the run


class RunStarted(Record, frozen=True, tag="run.started"):
    """A run exists. `due`: it is held (`pending`) until then."""

    workflow: str
    input: Raw
    by: str = ""
    tags: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    """Concrete event ids this run declared."""
    idem: str = ""
    """The `Idempotency-Key` it was triggered with, under the principal `by`."""
    due: int = 0
    parent: str = ""
    parent_key: str = ""
    lineage: Raw = NOTHING
    """Fork: where it came from."""
    held: bool = False
    """It waits for admission: `run.released` lets it in."""
    admission: Admission = ()
    """The rates that its beginning counts for, where it is let in at once."""
    timeout: int = 0
    """It has so many milliseconds from its admission; 0: no limit."""
    schedule: str = ""
    """The schedule that started it, for the time `scheduled`."""
    scheduled: int = 0
    exclusive: str = ""
    """At most one run of this name goes on at once, beside what its workflow says."""
    trace: str = ""
    """The trace context of the run's own span, as a W3C `traceparent`; empty: it is not traced."""


class RunReleased(Record, frozen=True, tag="run.released"):
    """A pending run may begin: its delay is over or it was admitted."""

    admission: Admission = ()
    """The rates that its beginning counts for."""


class RunRestarted(Record, frozen=True, tag="run.restarted"):
    """The run's history ends here and a fresh one begins: `ctx.restart`.

    Whole in itself, so that it may stand first in the run's line of a snapshot: the run's state
    after it needs nothing that came before but the payloads it names.
    """

    crit: bool
    """Always true: a reader that skipped it would go on with the history of before."""
    input: Raw
    restarts: int
    """How often the run has restarted, with this."""
    started: Raw
    """The run's `RunStarted`, word for word."""
    events: tuple[str, ...] = ()
    """Concrete event ids that it declares from now on."""
    kept: tuple[tuple[str, int], ...] = ()
    """Events that stay kept: their ids and the LSNs of their payloads, oldest first."""
    deadline: int = 0
    """When the run's timeout is over, which goes on."""
    released: int = 0
    """LSN of the record that let the run in, where it had to wait."""
    acts: tuple[Raw, ...] = ()
    """What operators did to the run before it, oldest first; of a retry, without its keys."""


class CancelRequested(Record, frozen=True, tag="run.cancelling"):
    """Someone cancelled the run; it has until `deadline` to clean up."""

    deadline: int
    by: str = ""
    reason: str = ""


class RunPaused(Record, frozen=True, tag="run.paused"):
    """Someone holds the run before its next effect; `pending` when it had not begun."""

    crit: bool
    """Always true: who does not know this type must not run the run."""
    by: str = ""
    reason: str = ""
    pending: bool = False


class RunResumed(Record, frozen=True, tag="run.resumed"):
    """Someone lets a run go on that was paused or set aside."""

    crit: bool
    by: str = ""
    reason: str = ""
    pending: bool = False
    aside: bool = False
    """It was set aside, not paused."""


class RunCompleted(Record, frozen=True, tag="run.completed"):
    """The body returned."""

    result: Raw


class RunFailed(Record, frozen=True, tag="run.failed"):
    """The body raised."""

    error: Raw
    failed: tuple[str, ...] = ()
    """Keys of the calls whose failure it was: a retry of the run makes them again."""
    cleanup: tuple[str, ...] = ()
    """Keys that the body used while it handled that failure: a retry forgets them."""


class RunCancelled(Record, frozen=True, tag="run.cancelled"):
    """The run ended because it was cancelled; `forced` when it was not waited for.

    `asked`: somebody wanted this very end, by force or before the run had begun; `by` and `reason`.
    """

    error: Raw
    forced: bool = False
    asked: bool = False
    by: str = ""
    reason: str = ""


class RunRetried(Record, frozen=True, tag="run.retried"):
    """Someone lets a run go on that had failed or was cancelled, from where it failed."""

    crit: bool
    by: str = ""
    reason: str = ""
    again: tuple[str, ...] = ()
    """Keys of failed steps: made again under their idempotency keys."""
    forget: tuple[str, ...] = ()
    """Keys of cleanup, compensation and what was compensated: as if never asked for."""
    held: bool = False
    """It waits for admission again."""


class RunPurged(Record, frozen=True, tag="run.purged"):
    """The run is forgotten."""

    by: str = ""
    reason: str = ""
    workflow: str = ""
    """What it was, for the audit: of a run that somebody purged, not retention."""


# ------------------------------------------------------------------- steps


class StepStarted(Record, frozen=True, tag="step.started"):
    """An attempt of a step began. Lazy, unless `once`: then it is on disk before the body runs."""

    lazy: ClassVar[bool] = True

    key: str
    name: str
    fn: str
    args: str
    attempt: int = 1
    solo: bool = False
    once: bool = False
    undo: str = ""
    """Compensation mark: the function that undoes the step."""
    group: str = ""
    """Key of the `ctx.first` it is part of: the first of a group to end drops the others."""


class StepRetrying(Record, frozen=True, tag="step.retrying"):
    """An attempt failed; the next one is due at `due`."""

    key: str
    attempt: int
    error: Raw
    due: int


class StepCompleted(Record, frozen=True, tag="step.completed"):
    """The step has its one result."""

    key: str
    result: Raw
    attempt: int = 1


class StepFailed(Record, frozen=True, tag="step.failed"):
    """The step failed after its last attempt."""

    key: str
    error: Raw
    attempt: int = 1


# ------------------------------------------------------------------- sleeps, waits, children


class SleepStarted(Record, frozen=True, tag="sleep.started"):
    """A durable timer runs until `due`."""

    key: str
    name: str
    due: int
    solo: bool = False
    group: str = ""


class SleepEnded(Record, frozen=True, tag="sleep.ended"):
    """The timer fired."""

    key: str


class WaitStarted(Record, frozen=True, tag="wait.started"):
    """The run waits for an event, until `due` if that is not 0."""

    key: str
    name: str
    event: str
    due: int = 0
    solo: bool = False
    group: str = ""
    args: str = ""
    """In a fork: that the payload is for the wait, whatever event it waits for."""


class WaitResolved(Record, frozen=True, tag="wait.resolved"):
    """The event came: `payload` is the LSN of its `EventReceived`."""

    key: str
    payload: int


class WaitTimedOut(Record, frozen=True, tag="wait.timed-out"):
    """The event did not come in time."""

    key: str


class ChildStarted(Record, frozen=True, tag="child.started"):
    """A child run was started, in the same frame as its own `RunStarted`."""

    key: str
    name: str
    workflow: str
    child: str
    args: str
    solo: bool = False
    awaited: bool = True
    group: str = ""


class ChildEnded(Record, frozen=True, tag="child.ended"):
    """The awaited child ended: `result` of a completed one, else `error`."""

    key: str
    result: Raw = NOTHING
    error: Raw = NOTHING


class NotifySent(Record, frozen=True, tag="notify.sent"):
    """`ctx.notify` reached `count` runs, in the same frame as what it did to them."""

    key: str
    name: str
    args: str
    count: int


class CallCancelled(Record, frozen=True, tag="call.cancelled"):
    """The body gave the call up; a late result of it is not recorded."""

    lazy: ClassVar[bool] = True

    key: str


class CallAdopted(Record, frozen=True, tag="call.adopted"):
    """A call takes the result recorded at LSN `of` under another key or with other arguments.

    This record's own LSN is the result's new place in the order of results.
    """

    key: str
    name: str
    kind: Kind
    fn: str
    args: str
    of: int


# ------------------------------------------------------------------- values and live output


class ValueRecorded(Record, frozen=True, tag="value"):
    """What `ctx.now`, `ctx.random` or `ctx.uuid` gave."""

    lazy: ClassVar[bool] = True

    key: str
    value: Raw


class VersionChosen(Record, frozen=True, tag="version"):
    """`ctx.version(name, n)` chose `n` for this run."""

    lazy: ClassVar[bool] = True

    name: str
    n: int


class Emitted(Record, frozen=True, tag="emit"):
    """`ctx.emit`: an event of the author's on the run's stream; or a step's `emit`.

    A step's has the step's key, `@`, the attempt, a point and how many the attempt had emitted.
    """

    key: str
    name: str
    data: Raw


class Progressed(Record, frozen=True, tag="progress"):
    """`ctx.progress`."""

    lazy: ClassVar[bool] = True

    key: str
    done: float
    total: float | None = None
    message: str | None = None


# ------------------------------------------------------------------- events


class EventReceived(Record, frozen=True, tag="event.received"):
    """An event came from outside; the `takers` records that name this LSN follow it."""

    event: str
    payload: Raw
    takers: int
    by: str = ""


class EventKept(Record, frozen=True, tag="event.kept"):
    """The run declared the event, or was addressed, and does not wait now: kept until it does."""

    event: str
    payload: int


class BulkActed(Record, frozen=True, tag="audit.bulk"):
    """Someone acted on many runs at once; what it did to each stands in that run's records."""

    action: str
    filter: Raw
    """What was asked for, as JSON."""
    done: int
    by: str = ""
    reason: str = ""
    skipped: int = 0


class KeyActed(Record, frozen=True, tag="audit.key"):
    """Someone made or revoked an API key; the key itself is in `keys.json`, its secret nowhere."""

    action: Literal["make", "revoke"]
    key: str
    """Its id."""
    name: str = ""
    by: str = ""


# ------------------------------------------------------------------- schedules


class ScheduleSet(Record, frozen=True, tag="schedule.set"):
    """From now on the schedule is as `spec` says; nothing before now is due. Empty: it is gone."""

    schedule: str
    spec: str


class ScheduleFired(Record, frozen=True, tag="schedule.fired"):
    """Everything up to the time `at` is decided: `run` was started for it, or none."""

    schedule: str
    at: int
    run: str = ""
    skipped: int = 0
    """So many times got no run."""


class SchedulePaused(Record, frozen=True, tag="schedule.paused"):
    """Someone paused the schedule, or resumed it: what was due meanwhile is not."""

    schedule: str
    paused: bool
    by: str = ""


AnyRecord = (
    RunStarted
    | RunReleased
    | RunRestarted
    | CancelRequested
    | RunPaused
    | RunResumed
    | RunRetried
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunPurged
    | StepStarted
    | StepRetrying
    | StepCompleted
    | StepFailed
    | SleepStarted
    | SleepEnded
    | WaitStarted
    | WaitResolved
    | WaitTimedOut
    | ChildStarted
    | ChildEnded
    | NotifySent
    | CallCancelled
    | CallAdopted
    | ValueRecorded
    | VersionChosen
    | Emitted
    | Progressed
    | EventReceived
    | EventKept
    | BulkActed
    | KeyActed
    | ScheduleSet
    | ScheduleFired
    | SchedulePaused
)


class UnknownRecordError(Exception):
    """A record of a type this version does not know, and which must not be skipped."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"record type {kind!r} is not known to this version")


class _Head(msgspec.Struct):
    t: str
    crit: bool = False


encode_record = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyRecord).decode
_decode_head = msgspec.json.Decoder(_Head).decode


decode_known: Callable[[bytes], Record] = _decode
"""Return the record that `data` encodes; raise for anything else."""


def decode_record(data: bytes) -> Record | None:
    """Return the record that `data` encodes, or `None` for an unknown one that may be skipped.

    Raises `UnknownRecordError` for an unknown one that may not, `msgspec.MsgspecError` for bytes
    that are no record.
    """
    try:
        record: Record = _decode(data)
    except msgspec.ValidationError:
        head = _decode_head(data)
        if head.t in _TAGS:
            raise
        if head.crit:
            raise UnknownRecordError(head.t) from None
        return None
    return record


_TAGS = frozenset(
    cls.__struct_config__.tag
    for cls in Record.__subclasses__()
    if isinstance(cls.__struct_config__.tag, str)
)
