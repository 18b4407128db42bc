"""Starts runs in the caller's transaction: at once, or where their limits let them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from stepflow.engine.postgres.commit import ANNOUNCE, START, START_HELD, start_values
from stepflow.engine.postgres.gate import ENTER, asked, first_ask
from stepflow.model.records import RunStarted, encode_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from stepflow.authoring.registry import Registry

__all__ = ["lock_gate", "start_for_later", "start_run", "start_runs"]


async def lock_gate(conn: psycopg.AsyncConnection[Any]) -> None:
    """Take the gate's lock: whoever writes to other runs, too, takes it before that."""
    await conn.execute(b"select stepflow.lock_gate()")


async def start_run(
    conn: psycopg.AsyncConnection[Any],
    registry: Registry,
    record: RunStarted,
    most: int | None = None,
) -> None:
    """Start the run, and tell somebody; with `most`, it joins no line of so many: SF430."""
    ask = first_ask(registry, record, most)
    if ask is None:
        await conn.execute(START, start_values(record, encode_record(record)))
        await conn.execute(ANNOUNCE, (1,))
    else:
        await start_runs(conn, [(record, ask)])


async def start_for_later(
    conn: psycopg.AsyncConnection[Any], registry: Registry, record: RunStarted
) -> None:
    """Start the run, and have its worker ask for what it needs, where it has limits.

    For a transaction that has locked what others write before they come to the gate.
    """
    if first_ask(registry, record) is not None:
        record = msgspec.structs.replace(record, held=True)
    await conn.execute(START, start_values(record, encode_record(record)))
    await conn.execute(ANNOUNCE, (1,))


async def start_runs(
    conn: psycopg.AsyncConnection[Any], rows: Iterable[tuple[RunStarted, dict[str, Any]]]
) -> None:
    """Start runs that have limits, with what they ask for."""
    rows = list(rows)
    async with conn.pipeline() if len(rows) > 1 else nullcontext():
        for record, _ in rows:
            held = msgspec.structs.replace(record, held=True)
            await conn.execute(START_HELD, start_values(held, encode_record(held)))
    await conn.execute(ENTER, (asked(ask for _, ask in rows),))
