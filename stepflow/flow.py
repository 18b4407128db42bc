"""`Stepflow`: the one object a user makes. Delegations only."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from msgspec import UNSET

from stepflow.auth.chain import AuthChain
from stepflow.authoring.options import check_event_id, check_tags, workflow_options
from stepflow.authoring.registry import Registry, remember_flow
from stepflow.blocking import BlockingFlow, start_background
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.engine.choosing import database_engine
from stepflow.engine.local import LocalEngine
from stepflow.engine.protocol import RunFilter
from stepflow.errors import ApiError, AuthoringError, StepflowError
from stepflow.handles import FlowSchedules, RunHandle, all_events
from stepflow.model.capsule import make_capsule
from stepflow.model.codec import encode
from stepflow.model.durations import parse_duration_ms
from stepflow.model.event_filter import wanted_events

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Coroutine,
        Iterable,
        Mapping,
        Sequence,
    )

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from stepflow.auth.handlers import AuthRequest, AuthResult, FailureHook
    from stepflow.authoring.context import Context
    from stepflow.authoring.limits import Concurrency, RateLimit
    from stepflow.authoring.retention import Retention
    from stepflow.authoring.schedule import Schedule
    from stepflow.engine.code_check import CodeReport
    from stepflow.engine.protocol import BulkAction, BulkReport, Engine
    from stepflow.integrations.handlers import Handlers
    from stepflow.integrations.host import Auth, HealthCheck, HostOptions
    from stepflow.model.all_event import AllEvent
    from stepflow.model.audit import AuditEntry
    from stepflow.model.durations import Duration
    from stepflow.model.retry import RetryPolicy
    from stepflow.model.views import RunEvent, RunPage, RunView
    from stepflow.model.why import WhyView
    from stepflow.web.presets import EndpointPreset, Endpoints

    _Alone = Callable[[Context], Coroutine[Any, Any, Any]]
    _WithInput = Callable[[Context, Any], Coroutine[Any, Any, Any]]

__all__ = ["Stepflow"]

_log = logging.getLogger("stepflow")

F = TypeVar("F", bound="_Alone | _WithInput")

_DEFAULT_DIR = "stepflow-data"


class Stepflow:
    """Durable workflows in this process.

    `data_dir`: where everything is kept; `STEPFLOW_DATA_DIR` and then `stepflow-data` unless given,
    `MEMORY` for tests. Nothing is opened, and no thread or task starts, before `async with flow:`
    or `flow.lifespan`. `on_fatal` is called when the disk has failed a sync; unless given, the
    process gets SIGTERM.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        engine: Engine | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._given_dir = None if data_dir is None else os.fspath(data_dir)
        self.settings = settings or Settings.from_env()
        self.registry = Registry()
        self._engine: Engine | None = engine
        self._bind(engine)
        self._chain: AuthChain | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_fatal = on_fatal or _terminate

    # ------------------------------------------------------------ authoring

    def workflow(  # noqa: PLR0913  the published options
        self,
        id: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        events: Sequence[str] = (),
        on: str | None = None,
        schedule: str | Schedule | Sequence[str | Schedule] | None = None,
        concurrency: int | Concurrency | Sequence[Concurrency] | None = None,
        rate_limit: str | RateLimit | Sequence[RateLimit] | None = None,
        priority: str | None = None,
        retention: Duration | Retention | None = None,
        tags: Sequence[str] = (),
        aliases: Sequence[str] = (),
        renamed: Mapping[str, str] | None = None,
        on_divergence: str = "park",
        description: str | None = None,
    ) -> Callable[[F], F]:
        """Register `async def f(ctx, input) -> output` as a workflow.

        The id defaults to the function's name with `-` for `_`. The annotations of `input` and of
        the return validate and convert. `retry` is the default policy of its steps. `events` are
        ids its runs keep until they wait for them: `"paid-{id}"` is filled in from the input.
        A notify of `on` starts a run, and so does each time of `schedule`, a cron line or a
        `Schedule`. `concurrency` and `rate_limit` say how many runs go on at
        once, and begin in a while; the others wait, those whose `priority="input.…"` is highest
        first. A run that has not ended `timeout` after it began fails. `retention` says for how
        long, and how many, of its finished runs are kept. Raises `AuthoringError` for
        a bad option or a taken id.
        """
        if callable(id):
            # It would register nothing, and say nothing.
            raise AuthoringError("write @flow.workflow(), with parentheses")

        def register(function: F) -> F:
            options = workflow_options(
                function,
                id,
                retry=retry,
                timeout=timeout,
                events=events,
                on=on,
                schedule=schedule,
                concurrency=concurrency,
                rate_limit=rate_limit,
                priority=priority,
                retention=retention,
                tags=tags,
                aliases=aliases,
                renamed=renamed,
                on_divergence=on_divergence,
                description=description,
            )
            self.registry.add(function, options)
            remember_flow(function, self)
            if (told := getattr(self._engine, "registered", None)) is not None:
                told()
            return function

        return register

    # ------------------------------------------------------------ life

    @property
    def data_dir(self) -> str:
        """The data directory in force."""
        return self._given_dir or os.environ.get("STEPFLOW_DATA_DIR") or _DEFAULT_DIR

    def use_data_dir(self, data_dir: str) -> None:
        """Choose the directory, before the start: `--data` beats the constructor."""
        if isinstance(self._engine, LocalEngine):
            message = "the data directory is chosen before the engine is made"
            raise StepflowError(message)
        self._given_dir = data_dir

    @property
    def engine(self) -> Engine:
        """The engine: a `LocalEngine` on the data directory unless another was given.

        With `STEPFLOW_DATABASE_URL` it is a `PostgresEngine` on that database.
        """
        if self._engine is None and (url := os.environ.get("STEPFLOW_DATABASE_URL")):
            role = os.environ.get("STEPFLOW_ROLE") or "all"
            self.swap_engine(database_engine(url, role=role))
        if self._engine is None:
            self._engine = LocalEngine(
                self.registry,
                self.data_dir,
                settings=self.settings,
                sign=self._sign,
                on_fatal=self._fatal,
            )
        return self._engine

    def _bind(self, engine: Engine | None) -> None:
        """Give an engine that was made without them this flow's workflows and settings."""
        bind = getattr(engine, "bind", None)
        if bind is not None:
            bind(
                registry=self.registry,
                settings=self.settings,
                sign=self._sign,
                on_fatal=self._fatal,
            )

    def swap_engine(self, engine: Engine | None) -> Engine | None:
        """Put another engine in its place, as the test kit does; return the one before."""
        self._bind(engine)
        before, self._engine = self._engine, engine
        return before

    def _fatal(self, error: BaseException) -> None:
        self.on_fatal(error)

    def _sign(self, run_id: str, expires_ms: int) -> str:
        return self.auth_chain.signer.sign_run(run_id, expires_ms)

    @property
    def auth_chain(self) -> AuthChain:
        """What environment and data directory say about credentials; needs the engine started."""
        if self._chain is None:
            if self._engine is not None and not isinstance(self._engine, LocalEngine):
                # Nothing else is kept there, so nobody has made it.
                Path(self.data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._chain = AuthChain.from_env(
                os.environ,
                self.data_dir,
                self.settings,
                SystemClock(),
                table=self.engine.keys,
                logins=self.engine.sessions,
            )
        return self._chain

    async def __aenter__(self) -> Self:
        await self.engine.start()
        try:
            # A credential that cannot be used refuses the start, not each request.
            if isinstance(self.engine, LocalEngine):
                self.auth_chain  # noqa: B018  made at the first look
        except BaseException:
            await self.engine.stop()
            raise
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.stop()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None]:
        """Run the engine while the host runs: `FastAPI(lifespan=flow.lifespan)`. Counted."""
        # Only a host that serves has streams to end; loaded here for the same reason as in asgi().
        from stepflow.integrations.host import (  # noqa: PLC0415
            ending_streams,
            redact_access_log,
        )

        del app
        redact_access_log()
        async with self:
            with ending_streams(self.begin_shutdown):
                yield

    def begin_shutdown(self) -> None:
        """End streams and take no new work; what runs goes on until the engine is stopped."""
        self.engine.begin_shutdown()

    def start_background(self) -> BlockingFlow:
        """Run the engine on a loop in a thread of its own, for a program that has no loop.

        Returns the flow's methods as ones that block, once the engine serves: as
        `with flow.start_background() as background:`, or call `close()` at the end.
        """
        return start_background(self)

    def blocking(self) -> BlockingFlow:
        """Return the flow's methods as ones that block, for threads of a host that runs the engine.

        For synchronous views, say. Raises `StepflowError` while the engine is not started.
        """
        if self._loop is None:
            raise StepflowError(
                "the engine is not started: enter flow.lifespan, or start_background()"
            )
        return BlockingFlow(self, self._loop)

    async def check(self, target: str) -> CodeReport:
        """Replay the live runs, dry, against the code of `target`; say and return what was found.

        `target` is what `stepflow serve` takes: `acme.flows:flow`, `flows.py`. A child process of
        low priority loads it, bounded by `check_runs_max` and `check_time_s`, and ended when the
        engine stops. One log entry says the result, `/ready` shows it. `serve` calls this at every
        start. Raises `StepflowError` for an engine that is not of this process.
        """
        from stepflow.engine.code_check import check_code  # noqa: PLC0415  once, if ever

        if not isinstance(self.engine, LocalEngine):
            message = "only runs of an engine in this process can be checked"
            raise StepflowError(message)
        return await check_code(self.engine, target)

    # ------------------------------------------------------------ runs

    async def trigger(
        self,
        workflow: str | Callable[..., Any],
        input: object = None,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        delay: Duration | None = None,
    ) -> RunHandle:
        """Start a run; it is durable when this returns.

        Raises `WorkflowNotFoundError`, `InvalidInputError` (naming the field), `ConflictError` (a
        taken `run_id`, another input under a used key), `PayloadTooLargeError`, `UnavailableError`
        (certainly not started), `OutcomeUnknownError` (ask again with the same key).
        """
        found = self.registry.find(workflow)
        started = await (self._engine or self.engine).trigger(
            found.id,
            found.signature.input.encode(input, "input"),
            run_id=run_id,
            idempotency_key=idempotency_key,
            tags=check_tags(tags) if tags else (),
            delay_ms=0 if delay is None else parse_duration_ms(delay),
        )
        return RunHandle(self, started)

    async def trigger_many(
        self,
        workflow: str | Callable[..., Any],
        inputs: Sequence[object],
        *,
        tags: Sequence[str] = (),
        delay: Duration | None = None,
    ) -> list[RunHandle]:
        """Start many runs in one durable write. Raises the first input's error, starting none."""
        found = self.registry.find(workflow)
        encode_input = found.signature.input.encode
        bodies = [encode_input(value, f"inputs[{i}]") for i, value in enumerate(inputs)]
        for body in bodies:
            found.signature.arguments(body)
        answers = await self.engine.trigger_many(
            found.id,
            bodies,
            tags=check_tags(tags) if tags else (),
            delay_ms=0 if delay is None else parse_duration_ms(delay),
        )
        for answer in answers:
            if isinstance(answer, ApiError):
                raise answer
        return [RunHandle(self, answer) for answer in answers if isinstance(answer, str)]

    async def notify(
        self, event_id: str, payload: object = None, *, run_id: str | None = None
    ) -> int:
        """Deliver an event; return how many runs it woke or was kept for.

        Raises `EventNotFoundError` when it reached none.
        """
        check_event_id(event_id)
        return await self.engine.notify(event_id, encode(payload, "payload"), run_id=run_id)

    async def get_run(self, run_id: str) -> RunView:
        """Return the run as `GET /runs/{runId}` shows it, or raise `RunNotFoundError`."""
        return await self.engine.get_run(run_id)

    async def export_run(self, run_id: str, *, mask: Iterable[str] = ()) -> bytes:
        """Return the run as one file for `stepflow.testing.replay`, secrets masked.

        `mask` names further members that are secret. Raises `RunNotFoundError`.
        """
        line = await self.engine.export_run(run_id)
        return make_capsule(line, (*self.settings.mask_names.split(","), *mask))

    async def list_runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        tag: str = "",
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of runs, newest first."""
        where = RunFilter(status=frozenset(status), workflow_id=workflow_id, tag=tag)
        return await self.engine.list_runs(where, limit=limit, cursor=cursor)

    async def stream(self, run_id: str, after: int | None = 0) -> AsyncIterator[RunEvent]:
        """Yield the run's events: history after id `after`, then live, until the run ends."""
        stream = await self.engine.stream(run_id, after or None)
        try:
            while not stream.ended:
                for event in stream.read_events(100):
                    yield event
                await stream.changed()
            for event in stream.read_events(100):
                yield event
        finally:
            stream.close()

    def stream_all(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        tag: str = "",
        run_ids: Sequence[str] = (),
        after: str | None = None,
    ) -> AsyncGenerator[AllEvent]:
        """Yield the events of all runs, or of those that are wanted, from now on or after a cursor.

        `after` is an event's `cursor`, or the `stream_cursor` of a page of runs: then nothing is
        missed, over restarts too. A `resync` says that what was before it is not kept any more:
        list the runs again. `status` is the run's, as the event leaves it. It ends when the engine
        does. "Now" is when the first event is asked for.
        """
        where = wanted_events(status, workflow_id, (tag,) if tag else (), run_ids or None)
        return all_events(self.engine, where, after)

    async def cancel(self, run_id: str, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel a live run; `ConflictError` when it has ended.

        Its body hears `CancelledError` and has a grace to clean up. `force` does not wait for it.
        """
        return await self.engine.cancel(run_id, reason=reason, force=force)

    async def pause(self, run_id: str, reason: str = "") -> RunView:
        """Hold a live run before its next effect, until it is resumed or cancelled.

        `ConflictError` when it has ended, is being cancelled or is paused already.
        """
        return await self.engine.pause(run_id, reason=reason)

    async def resume(self, run_id: str, reason: str = "") -> RunView:
        """Let a run go on that is paused or was set aside; else `ConflictError`."""
        return await self.engine.resume(run_id, reason=reason)

    async def retry(self, run_id: str, reason: str = "") -> RunView:
        """Let a failed or cancelled run go on from where it failed, under its own id.

        What was recorded is kept; what cleaned up, compensations and what they undid are taken
        back. `ConflictError` for any other run.
        """
        return await self.engine.retry(run_id, reason=reason)

    async def fork(
        self,
        run_id: str,
        from_step: str,
        *,
        input: object = UNSET,
        results: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> RunHandle:
        """Start a run with what this one had recorded before `from_step` was first asked for.

        `input` is another input, `results` are results to pin, by step. A step is named by its key,
        or by its name where its first occurrence is meant. Raises `InvalidInputError` for a step
        that the run does not have.
        """
        body = None if input is UNSET else encode(input, "input")
        pins = {step: encode(value, f"results.{step}") for step, value in (results or {}).items()}
        forked = await self.engine.fork(run_id, from_step, body=body, results=pins, reason=reason)
        return RunHandle(self, forked)

    async def why(self, run_id: str) -> WhyView:
        """Return what the run waits for: one sentence, and data."""
        return await self.engine.why(run_id)

    async def audit(self, run_id: str) -> list[AuditEntry]:
        """Return what was done to the run, oldest first."""
        return await self.engine.run_audit(run_id)

    async def bulk(
        self,
        action: BulkAction,
        where: RunFilter,
        *,
        dry_run: bool = False,
        force: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        reason: str = "",
    ) -> BulkReport:
        """Do one thing to all runs that the filter takes, at most 1,000 a call."""
        return await self.engine.bulk(
            action,
            where,
            dry_run=dry_run,
            force=force,
            limit=limit,
            cursor=cursor,
            reason=reason,
        )

    async def purge(self, run_id: str, reason: str = "") -> None:
        """Forget a finished run; `ConflictError` when it is live."""
        await self.engine.purge(run_id, reason=reason)

    @property
    def schedules(self) -> FlowSchedules:
        """What starts by itself: list, pause, resume, trigger and backfill."""
        return FlowSchedules(self)

    # ------------------------------------------------------------ HTTP

    def asgi(
        self,
        *,
        endpoints: EndpointPreset | Endpoints = "all",
        auth: Auth | None = None,
        on_auth_failure: FailureHook | None = None,
        health_check: HealthCheck | None = None,
        cors_origins: Iterable[str] = (),
        ui: bool = True,
    ) -> ASGIApp:
        """Return the HTTP API as an ASGI app with its own lifespan.

        `endpoints`: a preset or `Endpoints(…)`. `auth`: `None` takes keys and JWT settings from the
        environment; a handler, or a handler for each endpoint, replaces them; `allow_all` opens
        everything on purpose. `on_auth_failure` hears of each refusal. `health_check`: false or an
        exception makes `/health` 503. `cors_origins`: exact origins; `STEPFLOW_CORS_ORIGINS` unless
        given. `ui=False`: no pages for people. See docs/embedding.md.
        """
        # Imported here so that a program that only embeds the engine never loads Starlette.
        from stepflow.integrations.host import app_of  # noqa: PLC0415

        return app_of(
            self,
            endpoints=endpoints,
            auth=auth,
            on_auth_failure=on_auth_failure,
            health_check=health_check,
            cors_origins=cors_origins,
            ui=ui,
        )

    def routes(
        self,
        *,
        endpoints: EndpointPreset | Endpoints = "all",
        auth: Auth | None = None,
        on_auth_failure: FailureHook | None = None,
        health_check: HealthCheck | None = None,
        cors_origins: Iterable[str] = (),
        ui: bool = True,
    ) -> list[BaseRoute]:
        """Return the same as a list of Starlette routes; the host runs `flow.lifespan`."""
        from stepflow.integrations.host import routes_of  # noqa: PLC0415

        return routes_of(
            self,
            endpoints=endpoints,
            auth=auth,
            on_auth_failure=on_auth_failure,
            health_check=health_check,
            cors_origins=cors_origins,
            ui=ui,
        )

    def handlers(self, **options: Unpack[HostOptions]) -> Handlers:
        """Return single operations as ASGI applications, for routes of your own.

        `handlers.trigger`, `.run`, `.stream`, `.notify`, `.health`; any other by its operation's id
        in the OpenAPI document, `handlers["cancelRun"]`. `options` are those of `asgi()`.
        """
        from stepflow.integrations.handlers import handlers_of  # noqa: PLC0415  as in asgi()

        return handlers_of(self, **options)

    async def authenticate(self, request: AuthRequest) -> AuthResult:
        """Be the auth handler of the environment's keys and JWTs, beside handlers of your own.

        `any_of(from_my_session, flow.authenticate)`. What `auth=None` asks, as a handler.
        """
        return await self.auth_chain(request)

    def mount(
        self, app: object, path: str = "/api/stepflow", **options: Unpack[HostOptions]
    ) -> None:
        """Serve the API in a host application below `path`; the engine runs while the host runs.

        Starlette, FastAPI, Quart; for another host `ConfigurationError`, which says what to write
        instead. `options` are those of `asgi()`.
        """
        from stepflow.integrations.mounting import mount  # noqa: PLC0415  as in asgi()

        mount(self, app, path, options)

    def wrap(
        self, host: ASGIApp, path: str = "/api/stepflow", **options: Unpack[HostOptions]
    ) -> ASGIApp:
        """Return an ASGI app that serves the API below `path`, and `host` everywhere else.

        It owns the lifespan: the engine starts before the host and stops after it, and the host's
        own lifespan, where it has one, runs inside. `options` are those of `asgi()`.
        """
        from stepflow.integrations.wrap import Wrapped, check_prefix  # noqa: PLC0415  as in asgi()

        return Wrapped(host, self.asgi(**options), check_prefix(path), self.lifespan)


def _terminate(error: BaseException) -> None:
    _log.critical("the disk has failed, stopping this process: %s", error)
    os.kill(os.getpid(), signal.SIGTERM)
