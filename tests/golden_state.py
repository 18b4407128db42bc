"""What a golden directory means, as one hash: every run's id, state and records, word for word.

It does not depend on how a snapshot's line is written, so a later format must give the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from stepflow.journal.disk import RealDisk
from stepflow.journal.recovery import Recovery
from stepflow.journal.store import read_store
from stepflow.runtime.restore import Restorer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["state_hash"]


def state_hash(data: Path) -> str:
    """Return the SHA-256, as hex, of all that the directory holds. Nothing in it is touched."""
    disk = RealDisk(data)
    store = read_store(disk)
    assert store is not None, f"{data} is no data directory"
    restorer = Restorer()
    found = Recovery(disk, store, 0, restorer.on_line, restorer.on_record, read_only=True).run()
    digest = hashlib.sha256(b"lsn %d\n" % found.lsn)
    for run in sorted(restorer.runs(), key=lambda run: run.state.id):
        state = run.state
        status = run.failure or state.status
        digest.update(f"{state.id} {status} {state.lsn} {len(state.records)}\n".encode())
        for record in state.records:
            digest.update(record + b"\n")
    return digest.hexdigest()
