"""PURE. What a retry of a run takes back, so that it goes on from where it failed.

======================================  ==========================================================
of the run's records                    on the retry
======================================  ==========================================================
the calls whose failure ended it        made again, a step under its idempotency key
what was asked for after a cancel, or   forgotten: it was cleanup
while the body handled the failure
compensations                           forgotten
the steps that they undid               forgotten: not done, and run again under another
                                        idempotency key
everything else                         kept: a recorded step is never run again
======================================  ==========================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stepflow.model import records as rec
from stepflow.model.records import decode_record
from stepflow.runtime.undoing import UNDO, undo_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.model.records import Record
    from stepflow.model.run import RunState

__all__ = ["TakenBack", "taken_back"]


class TakenBack(NamedTuple):
    """Keys of the calls to make again, and of those that count as never asked for."""

    again: tuple[str, ...]
    forget: tuple[str, ...]


class _Error(msgspec.Struct):
    step: str | None = None


_decode_error = msgspec.json.Decoder(_Error).decode


def taken_back(state: RunState) -> TakenBack:
    """Return what a retry of the failed or cancelled run takes back."""
    history = list(_history(state))
    forget = dict.fromkeys(_after_cancel(state, history))
    undos = [call for call in state.calls.values() if call.name.startswith(UNDO)]
    forget.update(dict.fromkeys(call.key for call in undos))
    forget.update(dict.fromkeys(_undone(state)))
    failed, cleanup = _failure(state, history)
    forget.update(dict.fromkeys(cleanup))
    again = [key for key in failed if key not in forget]
    return TakenBack(tuple(again), tuple(forget))


def _history(state: RunState) -> Iterator[Record]:
    """Yield the run's records since it was retried last."""
    since = max((a.lsn for a in state.acts if isinstance(a, rec.RunRetried)), default=0)
    for data in state.records:
        record = decode_record(data)
        if record is not None and record.lsn > since:
            yield record


def _after_cancel(state: RunState, history: list[Record]) -> Iterator[str]:
    """Yield the keys of what was begun, or failed, after the cancel, and of given up children.

    Between a cancel's record and the moment when the body hears of it nothing new begins, so what
    began later is cleanup. A run's end cancels the children that it still waits for.
    """
    since = state.cancel_lsn or state.lsn
    for call in state.calls.values():
        failed_since = call.status == "failed" and call.lsn > since
        reached = call.kind == "child" and call.status == "pending"
        if call.begun > since or failed_since or reached:
            yield call.key
    for record in history:
        if record.lsn > since and isinstance(
            record, rec.ValueRecorded | rec.Emitted | rec.Progressed
        ):
            yield record.key


def _undone(state: RunState) -> Iterator[str]:
    """Yield the keys of the steps whose compensation was made, or cut while it was made.

    One that failed has not undone its step, as far as is known.
    """
    for step, undo in undo_pairs(state):
        if undo is not None and undo.status != "failed":
            yield step.key


def _failure(state: RunState, history: list[Record]) -> tuple[list[str], tuple[str, ...]]:
    """Return the keys of the calls whose failure ended the run, and those of its handling.

    To what the end itself says come the failures after which nothing was begun: nobody has built
    on them, and a `gather` tells of the first alone.
    """
    ended = next((r for r in reversed(history) if isinstance(r, rec.RunFailed)), None)
    if ended is None:
        return [], ()
    failed = [c for c in state.calls.values() if c.status == "failed"]
    failed = [c for c in failed if not c.name.startswith(UNDO)]
    last = max((c.begun for c in state.calls.values() if not c.name.startswith(UNDO)), default=0)
    keys = {c.key for c in failed if c.key in ended.failed or c.lsn > last}
    if not keys:
        # Of a time before the end said so: the step that its error names.
        name = _decode_error(bytes(ended.error)).step
        keys = {c.key for c in failed[::-1] if c.name == name}
    return [c.key for c in failed if c.key in keys], ended.cleanup
