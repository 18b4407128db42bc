"""The newest acts on all runs: a bounded table that outlives the runs it is about.

Rebuilt from the records that follow a snapshot, over the snapshot's own lines; each line has its
record's LSN, so what is in both is in it once. The oldest go first, by count and by bytes.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from stepflow.model.audit import AuditEntry, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.config import Settings
    from stepflow.model.records import Record

__all__ = ["AuditTable"]


class _Line(msgspec.Struct):
    lsn: int
    entry: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_entry = msgspec.json.Decoder(AuditEntry).decode


class AuditTable:
    """Acts by the LSN of their record, in its order."""

    __slots__ = ("_bytes", "_rows")

    def __init__(self) -> None:
        self._rows: dict[int, bytes] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, record: Record, workflow: str = "") -> None:
        """Enter the record, if it is an act of somebody's."""
        entry = entry_of(record, workflow)
        if entry is not None and not entry.by.startswith("run:"):
            # A parent's cancel reaches its children: that is no act on them.
            self._enter(entry.lsn, _encode(entry))

    def take_line(self, data: bytes) -> None:
        """Enter a snapshot's line. Raises what decoding does for one that makes no sense."""
        line = _decode_line(data)
        _decode_entry(line.entry)
        self._enter(line.lsn, bytes(line.entry))

    def _enter(self, lsn: int, data: bytes) -> None:
        if lsn not in self._rows:
            self._rows[lsn] = data
            self._bytes += len(data)

    def trim(self, settings: Settings) -> None:
        """Drop the oldest beyond the bounds."""
        over = len(self._rows) - settings.audit_entries_max
        if over <= 0 and self._bytes <= settings.audit_bytes_max:
            return
        # Lines of a snapshot and records after it: not in the order of their LSNs yet.
        rows = dict(sorted(self._rows.items()))
        for lsn in list(rows):
            if len(rows) <= settings.audit_entries_max and self._bytes <= settings.audit_bytes_max:
                break
            self._bytes -= len(rows.pop(lsn))
        self._rows = rows

    def page(self, before: int, run_id: str, limit: int) -> list[AuditEntry]:
        """Return at most so many acts on that run, or on all, before the LSN; newest first."""
        return list(islice(self._newest(before, run_id), limit))

    def _newest(self, before: int, run_id: str) -> Iterator[AuditEntry]:
        for lsn in sorted(self._rows, reverse=True):
            if lsn < before:
                entry = _decode_entry(self._rows[lsn])
                if not run_id or entry.run_id == run_id:
                    yield entry

    def lines(self) -> list[tuple[int, bytes]]:
        """Return the rows of a snapshot."""
        return [
            (lsn, b'{"k":"audit","lsn":%d,"entry":%b}' % (lsn, data))
            for lsn, data in self._rows.items()
        ]
