"""What a start finds on a disk: the real recovery and the real fold, as facts to compare.

`recover` only looks; `start` opens the journal as a service does and returns the disk as it is
then. Both fold lines and records into runs with the service's own `Restorer`. `told_by` is what the
fold must be, worked out from the records that were appended, with no code of the service.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from stepflow.errors import OperatorError
from stepflow.journal.api import open_journal
from stepflow.journal.recovery import Recovery
from stepflow.journal.store import read_store
from stepflow.journal.system import is_system
from stepflow.runtime.restore import Restorer
from tests.journal_kit import StillClock
from tests.recovery.traced_disk import disk_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.config import Settings
    from stepflow.journal.disk import Disk
    from tests.recovery.traced_disk import Image

__all__ = ["Found", "recover", "recover_disk", "start", "told_by"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a recovery says. Two with the same digest have the same runs."""

    lsn: int = 0
    digest: bytes = b""
    messages: tuple[str, ...] = ()
    problem: str = ""


def recover(image: Image) -> Found:
    """Recover what is on a disk without changing it."""
    return recover_disk(disk_of(image))


def recover_disk(disk: Disk, *, read_only: bool = True) -> Found:
    """Recover and fold."""
    restorer = Restorer()
    try:
        store = read_store(disk)
        if store is None:
            return Found(digest=_digest({}))
        now_ms = 1_700_000_000_000
        found = Recovery(
            disk, store, now_ms, restorer.on_line, restorer.on_record, read_only=read_only
        ).run()
    except OperatorError as error:
        return Found(problem=str(error))
    return Found(found.lsn, _digest(_runs(restorer)), tuple(found.messages), _left_out(restorer))


def start(disk: Disk, settings: Settings) -> Found:
    """Open the journal as a service does, and let go of it without a word."""
    return asyncio.run(_start(disk, settings))


async def _start(disk: Disk, settings: Settings) -> Found:
    restorer = Restorer()
    clock: Any = StillClock()
    try:
        journal, report = await open_journal(
            ":traced:",
            settings=settings,
            clock=clock,
            on_line=restorer.on_line,
            on_record=restorer.on_record,
            disk=disk,
            threads=False,
        )
    except OperatorError as error:
        return Found(problem=str(error))
    await journal.close(clean=False)
    return Found(report.lsn, _digest(_runs(restorer)), tuple(report.messages), _left_out(restorer))


def _left_out(restorer: Restorer) -> str:
    return "; ".join(restorer.messages)


def _runs(restorer: Restorer) -> dict[str, Any]:
    runs: dict[str, Any] = {}
    for found in restorer.runs():
        line = msgspec.json.decode(found.state.pack())
        runs[line["id"]] = line["records"], line.get("payloads", {})
    return runs


def _digest(runs: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).digest()


def told_by(records: Mapping[int, bytes], last_lsn: int) -> bytes:
    """Return the digest of the runs that the records up to an LSN make."""
    runs: dict[str, tuple[list[Any], dict[str, Any]]] = {}
    payloads: dict[int, Any] = {}
    for lsn in sorted(records):
        if lsn > last_lsn:
            break
        if is_system(records[lsn]):
            continue
        record = json.loads(records[lsn])
        if record["t"] == "event.received":
            payloads[lsn] = record["payload"]
        elif record["t"] == "run.purged":
            runs.pop(record["r"], None)
        else:
            rows, known = runs.setdefault(record["r"], ([], {}))
            rows.append(record)
            if record["t"] in {"wait.resolved", "event.kept"}:
                known[str(record["payload"])] = payloads[record["payload"]]
    return _digest(runs)
