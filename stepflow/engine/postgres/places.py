"""Where runs that wait at a limit stand in the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.engine.postgres.gate import limit_of
from stepflow.runtime.admission import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.engine.postgres.database import Database

__all__ = ["places_of"]


async def places_of(database: Database, run_ids: Sequence[str]) -> dict[str, Place]:
    """Return the places of those of the runs that wait."""
    rows = await database.rows("select * from stepflow.places(%s)", list(run_ids))
    return {
        run_id: Place(
            position=ahead + 1,
            ahead=ahead,
            limit=str(limit_of(kind, limit_id, count, per_ms, path)),
            kind=kind,
            key=key,
            free_at_ms=free_at or 0,
            holders=tuple(holders),
        )
        for run_id, ahead, kind, limit_id, count, per_ms, path, key, free_at, holders in rows
    }
