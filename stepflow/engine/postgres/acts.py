"""Acts of operators as rows of the audit: the JSON that is shown, but for its place. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.engine.postgres.inbox import text
from stepflow.model.audit import entry_of
from stepflow.model.records import RunPurged

if TYPE_CHECKING:
    from stepflow.model.audit import AuditEntry
    from stepflow.model.records import Record

__all__ = ["ACTS", "act_columns", "act_row", "purged", "row_of"]

ACTS: Final = b"""
insert into stepflow.audit (run_id, entry) select * from unnest(%s::text[], %s::bytea[])"""
_encode: Final = msgspec.json.Encoder().encode


def act_row(record: Record, workflow: str = "") -> tuple[str, bytes] | None:
    """Return the row of the act that the record is; None where it is nobody's act."""
    entry = entry_of(record, workflow)
    if entry is None or entry.by.startswith("run:"):
        # A parent's cancel reaches its children: that is no act on them.
        return None
    return row_of(entry)


def row_of(entry: AuditEntry) -> tuple[str, bytes]:
    """Return the row of an act."""
    run_id = entry.run_id if isinstance(entry.run_id, str) else ""
    return text(run_id), _encode(msgspec.structs.replace(entry, lsn=0))


def act_columns(*records: Record) -> tuple[list[str], list[bytes]]:
    """Return what `ACTS` takes."""
    rows = [row for record in records if (row := act_row(record)) is not None]
    return [row[0] for row in rows], [row[1] for row in rows]


def purged(run_id: str, workflow: str, now_ms: int, *, by: str, reason: str) -> RunPurged:
    """Return the act of somebody who has a run forgotten: no record of a journal here."""
    return RunPurged(lsn=0, r=run_id, rs=0, ts=now_ms, by=by, reason=reason, workflow=workflow)
