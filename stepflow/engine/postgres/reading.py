"""What is read: runs, lists, streams, figures. Everything in the tables is durable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stepflow.clock import rfc3339
from stepflow.engine.listing import decode_cursor, encode_cursor
from stepflow.engine.part import queue_view
from stepflow.engine.postgres.history import look, summaries
from stepflow.engine.postgres.part import ClusterPart
from stepflow.engine.postgres.passing import ALL_RUNS
from stepflow.engine.postgres.places import places_of
from stepflow.engine.postgres.streams import ClusterAllStream, ClusterStream, horizon
from stepflow.engine.protocol import EVENTS_MAX, WaitingEvent
from stepflow.engine.why import of_place
from stepflow.errors import RunNotFoundError, UnavailableError
from stepflow.model.audit import acts_of
from stepflow.model.run import FINISHED, RunState
from stepflow.model.views import RunPage, run_view
from stepflow.model.why import WaitingFor, WhyView, of_call, sentence, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.engine.postgres.counting import Counting
    from stepflow.engine.postgres.history import Seen
    from stepflow.engine.protocol import RunFilter
    from stepflow.model.audit import AuditEntry
    from stepflow.model.event_filter import EventFilter
    from stepflow.model.views import RunView, RunViewState

__all__ = ["Reading"]

_SHOWN_MAX: Final = 100
_LIST: Final = """
select run_id, seq, condition, reason from stepflow.runs
 where seq < %(before)s
   and (%(status)s::text[] is null or status = any(%(status)s::text[]))
   and (%(workflow)s = '' or workflow = %(workflow)s)
   and (%(tag)s = '' or %(tag)s = any(tags))
   and (%(after_ms)s = 0 or created_ms > %(after_ms)s)
   and (%(before_ms)s = 0 or created_ms < %(before_ms)s)
   and (%(ids)s::text[] is null or run_id = any(%(ids)s::text[]))
 order by seq desc limit %(limit)s"""
_AWAITED: Final = """
select event, count(distinct run_id),
       (array_agg(distinct run_id))[1:100]
  from stepflow.waits where event > %s group by event order by event limit %s"""


class Reading(ClusterPart):
    """Any process answers these."""

    counting: Counting

    async def require_run(self, run_id: str) -> None:
        if not await self.database.rows("select 1 from stepflow.runs where run_id = %s", run_id):
            raise RunNotFoundError

    async def _state_of(self, run_id: str) -> tuple[RunState, RunViewState | None, str]:
        seen = await self.runs.get(run_id)
        if seen is None:
            raise RunNotFoundError
        state = RunState.unpack(seen.line)
        if state.finished:
            return state, None, ""
        if seen.cancelled and not state.cancelling:
            # Somebody has cancelled it; its worker has not heard of it yet.
            return state, "cancelling", ""
        return state, seen.condition or None, seen.reason

    async def get_run(self, run_id: str) -> RunView:
        state, condition, reason = await self._state_of(run_id)
        view = run_view(state, condition, reason=reason)
        await self._show_places([view])
        return view

    async def _show_places(self, views: list[RunView]) -> None:
        """Show of those that wait at a limit where they stand."""
        pending = [view.id for view in views if view.status == "pending"]
        places = await places_of(self.database, pending) if pending else {}
        for view in views:
            if view.id in places:
                view.queue = queue_view(places[view.id])

    async def export_run(self, run_id: str) -> bytes:
        seen = await self.runs.get(run_id)
        if seen is None:
            raise RunNotFoundError
        return seen.line

    async def wait(self, run_id: str) -> RunView:
        with self.ends.waiter(run_id) as waiter:
            is_live = self.ends.is_live(run_id)
            while True:
                if not (is_live or waiter.has_ended):
                    status = await self.statuses.get(run_id)
                    if status is None:
                        raise RunNotFoundError
                    if status in FINISHED:
                        waiter.has_ended = True
                is_live = False
                if waiter.state is not None:
                    return run_view(waiter.state, steps=False)
                if waiter.has_ended:
                    # It may have another life, whose end is told while this is read.
                    waiter.has_ended = False
                    state, _, _ = await self._state_of(run_id)
                    if state.finished:
                        return run_view(state, steps=False)
                if self._state != "ready":
                    raise UnavailableError("Stepflow is stopping", retry_after_s=1)
                await waiter.told()

    async def _look_at_runs(self, run_ids: Sequence[str]) -> dict[str, Seen]:
        return await look(self.database, run_ids)

    async def _look_at_statuses(self, run_ids: Sequence[str]) -> dict[str, str]:
        return dict(
            await self.database.rows(
                "select run_id, status from stepflow.runs where run_id = any(%s)", list(run_ids)
            )
        )

    async def _look_for_live(self, run_ids: Sequence[str]) -> list[str]:
        rows = await self.database.rows(
            """select run_id from stepflow.runs
                where run_id = any(%s) and status in ('pending', 'running')""",
            list(run_ids),
        )
        return [row[0] for row in rows]

    async def list_runs(self, where: RunFilter, *, limit: int, cursor: str | None) -> RunPage:
        database = self.database
        # From before the first row is looked at: rather told twice than never.
        stream_cursor = f"{database.store_id}-{await horizon(database) - 1}.{1 << 62}"
        rows = await self._page(where, limit + 1, cursor)
        more = len(rows) > limit
        shown = rows[:limit]
        states = await summaries(database, [row[0] for row in shown])
        views: list[RunView] = []
        nbytes = 0
        last = 0
        for run_id, seq, condition, reason in shown:
            state = states.get(run_id)
            if state is None:
                continue
            if nbytes > self.settings.page_bytes_max:
                more = True
                break
            nbytes += len(state.input) + len(state.result or b"")
            held = condition or None if not state.finished else None
            views.append(run_view(state, held, steps=False, reason=reason if held else ""))
            last = seq
        await self._show_places(views)
        page = RunPage(
            runs=views,
            next_cursor=encode_cursor(last) if more and last else None,
            stream_cursor=stream_cursor,
        )
        if not (where.tag or where.created_after_ms or where.created_before_ms or where.ids):
            page.counts = await self.counting.of(where.workflow_id)
        return page

    async def _page(
        self, where: RunFilter, limit: int, cursor: str | None
    ) -> list[tuple[Any, ...]]:
        asked = {
            "before": decode_cursor(cursor) if cursor else 1 << 62,
            "status": sorted(where.status) or None,
            "workflow": where.workflow_id,
            "tag": where.tag,
            "after_ms": where.created_after_ms,
            "before_ms": where.created_before_ms,
            "ids": sorted(where.ids) or None,
            "limit": limit,
        }
        async with self.database.connection() as conn:
            return await (await conn.execute(_LIST.encode(), asked)).fetchall()

    async def waiting_events(
        self, *, limit: int = EVENTS_MAX, cursor: str = ""
    ) -> list[WaitingEvent]:
        rows = await self.database.rows(_AWAITED, cursor, limit)
        return [WaitingEvent(event, count, tuple(runs)) for event, count, runs in rows]

    # ------------------------------------------------------------ streams

    async def stream(self, run_id: str, after: int | None = None) -> ClusterStream:
        stream = ClusterStream(self.feeds, self.bell, run_id, self.poll_s, after)
        if not await stream.open():
            raise RunNotFoundError
        await self._enter(stream, run_id)
        return stream

    async def stream_all(self, where: EventFilter, after: str | None = None) -> ClusterAllStream:
        stream = ClusterAllStream(self.feeds, self.bell, where, self.poll_s)
        await stream.open(after)
        await self._enter(stream, ALL_RUNS)
        return stream

    async def _enter(self, stream: ClusterStream | ClusterAllStream, runs: str) -> None:
        """The stream is open: workers are told, for what passes, unless its run has ended."""
        self.streams.add(stream)
        stream.on_close = partial(self.streams.discard, stream)
        if stream.is_over:
            return
        stream.on_close = partial(self._leave, stream, runs)
        try:
            await self.audience.enter(runs)
        except BaseException:
            stream.close()
            raise

    def _leave(self, stream: ClusterStream | ClusterAllStream, runs: str) -> None:
        self.streams.discard(stream)
        self.audience.leave(runs)

    # ------------------------------------------------------------ explaining

    async def _why_pending(self, state: RunState, now_ms: int) -> WaitingFor:
        places = await places_of(self.database, [state.id])
        if state.id in places:
            return of_place(places[state.id], now_ms)
        if not state.due:
            return WaitingFor(kind="delay", name="delay", says="it is about to begin")
        says = f"it is delayed, and begins in {span(state.due - now_ms)}"
        return WaitingFor(kind="delay", name="delay", due_at=rfc3339(state.due), says=says)

    async def why(self, run_id: str) -> WhyView:
        state, condition, reason = await self._state_of(run_id)
        if state.finished:
            return WhyView(summary=f"It is {state.status}: it waits for nothing.", waiting_for=[])
        now_ms = self.clock.wall_ms()
        found: list[WaitingFor] = []
        if condition == "missing-workflow":
            says = f"its workflow {state.workflow!r} is not registered"
            found.append(
                WaitingFor(kind="missing-workflow", name=state.workflow, reason=reason, says=says)
            )
        elif condition == "parked":
            says = f"its code has changed, and it goes on with fitting code: {reason}"
            found.append(
                WaitingFor(kind="divergence", name=state.workflow, reason=reason, says=says)
            )
        elif condition == "quarantined":
            says = f"it was set aside: {reason}"
            found.append(
                WaitingFor(kind="quarantine", name=state.workflow, reason=reason, says=says)
            )
        if state.paused:
            found.append(WaitingFor(kind="pause", name="pause", says="it is paused"))
        if state.cancelling or condition == "cancelling":
            found.append(WaitingFor(kind="cancelling", name="cancel", says="it is being cancelled"))
        if state.status == "pending" and not state.paused:
            found.append(await self._why_pending(state, now_ms))
        calls = state.pending_calls()
        found += [of_call(call, now_ms) for call in calls[:_SHOWN_MAX]]
        if not found:
            says = "its own code is about to go on"
            found.append(WaitingFor(kind="code", name=state.workflow, says=says))
        more = len(calls) - _SHOWN_MAX
        view = WhyView(summary=sentence(found, max(more, 0)), waiting_for=found)
        if more > 0:
            view.more = more
        return view

    async def run_audit(self, run_id: str) -> list[AuditEntry]:
        state, _, _ = await self._state_of(run_id)
        return acts_of(state)
