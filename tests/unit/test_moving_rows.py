"""What a run is in the database follows from its records alone."""

from __future__ import annotations

from zlib import crc32

import pytest
from msgspec import Raw
from msgspec.structs import replace

pytest.importorskip("psycopg", reason="platform: the postgres extra is not here")

from stepflow.engine.postgres.moving.rows import Key, digest, key_of, rows_of_run
from stepflow.model import records as rec
from tests.unit.run_writer import RUN, Writer


def waiting() -> Writer:
    """A run that waits for one event and keeps another; a text of it has what no database has."""
    writer = Writer()
    writer.write(
        rec.RunStarted,
        workflow="w",
        input=Raw(b"1"),
        tags=("blue\x00",),
        events=("kept", "nul\x00"),
        idem="key",
        by="ann",
    )
    writer.step("first")
    writer.write(rec.WaitStarted, key="told#1", name="told", args="x", event="told-1")
    writer.lsn += 1
    writer.write(rec.EventKept, b'"early"', event="kept", payload=writer.lsn)
    return writer


def test_a_live_run_has_its_records_its_waits_and_what_it_keeps() -> None:
    state = waiting().state
    rows = rows_of_run(state)
    kept = state.payloads
    assert rows.run == (
        *(RUN, "w", ["blue\ufffd"], state.status, state.created_ms, state.updated_ms),
        *(state.rs, state.lsn, 0, 1, len(b'"early"')),
    )
    assert [row[3] for row in rows.records] == state.records
    assert [row[:2] for row in rows.records] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)]
    assert all(crc == crc32(data) for _, _, crc, data in rows.records)
    assert rows.payloads == list(kept.items())
    assert rows.waits == [("told#1", "told-1")]
    assert rows.declared == ["kept", "nul\ufffd"]
    assert rows.nbytes == sum(map(len, state.records)) + len(b'"early"')


def test_a_run_that_has_ended_waits_for_nothing_and_keeps_nothing() -> None:
    writer = waiting()
    writer.write(rec.RunFailed, error=Raw(b'{"type":"E","message":"m"}'))
    rows = rows_of_run(writer.state)
    assert rows.run[3] == "failed"
    assert rows.run[-2:] == (0, 0)
    assert (rows.waits, rows.declared) == ([], [])
    assert len(rows.records) == 6


def test_its_key_counts_from_its_creation_on() -> None:
    state = waiting().state
    assert key_of(state, 5_000) == Key("w", "ann", "key", RUN, state.created_ms + 5_000)
    assert key_of(Writer().start().state, 5_000) is None


def test_each_byte_and_place_counts_in_the_checksum() -> None:
    rows = rows_of_run(waiting().state)
    rs, lsn, crc, data = rows.records[0]
    at, body = rows.payloads[0]
    others = [
        replace(rows, records=rows.records[:-1]),
        replace(rows, records=[(rs, lsn, crc, data + b" "), *rows.records[1:]]),
        replace(rows, records=[(rs, lsn + 7, crc, data), *rows.records[1:]]),
        replace(rows, payloads=[(at, body + b" ")]),
        replace(rows, payloads=[(at + 1, body)]),
        replace(rows, payloads=[]),
        replace(rows, run=("run_other", *rows.run[1:])),
    ]
    assert len({digest(rows), *map(digest, others)}) == 1 + len(others)
