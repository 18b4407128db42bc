"""`RunHandle`: one run, as the one who triggered it holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from stepflow.errors import InvalidInputError, RunCancelledError, RunFailedError
from stepflow.model.all_event import AllEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from stepflow.engine.protocol import Engine
    from stepflow.flow import Stepflow
    from stepflow.model.event_filter import EventFilter
    from stepflow.model.schedules import BackfillView, ScheduleView
    from stepflow.model.views import RunEvent, RunView

__all__ = ["FlowSchedules", "RunHandle", "all_events"]


class RunHandle:
    """A run that was triggered. `.id` names it."""

    __slots__ = ("_flow", "id")

    def __init__(self, flow: Stepflow, run_id: str) -> None:
        self._flow = flow
        self.id = run_id

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    @property
    def public_access_token(self) -> str:
        """A token that reads this run and its stream, and nothing else."""
        return self._flow.engine.public_token(self.id)[0]

    async def result(self) -> Any:
        """Return the run's result once it has ended.

        By the workflow's return annotation, where it is registered here. Raises `RunFailedError` or
        `RunCancelledError`, as the run ended.
        """
        return _result(self._flow, await self._flow.engine.wait(self.id))

    async def get(self) -> RunView:
        """Return the run as it is."""
        return await self._flow.get_run(self.id)

    def stream(self, after: int = 0) -> AsyncIterator[RunEvent]:
        """Yield the run's events after id `after`: history, then live, until the run ends."""
        return self._flow.stream(self.id, after)

    async def cancel(self, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel the run; by `force` without waiting for its cleanup."""
        return await self._flow.cancel(self.id, reason, force=force)

    async def pause(self, reason: str = "") -> RunView:
        """Hold the run before its next effect."""
        return await self._flow.pause(self.id, reason)

    async def resume(self, reason: str = "") -> RunView:
        """Let the run go on that is paused or was set aside."""
        return await self._flow.resume(self.id, reason)

    async def retry(self, reason: str = "") -> RunView:
        """Let the run go on from where it failed or was cancelled."""
        return await self._flow.retry(self.id, reason)

    async def fork(
        self,
        from_step: str,
        *,
        input: object = UNSET,
        results: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> RunHandle:
        """Start a run with what this one had recorded before `from_step` was first asked for."""
        return await self._flow.fork(
            self.id, from_step, input=input, results=results, reason=reason
        )


class FlowSchedules:
    """What a program does to its schedules: `flow.schedules`."""

    __slots__ = ("_flow",)

    def __init__(self, flow: Stepflow) -> None:
        self._flow = flow

    async def list(self) -> Sequence[ScheduleView]:
        """Return all schedules."""
        return await self._flow.engine.list_schedules()

    async def get(self, schedule_id: str, *, times: int = 0) -> ScheduleView:
        """Return a schedule, with so many of its times to come; `NotFoundError` for none such."""
        return await self._flow.engine.get_schedule(schedule_id, times=times)

    async def pause(self, schedule_id: str) -> ScheduleView:
        """Let it start nothing until it is resumed, over restarts too."""
        return await self._flow.engine.pause_schedule(schedule_id)

    async def resume(self, schedule_id: str) -> ScheduleView:
        """Let it go on from now."""
        return await self._flow.engine.resume_schedule(schedule_id)

    async def trigger(self, schedule_id: str) -> RunHandle:
        """Start a run of it now; `ConflictError` where one is under way and may not overlap."""
        return RunHandle(self._flow, await self._flow.engine.trigger_schedule(schedule_id))

    async def backfill(
        self, schedule_id: str, begin: datetime, end: datetime, *, dry_run: bool = False
    ) -> BackfillView:
        """Start a run for each time from `begin` to `end` that has none."""
        return await self._flow.engine.backfill_schedule(
            schedule_id, _ms(begin), _ms(end), dry_run=dry_run
        )


async def all_events(
    engine: Engine, where: EventFilter, after: str | None
) -> AsyncGenerator[AllEvent]:
    """Yield the events of all runs that are wanted, each with its cursor, until the engine ends."""
    stream = await engine.stream_all(where, after)
    try:
        while not stream.ended:
            # One at a time: the stream's cursor is then where to go on after this one.
            while found := stream.read_events(1):
                event = found[0]
                passes_by = not event.id and event.event != "resync"
                cursor = "" if passes_by else stream.stream_cursor
                yield AllEvent.of(cursor, event.event, event.data)
            await stream.changed()
    finally:
        stream.close()


def _ms(when: datetime) -> int:
    if when.tzinfo is None:
        message = f"{when.isoformat()} has no time zone; write datetime(…, tzinfo=UTC)"
        raise InvalidInputError(message)
    return round(when.timestamp() * 1000)


class _Error(msgspec.Struct):
    type: str = "Exception"
    message: str = ""
    step: str | None = None
    attempts: int | None = None
    compensation: tuple[dict[str, Any], ...] = ()


def _result(flow: Stepflow, view: RunView) -> Any:
    if view.status == "completed":
        data = bytes(view.result) if view.result is not UNSET else b"null"
        workflow = flow.registry.get(view.workflow_id)
        if workflow is None:
            return msgspec.json.decode(data)
        return workflow.signature.output.decode(data)
    error = _Error()
    if view.error is not UNSET:
        error = msgspec.json.decode(bytes(view.error), type=_Error)
    if view.status == "cancelled":
        raise RunCancelledError(view.id, error.message, compensation=error.compensation)
    raise RunFailedError(
        view.id,
        error.type,
        error.message,
        error.step,
        error.attempts,
        compensation=error.compensation,
    )
