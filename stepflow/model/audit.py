"""Who did what to which run, when and why: what the records say of it. PURE.

An act stands in the run's own records and lives as long as the run. Beside that a bounded table
keeps the newest acts on all runs, purges and bulk actions among them, so that they outlive the runs
they were about; and who made or revoked an API key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from stepflow.clock import rfc3339
from stepflow.model import records as rec
from stepflow.model.shown import Shown

if TYPE_CHECKING:
    from stepflow.model.records import Record
    from stepflow.model.run import RunState

__all__ = ["AuditAction", "AuditEntry", "AuditPage", "acts_of", "entry_of"]

AuditAction = Literal[
    "cancel",
    "pause",
    "resume",
    "retry",
    "fork",
    "purge",
    "bulk",
    "schedule-pause",
    "schedule-resume",
    "key-make",
    "key-revoke",
]


class AuditEntry(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """One act. `by` is the principal; empty for the program that embeds the engine."""

    lsn: int
    at: str
    action: AuditAction
    by: str
    run_id: str | UnsetType = UNSET
    workflow_id: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    forced: bool | UnsetType = UNSET
    """Of a cancel: without waiting for the run's cleanup."""
    source: Raw | UnsetType = UNSET
    """Of a fork: of which run it is one, and from which step."""
    bulk: Raw | UnsetType = UNSET
    """Of a bulk action: which, with what filter, on how many runs."""
    schedule: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    """Of an API key that was made or revoked; its secret is kept nowhere."""
    key_name: str | UnsetType = UNSET


class AuditPage(Shown, rename="camel", kw_only=True):
    """Acts, newest first."""

    audit: list[AuditEntry]
    next_cursor: str | None


def entry_of(record: Record, workflow: str = "") -> AuditEntry | None:  # noqa: PLR0911, C901  a table
    """Return the act that the record is, or None: of a run of `workflow`, where that is known."""
    match record:
        case rec.CancelRequested(by=by, reason=reason):
            return _entry(record, "cancel", by, reason, workflow)
        case rec.RunCancelled(by=by, reason=reason) if record.asked:
            forced = record.forced or UNSET
            entry = _entry(record, "cancel", by, reason, workflow)
            return msgspec.structs.replace(entry, forced=forced)
        case rec.RunPaused(by=by, reason=reason):
            return _entry(record, "pause", by, reason, workflow)
        case rec.RunResumed(by=by, reason=reason):
            return _entry(record, "resume", by, reason, workflow)
        case rec.RunRetried(by=by, reason=reason):
            return _entry(record, "retry", by, reason, workflow)
        case rec.RunStarted(by=by) if record.lineage:
            entry = _entry(record, "fork", by, "", record.workflow)
            return msgspec.structs.replace(entry, source=record.lineage)
        case rec.RunPurged(by=by, reason=reason) if record.workflow:
            return _entry(record, "purge", by, reason, record.workflow)
        case rec.BulkActed(by=by, reason=reason):
            told = {
                "action": record.action,
                "filter": record.filter,
                "done": record.done,
                "skipped": record.skipped,
            }
            entry = _entry(record, "bulk", by, reason, "")
            return msgspec.structs.replace(entry, bulk=Raw(msgspec.json.encode(told)))
        case rec.KeyActed(by=by):
            made: AuditAction = "key-make" if record.action == "make" else "key-revoke"
            entry = _entry(record, made, by, "", "")
            return msgspec.structs.replace(entry, key_id=record.key, key_name=record.name)
        case rec.SchedulePaused(by=by):
            action: AuditAction = "schedule-pause" if record.paused else "schedule-resume"
            entry = _entry(record, action, by, "", "")
            return msgspec.structs.replace(entry, schedule=record.schedule)
        case _:
            return None


def _entry(record: Record, action: AuditAction, by: str, reason: str, workflow: str) -> AuditEntry:
    return AuditEntry(
        lsn=record.lsn,
        at=rfc3339(record.ts),
        action=action,
        by=by,
        run_id=record.r or UNSET,
        workflow_id=workflow or UNSET,
        reason=reason or UNSET,
    )


def acts_of(state: RunState) -> list[AuditEntry]:
    """Return what was done to the run, oldest first."""
    records = [*([state.started] if state.started is not None else []), *state.acts]
    entries = (entry_of(record, state.workflow) for record in records)
    return [entry for entry in entries if entry is not None]
