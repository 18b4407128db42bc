"""Lists of runs and of awaited events, with cursors that stay good while runs come and go."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from stepflow.clock import next_pass
from stepflow.engine.part import EnginePart, queue_view
from stepflow.engine.protocol import EVENTS_MAX, RunFilter, WaitingEvent
from stepflow.errors import InvalidInputError
from stepflow.model.views import RunPage, RunView, run_view

if TYPE_CHECKING:
    from stepflow.model.run import RunSummary
    from stepflow.model.views import RunCounts

__all__ = ["Listing", "decode_cursor", "encode_cursor", "matches"]

_LIST_SLICE = 2000
_BYTES_A_RUN = 64
"""So many bytes of records cost as much as the look at one run of the list."""
_EVENT_RUNS_SHOWN = 100
_LANES_MAX = 20_000
"""So many keys of full limits one page looks at for the places of its rows in the queue."""
_CURSOR_BYTES_MAX = 20


class Listing(EnginePart):
    """What `GET /runs` and `GET /events` ask for."""

    async def list_runs(self, where: RunFilter, *, limit: int, cursor: str | None) -> RunPage:
        sup = self.sup
        # From before the first row was looked at: what moves while the list is made is told by the
        # stream, once too often rather than never.
        stream_cursor = f"{sup.journal.store_id}-{sup.journal.last_lsn}"
        before = decode_cursor(cursor) if cursor else sup.journal.next_lsn
        # This very one: housekeeping may put a shorter one in its place meanwhile.
        order = sup.runs.order
        index = order.before(before)
        rows: list[RunView] = []
        next_cursor: str | None = None
        seen = nbytes = 0
        last = before
        lanes = _LANES_MAX
        while index > 0:
            index -= 1
            lsn, run_id = order.at(index)
            seen += 1
            if seen >= _LIST_SLICE:
                seen = 0
                await next_pass()
            if where.status and sup.runs.status(run_id) not in where.status:
                continue
            if not sup.runs.stands_at(run_id, lsn):
                continue
            summary = sup.runs.summary(run_id)
            if summary is None or not matches(run_id, summary, where):
                continue
            if len(rows) == limit:
                next_cursor = encode_cursor(last)
                break
            actor = sup.runs[run_id]
            state = actor.peek()
            nbytes += len(state.input) + len(state.result or b"")
            # To open a run at rest takes its time by its records.
            seen += state.nbytes // _BYTES_A_RUN
            view = run_view(state, actor.condition, steps=False, reason=actor.reason)
            rows.append(view)
            if view.status == "pending" and (cost := sup.admission.lanes_beside(run_id)) <= lanes:
                lanes -= cost
                seen += cost
                if place := sup.admission.place(run_id):
                    view.queue = queue_view(place)
            last = lsn
            if nbytes > self.settings.page_bytes_max:
                next_cursor = encode_cursor(last)
                break
        page = RunPage(
            runs=rows,
            next_cursor=next_cursor,
            stream_cursor=stream_cursor,
            counts=self._counts(where),
        )
        journal = sup.journal
        await journal.durable(journal.last_lsn)
        return page

    def _counts(self, where: RunFilter) -> RunCounts | UnsetType:
        if where.tag or where.created_after_ms or where.created_before_ms or where.ids:
            return UNSET
        return self.sup.tally.counts(where.workflow_id)

    async def waiting_events(
        self, *, limit: int = EVENTS_MAX, cursor: str = ""
    ) -> list[WaitingEvent]:
        sup = self.sup
        rows: list[WaitingEvent] = []
        more = True
        while more and len(rows) < limit:
            events, more = await self._events_after(cursor, limit - len(rows))
            for event in events:
                count, runs = sup.waiters.waiting_for(event, _EVENT_RUNS_SHOWN)
                # What somebody waited for when the look began may have come meanwhile.
                if count:
                    rows.append(WaitingEvent(event, count, runs))
            if events:
                cursor = events[-1]
        await sup.journal.durable(sup.journal.last_lsn)
        return rows

    async def _events_after(self, cursor: str, most: int) -> tuple[list[str], bool]:
        """Return the first awaited events after that one, and whether there are more."""
        known = self.sup.waiters.events()
        first: list[str] = []
        more = False
        for start in range(0, len(known), _LIST_SLICE):
            if start:
                await next_pass()
            first += (event for event in known[start : start + _LIST_SLICE] if event > cursor)
            first.sort()
            more |= len(first) > most
            del first[most:]
        return first, more


def matches(run_id: str, summary: RunSummary, where: RunFilter) -> bool:
    """Whether the run is one that is asked for; its status is compared elsewhere."""
    return not (
        (where.workflow_id and summary.workflow != where.workflow_id)
        or (where.tag and where.tag not in summary.tags)
        or (where.created_after_ms and summary.created_ms <= where.created_after_ms)
        or (where.ids and run_id not in where.ids)
        or (where.created_before_ms and summary.created_ms >= where.created_before_ms)
    )


def encode_cursor(lsn: int) -> str:
    """Return the cursor after the run that was started at `lsn`."""
    return base64.urlsafe_b64encode(b"r%d" % lsn).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """Return the LSN in a cursor. Raises `InvalidInputError` for what nobody gave."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (ValueError, binascii.Error):
        text = b""
    if text[:1] != b"r" or not text[1:].isdigit() or len(text) > _CURSOR_BYTES_MAX:
        message = "cursor is not one that this API gave"
        raise InvalidInputError(message)
    return int(text[1:])
