"""Who makes the claims: an engine called directly, or one behind HTTP.

`Caller` is what the claims need of both. `stepflow.client.Client` has it; `EngineCaller` gives it
to an engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from stepflow.engine.protocol import RunFilter
from stepflow.model.codec import encode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from stepflow.engine.protocol import Engine
    from stepflow.errors import ApiError
    from stepflow.model.views import RunEvent, RunPage, RunView, WorkflowView
    from stepflow.model.why import WhyView

__all__ = ["Awaited", "Caller", "EngineCaller", "Started"]


class Started(Protocol):
    """A run that was triggered."""

    @property
    def id(self) -> str:
        """The run's id."""
        ...


class Awaited(Protocol):
    """An event that runs wait for."""

    @property
    def event_id(self) -> str:
        """The event's id."""
        ...

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The first 100 runs that wait for it."""
        ...


class Caller(Protocol):
    """What the claims need: `Client` has it, `EngineCaller` gives it to an engine."""

    async def trigger(
        self, workflow: str, input: object = None, *, idempotency_key: str | None = None
    ) -> Started: ...

    async def trigger_many(
        self, workflow: str, inputs: Sequence[object]
    ) -> Sequence[Started | ApiError]: ...

    async def get_run(self, run_id: str) -> RunView: ...

    async def wait(self, run_id: str) -> RunView: ...

    async def list_runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RunPage: ...

    async def notify(
        self, event_id: str, payload: object = None, *, run_id: str | None = None
    ) -> None: ...

    async def cancel(self, run_id: str) -> RunView: ...

    async def pause(self, run_id: str) -> RunView: ...

    async def resume(self, run_id: str) -> RunView: ...

    async def retry(self, run_id: str) -> RunView: ...

    async def fork(
        self, run_id: str, from_step: str, *, results: Mapping[str, object] | None = None
    ) -> Started: ...

    async def purge(self, run_id: str) -> None: ...

    async def why(self, run_id: str) -> WhyView: ...

    def stream(self, run_id: str, after: int | None = None) -> AsyncGenerator[RunEvent]: ...

    async def events(self) -> Sequence[Awaited]: ...

    async def workflows(self) -> Sequence[WorkflowView]: ...


@dataclass(frozen=True, slots=True)
class _Started:
    id: str


class EngineCaller:
    """An engine, called directly."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def trigger(
        self, workflow: str, input: object = None, *, idempotency_key: str | None = None
    ) -> Started:
        run_id = await self._engine.trigger(
            workflow, encode(input), idempotency_key=idempotency_key
        )
        return _Started(run_id)

    async def trigger_many(
        self, workflow: str, inputs: Sequence[object]
    ) -> Sequence[Started | ApiError]:
        answers = await self._engine.trigger_many(workflow, [encode(value) for value in inputs])
        return [_Started(answer) if isinstance(answer, str) else answer for answer in answers]

    async def get_run(self, run_id: str) -> RunView:
        return await self._engine.get_run(run_id)

    async def wait(self, run_id: str) -> RunView:
        return await self._engine.wait(run_id)

    async def list_runs(
        self,
        *,
        status: Sequence[str] = (),
        workflow_id: str = "",
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RunPage:
        where = RunFilter(status=frozenset(status), workflow_id=workflow_id)
        return await self._engine.list_runs(where, limit=limit or 50, cursor=cursor)

    async def notify(
        self, event_id: str, payload: object = None, *, run_id: str | None = None
    ) -> None:
        count = await self._engine.notify(event_id, encode(payload), run_id=run_id)
        assert count > 0, "an event that reached nobody is EventNotFoundError"

    async def cancel(self, run_id: str) -> RunView:
        return await self._engine.cancel(run_id)

    async def pause(self, run_id: str) -> RunView:
        return await self._engine.pause(run_id)

    async def resume(self, run_id: str) -> RunView:
        return await self._engine.resume(run_id)

    async def retry(self, run_id: str) -> RunView:
        return await self._engine.retry(run_id)

    async def fork(
        self, run_id: str, from_step: str, *, results: Mapping[str, object] | None = None
    ) -> Started:
        pinned = {step: encode(value) for step, value in (results or {}).items()}
        return _Started(await self._engine.fork(run_id, from_step, results=pinned or None))

    async def purge(self, run_id: str) -> None:
        await self._engine.purge(run_id)

    async def why(self, run_id: str) -> WhyView:
        return await self._engine.why(run_id)

    async def stream(self, run_id: str, after: int | None = None) -> AsyncGenerator[RunEvent]:
        stream = await self._engine.stream(run_id, after)
        try:
            while True:
                events = stream.read_events(10)
                for event in events:
                    yield event
                if not events:
                    if stream.ended:
                        return
                    await stream.changed()
        finally:
            stream.close()

    async def events(self) -> Sequence[Awaited]:
        return await self._engine.waiting_events()

    async def workflows(self) -> Sequence[WorkflowView]:
        return self._engine.workflows()
