"""PURE. The journal's own records: they have LSNs like any other and are never handed out.

======== =========================================================================
type     meaning
======== =========================================================================
open     a start; the first record of each start's first segment
close    a clean stop: nothing can have been lost behind it
snapshot a snapshot is finished and verified
======== =========================================================================

`close` is longer than a sector, so its frame ends in another sector than the frame before it: one
sector that rots to zeros does not take both, and what was acknowledged is not taken for torn.
"""

from __future__ import annotations

import json
from typing import Final

from stepflow.journal.frame import SECTOR

__all__ = ["CLOSE_PREFIX", "SYSTEM_PREFIX", "is_system", "system_record"]

SYSTEM_PREFIX: Final = b'{"t":"sys.'
CLOSE_PREFIX: Final = b'{"t":"sys.close"'


def system_record(kind: str, lsn: int, ts_ms: int, **extra: int | str) -> bytes:
    """Return the JSON of `sys.<kind>`."""
    record = {"t": f"sys.{kind}", "lsn": lsn, "ts": ts_ms, **extra}
    text = json.dumps(record, separators=(",", ":")).encode()
    return text.ljust(SECTOR) if kind == "close" else text


def is_system(record: bytes) -> bool:
    """Say whether a record is the journal's own."""
    return record.startswith(SYSTEM_PREFIX)
