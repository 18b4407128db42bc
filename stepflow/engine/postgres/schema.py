"""Makes the schema in an empty database and refuses one of another format."""

from __future__ import annotations

import os
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["ABSURD_VERSION", "FORMAT", "HELD", "QUEUE", "check_server", "exists", "make", "prepare"]

FORMAT: Final = 1
"""The version of `schema.sql`, and of what is loaded after it."""
HELD: Final = 0
"""In place of the format: runs are being moved in, and nobody may start on them yet."""
ABSURD_VERSION: Final = "0.5.1"
QUEUE: Final = "stepflow"
_LOCK: Final = 0x5374_6570_666C_6F77
_SERVER_MIN: Final = 130_000
_FILES: Final = ("schema.sql", "operators.sql", "schedules.sql", "gate.sql")


async def prepare(conn: AsyncConnection[Any]) -> str:
    """Make what is missing, one process at a time; return the store's id.

    Raises `ConfigurationError` for a server that is too old and for another format.
    """
    check_server(conn)
    async with conn.transaction():
        await make(conn, FORMAT)
        found = await (await conn.execute("select version, store from stepflow.meta")).fetchone()
    if found is not None and found[0] == HELD:
        message = (
            "runs are being moved into the database: finish it with the same `stepflow migrate "
            "DIR URL`, or take it back with `stepflow migrate DIR URL --abort`"
        )
        raise ConfigurationError(message)
    if found is None or found[0] != FORMAT:
        message = (
            f"the database has format {found and found[0]}, this version of Stepflow knows "
            f"{FORMAT}: start the version that wrote it"
        )
        raise ConfigurationError(message)
    return str(found[1])


def check_server(conn: AsyncConnection[Any]) -> None:
    """Raise `ConfigurationError` for a server that is too old."""
    if conn.info.server_version < _SERVER_MIN:
        message = f"PostgreSQL 13 or newer is needed, this is {conn.info.server_version}"
        raise ConfigurationError(message)


async def make(conn: AsyncConnection[Any], version: int) -> None:
    """Make what is missing, with that version, in the caller's transaction.

    Raises `ConfigurationError` for another version of Absurd.
    """
    await conn.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    if not await exists(conn, "absurd.queues"):
        await conn.execute(_absurd_sql().encode())
    found = await _one(conn, "select absurd.get_schema_version()")
    if found != ABSURD_VERSION:
        message = (
            f"the database has Absurd {found}, this version of Stepflow needs "
            f"{ABSURD_VERSION}: migrate it with `absurdctl migrate --to {ABSURD_VERSION}`"
        )
        raise ConfigurationError(message)
    await conn.execute("select absurd.create_queue(%s)", (QUEUE,))
    if not await exists(conn, "stepflow.meta"):
        for name in _FILES:
            await conn.execute(
                resources.files("stepflow.engine.postgres").joinpath(name).read_bytes()
            )
        await conn.execute(
            "insert into stepflow.meta (version, store) values (%s, %s)",
            (version, os.urandom(8).hex()),
        )


def _absurd_sql() -> str:
    import absurdctl  # type: ignore[import-untyped]  # noqa: PLC0415  at a database's first start

    return str(absurdctl.BUNDLED_SCHEMA_SQL)


async def exists(conn: AsyncConnection[Any], name: str) -> bool:
    """Say whether there is such a table."""
    return await _one(conn, "select to_regclass(%s) is not null", name) is True


async def _one(conn: AsyncConnection[Any], sql: str, *args: object) -> object:
    row = await (await conn.execute(sql.encode(), args)).fetchone()
    return row[0] if row is not None else None
