"""`GET /audit` over all runs: a bounded table of acts, each in the transaction of what it tells.

What is done to a run stands in the run's own records; the worker that writes such a record writes
the act with it (`rows.py`). What leaves no run to keep it (a purge, a bulk action, a key, a
schedule) is written by whoever does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.engine.listing import decode_cursor, encode_cursor
from stepflow.engine.postgres.acts import ACTS, act_columns
from stepflow.engine.postgres.inbox import text
from stepflow.engine.postgres.part import ClusterPart
from stepflow.model.audit import AuditEntry, AuditPage
from stepflow.model.records import KeyActed

if TYPE_CHECKING:
    from stepflow.engine.protocol import KeyAction

__all__ = ["ClusterAudit"]

_NEWEST: Final = """
select n, entry from stepflow.audit where n < %s order by n desc limit %s"""
_NEWEST_OF: Final = """
select n, entry from stepflow.audit where run_id = %s and n < %s order by n desc limit %s"""
_decode: Final = msgspec.json.Decoder(AuditEntry).decode


class ClusterAudit(ClusterPart):
    """Any process answers, for all of them."""

    async def audit(
        self, *, run_id: str = "", limit: int = 50, cursor: str | None = None
    ) -> AuditPage:
        before = decode_cursor(cursor) if cursor else 1 << 62
        if run_id:
            rows = await self.database.rows(_NEWEST_OF, text(run_id), before, limit + 1)
        else:
            rows = await self.database.rows(_NEWEST, before, limit + 1)
        found = [msgspec.structs.replace(_decode(bytes(entry)), lsn=n) for n, entry in rows[:limit]]
        more = len(rows) > limit
        return AuditPage(audit=found, next_cursor=encode_cursor(found[-1].lsn) if more else None)

    def check_key_act(self) -> None:
        _ = self.writable

    async def note_key_act(self, action: KeyAction, key_id: str, *, name: str, by: str) -> None:
        act = KeyActed(
            lsn=0, r="", rs=0, ts=self.clock.wall_ms(), action=action, key=key_id, name=name, by=by
        )
        await self.writable.act(ACTS.decode(), *act_columns(act))
