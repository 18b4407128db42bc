"""`GET /runs/{runId}/audit` and `GET /audit`: who did what, when and why.

Acts on runs stand in the runs' own records. What is done to the keys is no act of the engine, so it
is told of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.engine.listing import decode_cursor, encode_cursor
from stepflow.engine.part import RECORD_BYTES, EnginePart
from stepflow.model.audit import AuditPage, acts_of

if TYPE_CHECKING:
    from stepflow.engine.protocol import KeyAction
    from stepflow.model.audit import AuditEntry

__all__ = ["Auditing"]


class Auditing(EnginePart):
    """Nothing is shown before it is durable: an act that a crash takes back was none."""

    async def run_audit(self, run_id: str) -> list[AuditEntry]:
        actor = await self._durable_run(run_id)
        entries = acts_of(actor.peek())
        await self.sup.journal.durable(actor.lsn)
        return entries

    async def audit(
        self, *, run_id: str = "", limit: int = 50, cursor: str | None = None
    ) -> AuditPage:
        sup = self.sup
        before = decode_cursor(cursor) if cursor else sup.journal.next_lsn
        found = sup.audit.page(before, run_id, limit + 1)
        more = len(found) > limit
        await sup.journal.durable(sup.journal.last_lsn)
        next_cursor = encode_cursor(found[limit - 1].lsn) if more else None
        return AuditPage(audit=found[:limit], next_cursor=next_cursor)

    def check_key_act(self) -> None:
        self._writable().check_room(RECORD_BYTES)

    async def note_key_act(self, action: KeyAction, key_id: str, *, name: str, by: str) -> None:
        sup = self._writable()
        sup.check_room(RECORD_BYTES)
        lsn = sup.recorder.write_key_act(action=action, key=key_id, name=name, by=by)
        await sup.journal.durable(lsn)
