"""`Client`: the HTTP API from asyncio. All it adds to the pure core is I/O and pauses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec import UNSET

from stepflow.client import wire
from stepflow.client.runs import ClientRun
from stepflow.client.transport import (
    CONNECTIONS_MAX,
    TIMEOUT_S,
    Address,
    dice,
    httpx,
    limits,
    lost,
    new_key,
    whole,
)
from stepflow.client.watch import Following, Watch, WatchAll
from stepflow.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
    from datetime import datetime

    from stepflow.clock import Clock
    from stepflow.errors import ApiError
    from stepflow.model.all_event import AllEvent
    from stepflow.model.audit import AuditEntry, AuditPage
    from stepflow.model.durations import Duration
    from stepflow.model.schedules import BackfillView, ScheduleView
    from stepflow.model.system import SystemView
    from stepflow.model.views import RunEvent, RunPage, RunView, StepView, WorkflowView
    from stepflow.model.why import WhyView

__all__ = ["Client"]

T = TypeVar("T")
E = TypeVar("E")


class Client:
    """The API of a Stepflow server at `url`, as typed methods.

    One of `api_key`, `token` (a run's public access token) and `jwt` says who calls. Every method
    raises the same classes as the embedded engine; `UnavailableError` when nobody can be reached,
    `OutcomeUnknownError` when the answer was lost and asking again could do it twice. What is
    certainly not done, and what does no harm twice, is tried again up to `tries` times in all.

    Calls share at most `connections_max` connections: one more waits, `timeout` at most, and then
    raises `UnavailableError`. Each stream has one of its own; `streams_max` bounds them likewise.
    A `transport` of yours has its own limits.

    Use it as `async with Client(…) as client:`, or call `aclose()`.
    """

    def __init__(  # noqa: PLR0913  the published options
        self,
        url: str,
        api_key: str | None = None,
        *,
        token: str | None = None,
        jwt: str | None = None,
        timeout: float = TIMEOUT_S,
        tries: int = 4,
        connections_max: int = CONNECTIONS_MAX,
        streams_max: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._address = Address(url, wire.Credentials(api_key, token, jwt), timeout)
        self._rule = wire.RetryRule(tries=tries)
        self._clock: Clock = clock or SystemClock()
        options = self._address.options()
        if transport is not None:
            self._http = self._streams = httpx.AsyncClient(transport=transport, **options)
            return
        # A stream keeps its connection for as long as it lives, so streams have connections of
        # their own: however many there are, calls need not wait for one of them to end.
        options["verify"] = httpx.create_ssl_context()
        self._http = httpx.AsyncClient(limits=limits(connections_max), **options)
        self._streams = httpx.AsyncClient(limits=limits(streams_max), **options)

    def __repr__(self) -> str:
        return f"Client({self._address.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._streams.aclose()

    # ------------------------------------------------------------ I/O

    async def _ask(self, call: wire.Call[T]) -> T:
        attempts = wire.Attempts(call, self._rule)
        while True:
            match attempts.after(await self._send(call.request), dice()):
                case wire.Got(value):
                    return value
                case wire.Pause(seconds):
                    await self._pause(seconds)

    async def _send(self, request: wire.Request) -> wire.Response | wire.Lost:
        try:
            return whole(await self._http.request(**self._address.arguments(request)))
        except httpx.TransportError as error:
            return lost(error)

    async def _pause(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    # ------------------------------------------------------------ runs

    async def trigger(
        self,
        workflow: str,
        input: object = None,
        *,
        idempotency_key: str | None = None,
        delay: Duration | None = None,
    ) -> ClientRun:
        """Start a run; it is durable when this returns.

        Without an `idempotency_key` a random one is sent, so that a lost answer can be asked for
        again without starting a second run.
        """
        call = wire.trigger(workflow, input, idempotency_key or new_key(), delay)
        return ClientRun.of(await self._ask(call), self)

    async def trigger_many(
        self, workflow: str, inputs: Sequence[object], *, delay: Duration | None = None
    ) -> list[ClientRun | ApiError]:
        """Start many runs in one durable write: a run or the error of each, in order."""
        answers = await self._ask(wire.trigger_many(workflow, inputs, delay))
        return [
            ClientRun.of(each, self) if isinstance(each, wire.TriggeredRun) else each
            for each in answers
        ]

    async def get_run(self, run_id: str) -> RunView:
        """Return the run, or raise `RunNotFoundError`."""
        return await self._ask(wire.get_run(run_id))

    async def list_runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        tag: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of runs, newest first; `next_cursor` is where the next one begins."""
        call = wire.list_runs(
            status=status,
            workflow_id=workflow_id,
            tag=tag,
            created_after=created_after,
            created_before=created_before,
            limit=limit,
            cursor=cursor,
        )
        return await self._ask(call)

    async def iter_runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        tag: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> AsyncIterator[RunView]:
        """Yield all runs, newest first, page by page."""
        cursor: str | None = None
        while True:
            page = await self.list_runs(
                status=status,
                workflow_id=workflow_id,
                tag=tag,
                created_after=created_after,
                created_before=created_before,
                cursor=cursor,
            )
            for run in page.runs:
                yield run
            cursor = page.next_cursor
            if cursor is None:
                return

    async def cancel(self, run_id: str, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel a live run, by `force` without its cleanup; `ConflictError` when it has ended."""
        return await self._ask(wire.cancel(run_id, reason, force=force))

    async def pause(self, run_id: str, reason: str = "") -> RunView:
        """Hold a live run before its next effect; `ConflictError` in a wrong state."""
        return await self._ask(wire.pause(run_id, reason))

    async def resume(self, run_id: str, reason: str = "") -> RunView:
        """Let a run go on that is paused or was set aside; else `ConflictError`."""
        return await self._ask(wire.resume(run_id, reason))

    async def retry(self, run_id: str, reason: str = "") -> RunView:
        """Let a failed or cancelled run go on from where it failed; else `ConflictError`."""
        return await self._ask(wire.retry(run_id, reason))

    async def fork(
        self,
        run_id: str,
        from_step: str,
        *,
        input: object = UNSET,
        results: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> ClientRun:
        """Start a run with what this one had recorded before `from_step` was first asked for.

        `input` is another input, `results` are results to pin, by step. A step is named by its key,
        or by its name where its first occurrence is meant. Raises `InvalidInputError` for a step
        that the run does not have.
        """
        call = wire.fork(run_id, from_step, input, results, reason)
        return ClientRun.of(await self._ask(call), self)

    async def export_run(self, run_id: str, *, mask: Iterable[str] = ()) -> bytes:
        """Return the run as one file, secrets masked; `mask` names further ones."""
        return await self._ask(wire.export_run(run_id, mask))

    async def get_step(self, run_id: str, key: str) -> StepView:
        """Return one step of the run, by its key. Raises `NotFoundError` where none has it."""
        return await self._ask(wire.get_step(run_id, key))

    async def why(self, run_id: str) -> WhyView:
        """Return what the run waits for."""
        return await self._ask(wire.why(run_id))

    async def audit(self, run_id: str) -> list[AuditEntry]:
        """Return what was done to the run, oldest first."""
        return await self._ask(wire.audit(run_id))

    async def audit_log(
        self, *, run_id: str = "", limit: int = 50, cursor: str | None = None
    ) -> AuditPage:
        """Return the newest acts on all runs, or on one, which may be purged."""
        return await self._ask(wire.audit_log(run_id, limit, cursor))

    async def bulk(
        self,
        action: str,
        where: Mapping[str, object],
        *,
        dry_run: bool = False,
        force: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        reason: str = "",
    ) -> wire.BulkReport:
        """Do one thing to all runs that the filter takes, at most 1,000 a call.

        The filter's members are those of `POST /runs/bulk`; `next_cursor` is where to go on.
        """
        call = wire.bulk(
            action, where, dryRun=dry_run, force=force, limit=limit, cursor=cursor, reason=reason
        )
        return await self._ask(call)

    async def purge(self, run_id: str, reason: str = "") -> None:
        """Forget a finished run; `ConflictError` when it is live."""
        await self._ask(wire.purge(run_id, reason))

    async def token(self, run_id: str, ttl: Duration | None = None) -> wire.TokenGrant:
        """Return a token that reads this run and its stream; good for 24 hours unless set."""
        return await self._ask(wire.token(run_id, ttl))

    async def token_for(
        self, *, tag: str = "", run_ids: Sequence[str] = (), ttl: Duration | None = None
    ) -> wire.TokenGrant:
        """Return a token that reads the runs with that tag, or these, and `stream_all` of them."""
        return await self._ask(wire.wide_token(tag, run_ids, ttl))

    # ------------------------------------------------------------ watching

    def stream(
        self, run_id: str, after: int | None = None, *, tries_max: int | None = None
    ) -> AsyncGenerator[RunEvent]:
        """Yield the run's events: history after event `after`, then live, until the run ends.

        A connection that breaks, and a server that restarts, are resumed after the last event:
        nothing is missed and nothing comes twice. For ever, unless `tries_max` bounds the
        reconnects without an event between them.
        """
        return self._follow(Watch(run_id, after, self._rule, tries_max))

    def stream_all(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        tag: str = "",
        run_ids: Sequence[str] = (),
        after: str | None = None,
        tries_max: int | None = None,
    ) -> AsyncGenerator[AllEvent]:
        """Yield the events of all runs, or of those that are wanted, from now on or after a cursor.

        `after` is an event's `cursor`, or the `stream_cursor` of a page of runs: then nothing is
        missed, over breaks and restarts too. A `resync` says that what was before it is not kept
        any more: list the runs again. `status` is the run's, as the event leaves it. It never ends
        by itself; for ever, unless `tries_max` bounds the reconnects without an event between them.
        """
        wanted = wire.RunsWanted(tuple(status), workflow_id, tag, tuple(run_ids))
        return self._follow(WatchAll(wanted, after, self._rule, tries_max))

    async def _follow(self, watch: Following[E]) -> AsyncGenerator[E]:
        while True:
            outcome: wire.Response | wire.Lost | None = None
            try:
                async with self._streams.stream(
                    **self._address.stream_arguments(watch.request())
                ) as response:
                    if watch.opened(response.status_code):
                        async for chunk in response.aiter_bytes():
                            for event in watch.feed(chunk):
                                yield event
                            if watch.over:
                                return
                    else:
                        await response.aread()
                        outcome = whole(response)
            except httpx.TransportError as error:
                outcome = lost(error)
            pause_s = watch.closed(outcome, dice())
            if pause_s is None:
                return
            await self._pause(pause_s)

    async def wait(self, run_id: str) -> RunView:
        """Return the run once it has ended."""
        while True:
            view = await self.get_run(run_id)
            if wire.has_ended(view):
                return view
            async for _ in self.stream(run_id):
                pass

    async def result(self, run_id: str) -> Any:
        """Return the run's result once it has ended, as JSON's own types.

        Raises `RunFailedError` or `RunCancelledError`, as the run ended.
        """
        return wire.result_of(await self.wait(run_id))

    # ------------------------------------------------------------ events, workflows, service

    async def notify(
        self, event_id: str, payload: object = None, *, run_id: str | None = None
    ) -> None:
        """Deliver an event; durable when this returns.

        Raises `EventNotFoundError` when it reached nobody, and `OutcomeUnknownError` when the
        answer was lost: it is never sent twice by itself.
        """
        await self._ask(wire.notify(event_id, payload, run_id))

    async def events(self, cursor: str = "") -> list[wire.AwaitedEvent]:
        """Return which events live runs wait for, in the order of their ids, a thousand at most.

        `cursor`: only those after it, which is the id of the last one of the page before.
        """
        return await self._ask(wire.events(cursor))

    async def workflows(self) -> list[WorkflowView]:
        """Return what can be triggered."""
        return await self._ask(wire.workflows())

    async def workflow(self, workflow_id: str) -> WorkflowView:
        """Return one workflow, or raise `WorkflowNotFoundError`."""
        return await self._ask(wire.workflow(workflow_id))

    async def schedules(self) -> list[ScheduleView]:
        """Return what starts by itself."""
        return await self._ask(wire.schedules())

    async def schedule(self, schedule_id: str, *, times: int = 0) -> ScheduleView:
        """Return one schedule, with so many of its times to come, or raise `NotFoundError`."""
        return await self._ask(wire.schedule(schedule_id, times))

    async def pause_schedule(self, schedule_id: str) -> ScheduleView:
        """Let the schedule start nothing until it is resumed."""
        return await self._ask(wire.act_on_schedule(schedule_id, "pause"))

    async def resume_schedule(self, schedule_id: str) -> ScheduleView:
        """Let the schedule go on from now."""
        return await self._ask(wire.act_on_schedule(schedule_id, "resume"))

    async def trigger_schedule(self, schedule_id: str) -> ClientRun:
        """Start a run of the schedule now; `ConflictError` where one is under way.

        Raises `OutcomeUnknownError` when the answer was lost: it is never sent twice by itself.
        """
        return ClientRun.of(await self._ask(wire.trigger_schedule(schedule_id)), self)

    async def backfill_schedule(
        self, schedule_id: str, begin: datetime, end: datetime, *, dry_run: bool = False
    ) -> BackfillView:
        """Start a run for each time from `begin` to `end` that has none."""
        call = wire.backfill_schedule(schedule_id, begin, end, dry_run=dry_run)
        return await self._ask(call)

    async def api_keys(self) -> list[wire.ApiKey]:
        """Return the API keys that were made at the server, oldest first, without the secrets."""
        return await self._ask(wire.keys())

    async def create_key(
        self, name: str, *, scopes: Sequence[str] | None = None, ttl: Duration | None = None
    ) -> wire.MadeApiKey:
        """Make an API key and return it, this once: unless told, with your scopes but `admin`.

        Raises `OutcomeUnknownError` if the answer was lost: find it in `api_keys()` and revoke it.
        """
        return await self._ask(wire.create_key(name, scopes, ttl))

    async def revoke_key(self, key_id: str) -> wire.ApiKey:
        """Take a key back, with its sessions and streams."""
        return await self._ask(wire.revoke_key(key_id))

    async def health(self) -> wire.Health:
        """Return what the server says of itself; `UnavailableError` at once when it does not."""
        return await self._ask(wire.health())

    async def ready(self) -> dict[str, Any]:
        """Return the state and what is degraded; `UnavailableError` while it is not ready."""
        return await self._ask(wire.ready())

    async def system(self) -> SystemView:
        """Return the service at a glance: commits, loop, streams, memory, each workflow's pace."""
        return await self._ask(wire.system())

    async def metrics(self) -> str:
        """Return the metrics as Prometheus text."""
        return await self._ask(wire.metrics())

    async def openapi(self) -> str:
        """Return the OpenAPI document as YAML."""
        return await self._ask(wire.openapi())
