"""What a run is in the database: its rows, and their checksum. PURE."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec

from stepflow.engine.postgres.inbox import text

if TYPE_CHECKING:
    from stepflow.model.run import RunState

__all__ = ["Key", "RunRows", "digest", "key_of", "rows_of_run"]


class Key(NamedTuple):
    """An idempotency key that counts until then."""

    workflow: str
    principal: str
    key: str
    run_id: str
    expires_ms: int


class RunRows(msgspec.Struct, frozen=True):
    """All rows of one run, those that order does not matter of in order of their keys."""

    run: tuple[str, str, list[str], str, int, int, int, int, int, int, int]
    """As `stepflow.runs` has it: id, workflow, tags, status, created and updated, record number,
    LSN, records forgotten, events kept and their bytes."""
    records: list[tuple[int, int, int, bytes]]
    """Number, LSN, checksum and bytes."""
    payloads: list[tuple[int, bytes]]
    waits: list[tuple[str, str]]
    """Key and event."""
    declared: list[str]

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run[0]

    @property
    def nbytes(self) -> int:
        """About how much it is."""
        return sum(len(row[3]) for row in self.records) + sum(len(row[1]) for row in self.payloads)


class _Head(msgspec.Struct):
    rs: int
    lsn: int


_decode_head = msgspec.json.Decoder(_Head).decode


def rows_of_run(state: RunState) -> RunRows:
    """Return the run's rows. Of a run that has ended nothing waits and nothing is kept."""
    assert state.started is not None
    live = not state.finished
    records: list[tuple[int, int, int, bytes]] = []
    for data in state.records:
        head = _decode_head(data)
        records.append((head.rs, head.lsn, crc32(data), data))
    return RunRows(
        run=(
            state.id,
            text(state.workflow),
            [text(tag) for tag in state.started.tags],
            state.status,
            state.created_ms,
            state.updated_ms,
            state.rs,
            state.lsn,
            state.forgotten,
            state.kept_count if live else 0,
            state.kept_bytes if live else 0,
        ),
        records=records,
        payloads=sorted(state.payloads.items()),
        waits=sorted(
            (text(call.key), text(call.event))
            for call in state.pending_calls()
            if live and call.kind == "event"
        ),
        declared=sorted({text(event) for event in state.started.events}) if live else [],
    )


def key_of(state: RunState, ttl_ms: int) -> Key | None:
    """Return the key that the run was triggered with, if any."""
    summary = state.summary()
    if not summary.idem:
        return None
    expires_ms = summary.created_ms + ttl_ms
    return Key(summary.workflow, text(summary.by), text(summary.idem), state.id, expires_ms)


def digest(rows: RunRows) -> bytes:
    """Return the checksum of a run's records and payloads, each with its length and place."""
    sums = sha256(rows.id.encode())
    for rs, lsn, _, data in rows.records:
        sums.update(b"r%d,%d,%d:" % (rs, lsn, len(data)))
        sums.update(data)
    for lsn, body in rows.payloads:
        sums.update(b"p%d,%d:" % (lsn, len(body)))
        sums.update(body)
    return sums.digest()
