"""What every engine must do: claims that a test class inherits.

An engine has read `engine.protocol.Engine`; this is how it shows that it has understood. The claims
speak to a `Caller`, so that the same ones hold for an engine called directly (`EngineCaller`) and
for one behind HTTP (`stepflow.client.Client` is a `Caller`)::

    @pytest.mark.asyncio
    class TestMyEngine(EngineConformance):
        @pytest_asyncio.fixture
        async def caller(self):
            flow = Stepflow(engine=MyEngine(…))
            register(flow)
            async with flow:
                yield EngineCaller(flow.engine)

They use real time and no sleeps, and share an engine without harm.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import pytest

from stepflow.authoring.context import Context  # noqa: TC001  annotations are looked up
from stepflow.engine.protocol import RunFilter
from stepflow.errors import (
    ConflictError,
    EventNotFoundError,
    InvalidInputError,
    RunNotFoundError,
    WorkflowNotFoundError,
)
from stepflow.model.codec import encode
from stepflow.model.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from stepflow.engine.protocol import Engine
    from stepflow.errors import ApiError
    from stepflow.flow import Stepflow
    from stepflow.model.views import RunEvent, RunPage, RunView, WorkflowView

__all__ = ["Caller", "EngineCaller", "EngineConformance", "register"]

_NO_RUN: Final = "run_0000000000000000000000"
_ENDS: Final = frozenset({"complete", "error"})


# ---------------------------------------------------------------- who calls


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

    async def purge(self, run_id: str) -> None: ...

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

    async def resume(self, run_id: str) -> RunView:
        return await self._engine.resume(run_id)

    async def purge(self, run_id: str) -> None:
        await self._engine.purge(run_id)

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


# ---------------------------------------------------------------- what is run


@dataclass
class Order:
    """The input of the workflow that has a typed one."""

    id: str
    count: int


def _next(n: int) -> int:
    return n + 1


def _refuse() -> None:
    raise ValueError("refused on purpose")


def register(flow: Stepflow) -> None:
    """Register the workflows that the claims run."""

    @flow.workflow("conformance-echo")
    async def echo(ctx: Context, value: Any) -> Any:
        del ctx
        return value

    @flow.workflow("conformance-count")
    async def count(ctx: Context, order: Order) -> int:
        n = 0
        for _ in range(order.count):
            n = await ctx.step("next", _next, n)
        return n

    @flow.workflow("conformance-wait")
    async def wait(ctx: Context, order_id: str) -> Any:
        await ctx.step("before", _next, 0)
        return await ctx.wait_for_event("answer", f"answer-{order_id}", timeout=None)

    @flow.workflow("conformance-keep", events=["kept-{id}"])
    async def keep(ctx: Context, order: Order) -> list[Any]:
        await ctx.wait_for_event("go", f"go-{order.id}", timeout=None)
        return [
            await ctx.wait_for_event("kept", f"kept-{order.id}", timeout=None)
            for _ in range(order.count)
        ]

    @flow.workflow("conformance-fail")
    async def fail(ctx: Context, _: None) -> None:
        await ctx.step("refuse", _refuse, retry=RetryPolicy(max_attempts=1))


async def _read(caller: Caller, run_id: str, after: int | None = None) -> list[RunEvent]:
    """Return the run's events to its end."""
    async with aclosing(caller.stream(run_id, after)) as stream:
        return [event async for event in stream]


async def _until_waiting(caller: Caller, run_id: str) -> None:
    """Return once the run is seen to wait for an event."""
    async with aclosing(caller.stream(run_id)) as stream:
        async for event in stream:
            if event.event == "status" and event.json().get("kind") == "event":
                return
    raise AssertionError(f"{run_id} ended and never waited")


def _rows(events: Sequence[RunEvent]) -> list[tuple[int, str, Any]]:
    return [(event.id, event.event, event.json()) for event in events]


def _json(raw: Any) -> Any:
    return msgspec.json.decode(bytes(raw))


# ---------------------------------------------------------------- claims


class EngineConformance:
    """The claims. Inherit them and give them a fixture `caller`, whose flow has `register`ed."""

    _numbers = iter(range(1, 1_000_000))

    def _fresh(self) -> str:
        """Return a text that no other claim uses: the engine may be shared."""
        return f"{type(self).__name__}-{next(self._numbers)}"

    # ------------------------------------------------------------ trigger and get

    async def test_a_triggered_run_can_be_read_at_once(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", self._fresh())
        view = await caller.get_run(run.id)
        assert view.id == run.id
        assert view.workflow_id == "conformance-wait"
        assert view.status == "running"
        assert view.created_at.endswith("Z")

    @pytest.mark.parametrize("value", [None, 0, "", "text", [], {"a": [1, {"b": None}]}, "☃"])
    async def test_a_run_keeps_its_input_and_gives_its_result(
        self, caller: Caller, value: Any
    ) -> None:
        run = await caller.trigger("conformance-echo", value)
        view = await caller.wait(run.id)
        assert view.status == "completed"
        assert _json(view.input) == value
        assert _json(view.result) == value

    async def test_steps_stand_in_the_order_of_asking(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-count", {"id": self._fresh(), "count": 3})
        await caller.wait(run.id)
        view = await caller.get_run(run.id)
        assert not isinstance(view.steps, msgspec.UnsetType)
        assert [(step.name, step.status) for step in view.steps] == [("next", "completed")] * 3
        assert [_json(step.result) for step in view.steps] == [1, 2, 3]
        assert len({step.key for step in view.steps}) == 3

    async def test_a_failed_run_says_why(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-fail")
        view = await caller.wait(run.id)
        assert view.status == "failed"
        error = _json(view.error)
        assert error["type"] == "ValueError"
        assert error["message"] == "refused on purpose"
        assert error["step"] == "refuse"

    async def test_an_unknown_workflow_is_refused(self, caller: Caller) -> None:
        with pytest.raises(WorkflowNotFoundError):
            await caller.trigger("no-such-workflow")

    @pytest.mark.parametrize("value", [None, {"id": "x"}, {"id": "x", "count": "many"}, [1]])
    async def test_an_input_of_the_wrong_type_starts_nothing(
        self, caller: Caller, value: Any
    ) -> None:
        before = await caller.list_runs(workflow_id="conformance-count", limit=1)
        with pytest.raises(InvalidInputError):
            await caller.trigger("conformance-count", value)
        after = await caller.list_runs(workflow_id="conformance-count", limit=1)
        assert [run.id for run in after.runs] == [run.id for run in before.runs]

    async def test_an_unknown_run_is_not_found_by_any_call(self, caller: Caller) -> None:
        with pytest.raises(RunNotFoundError):
            await caller.get_run(_NO_RUN)
        with pytest.raises(RunNotFoundError):
            await caller.cancel(_NO_RUN)
        with pytest.raises(RunNotFoundError):
            await caller.resume(_NO_RUN)
        with pytest.raises(RunNotFoundError):
            await caller.purge(_NO_RUN)
        with pytest.raises(RunNotFoundError):
            await _read(caller, _NO_RUN)

    async def test_a_batch_gives_a_run_or_an_error_each_in_order(self, caller: Caller) -> None:
        inputs = [{"id": "a", "count": 1}, {"id": "b"}, {"id": "c", "count": 2}]
        first, second, third = await caller.trigger_many("conformance-count", inputs)
        assert isinstance(second, InvalidInputError)
        assert not isinstance(first, Exception)
        assert not isinstance(third, Exception)
        assert _json((await caller.wait(first.id)).result) == 1
        assert _json((await caller.wait(third.id)).result) == 2

    async def test_workflows_are_listed_with_their_input(self, caller: Caller) -> None:
        found = {view.id: view for view in await caller.workflows()}
        schema = found["conformance-count"].input_schema
        assert "count" in msgspec.json.encode(schema).decode()
        assert list(found["conformance-keep"].events) == ["kept-{id}"]

    # ------------------------------------------------------------ idempotency

    async def test_a_key_that_was_used_gives_the_same_run(self, caller: Caller) -> None:
        key = self._fresh()
        runs = [
            await caller.trigger("conformance-echo", {"a": 1, "b": 2}, idempotency_key=key),
            await caller.trigger("conformance-echo", {"b": 2, "a": 1}, idempotency_key=key),
        ]
        assert runs[0].id == runs[1].id
        other = await caller.trigger("conformance-echo", {"a": 1}, idempotency_key=self._fresh())
        assert other.id != runs[0].id

    async def test_many_at_once_with_one_key_start_one_run(self, caller: Caller) -> None:
        key = self._fresh()
        runs = await asyncio.gather(
            *(caller.trigger("conformance-echo", 1, idempotency_key=key) for _ in range(20))
        )
        assert len({run.id for run in runs}) == 1

    async def test_a_used_key_refuses_another_input(self, caller: Caller) -> None:
        key = self._fresh()
        await caller.trigger("conformance-echo", 1, idempotency_key=key)
        with pytest.raises(ConflictError):
            await caller.trigger("conformance-echo", 2, idempotency_key=key)

    async def test_a_key_belongs_to_its_workflow(self, caller: Caller) -> None:
        key = self._fresh()
        first = await caller.trigger("conformance-echo", key, idempotency_key=key)
        second = await caller.trigger("conformance-wait", key, idempotency_key=key)
        assert first.id != second.id

    # ------------------------------------------------------------ notify

    async def test_an_event_wakes_the_run_that_waits(self, caller: Caller) -> None:
        order = self._fresh()
        run = await caller.trigger("conformance-wait", order)
        await _until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", {"yes": True})
        assert _json((await caller.wait(run.id)).result) == {"yes": True}

    async def test_an_event_for_nobody_is_not_found(self, caller: Caller) -> None:
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"nobody-{self._fresh()}")

    async def test_an_event_is_taken_once(self, caller: Caller) -> None:
        order = self._fresh()
        run = await caller.trigger("conformance-wait", order)
        await _until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", 1)
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"answer-{order}", 2)
        assert _json((await caller.wait(run.id)).result) == 1

    async def test_an_event_reaches_every_run_that_waits(self, caller: Caller) -> None:
        order = self._fresh()
        runs = [await caller.trigger("conformance-wait", order) for _ in range(3)]
        for run in runs:
            await _until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", "all")
        assert [_json((await caller.wait(run.id)).result) for run in runs] == ["all"] * 3

    async def test_an_addressed_event_reaches_one_run_alone(self, caller: Caller) -> None:
        order = self._fresh()
        first, second = [await caller.trigger("conformance-wait", order) for _ in range(2)]
        await _until_waiting(caller, first.id)
        await _until_waiting(caller, second.id)
        await caller.notify(f"answer-{order}", 1, run_id=second.id)
        assert (await caller.wait(second.id)).status == "completed"
        assert (await caller.get_run(first.id)).status == "running"

    async def test_declared_events_are_kept_in_order_until_waited_for(self, caller: Caller) -> None:
        order = self._fresh()
        run = await caller.trigger("conformance-keep", {"id": order, "count": 2})
        await caller.notify(f"kept-{order}", 1)
        await caller.notify(f"kept-{order}", 2)
        await _until_waiting(caller, run.id)
        await caller.notify(f"go-{order}")
        assert _json((await caller.wait(run.id)).result) == [1, 2]

    async def test_awaited_events_are_listed(self, caller: Caller) -> None:
        order = self._fresh()
        run = await caller.trigger("conformance-wait", order)
        await _until_waiting(caller, run.id)
        awaited = {row.event_id: row.run_ids for row in await caller.events()}
        assert awaited[f"answer-{order}"] == (run.id,)

    # ------------------------------------------------------------ lists

    async def test_a_list_is_newest_first_and_its_pages_hold_each_run_once(
        self, caller: Caller
    ) -> None:
        started = [(await caller.trigger("conformance-echo", n)).id for n in range(7)]
        seen: list[str] = []
        cursor: str | None = None
        while not set(started) <= set(seen):
            page = await caller.list_runs(workflow_id="conformance-echo", limit=2, cursor=cursor)
            assert len(page.runs) <= 2
            assert all(isinstance(run.steps, msgspec.UnsetType) for run in page.runs)
            seen += [run.id for run in page.runs]
            cursor = page.next_cursor
            if cursor is None:
                break
            # What starts meanwhile is newer than every page to come.
            await caller.trigger("conformance-echo", "meanwhile")
        assert [run_id for run_id in seen if run_id in started] == started[::-1]
        assert len(set(seen)) == len(seen)

    async def test_a_list_is_filtered_by_status(self, caller: Caller) -> None:
        failed = await caller.trigger("conformance-fail")
        live = await caller.trigger("conformance-wait", self._fresh())
        await caller.wait(failed.id)
        page = await caller.list_runs(status=["failed"], limit=200)
        assert {run.status for run in page.runs} == {"failed"}
        assert failed.id in {run.id for run in page.runs}
        page = await caller.list_runs(status=["running", "failed"], limit=200)
        assert {failed.id, live.id} <= {run.id for run in page.runs}

    async def test_a_cursor_that_nobody_gave_is_refused(self, caller: Caller) -> None:
        with pytest.raises(InvalidInputError):
            await caller.list_runs(cursor="made-up")

    # ------------------------------------------------------------ cancel and purge

    async def test_a_cancelled_run_ends_as_cancelled(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", self._fresh())
        await _until_waiting(caller, run.id)
        view = await caller.cancel(run.id)
        assert view.id == run.id
        assert (await caller.wait(run.id)).status == "cancelled"
        last = (await _read(caller, run.id))[-1]
        assert last.event == "error"
        assert last.json()["status"] == "cancelled"

    async def test_a_cancelled_run_waits_no_longer(self, caller: Caller) -> None:
        order = self._fresh()
        run = await caller.trigger("conformance-wait", order)
        await _until_waiting(caller, run.id)
        await caller.cancel(run.id)
        await caller.wait(run.id)
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"answer-{order}")

    async def test_an_ended_run_cannot_be_cancelled(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-echo", 1)
        await caller.wait(run.id)
        with pytest.raises(ConflictError):
            await caller.cancel(run.id)
        assert (await caller.get_run(run.id)).status == "completed"

    async def test_only_a_run_that_was_set_aside_is_resumed(self, caller: Caller) -> None:
        live = await caller.trigger("conformance-wait", self._fresh())
        ended = await caller.trigger("conformance-echo", 1)
        await caller.wait(ended.id)
        for run in (live, ended):
            with pytest.raises(ConflictError):
                await caller.resume(run.id)

    async def test_a_purged_run_is_gone_with_its_key(self, caller: Caller) -> None:
        key = self._fresh()
        run = await caller.trigger("conformance-echo", 1, idempotency_key=key)
        await caller.wait(run.id)
        await caller.purge(run.id)
        with pytest.raises(RunNotFoundError):
            await caller.get_run(run.id)
        page = await caller.list_runs(workflow_id="conformance-echo", limit=200)
        assert run.id not in {each.id for each in page.runs}
        again = await caller.trigger("conformance-echo", 2, idempotency_key=key)
        assert again.id != run.id

    async def test_a_live_run_cannot_be_purged(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-wait", self._fresh())
        with pytest.raises(ConflictError):
            await caller.purge(run.id)
        assert (await caller.get_run(run.id)).status == "running"

    # ------------------------------------------------------------ streams

    async def test_a_stream_tells_the_whole_run_in_order(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-count", {"id": self._fresh(), "count": 2})
        events = await _read(caller, run.id)
        assert (events[0].event, events[0].json()["status"]) == ("status", "running")
        assert [e.json()["result"] for e in events if e.event == "step"] == [1, 2]
        assert (events[-1].event, events[-1].json()) == (
            "complete",
            {"status": "completed", "result": 2},
        )
        ids = [event.id for event in events if event.id]
        assert ids == sorted(set(ids))
        assert sum(event.event in _ENDS for event in events) == 1

    async def test_a_live_stream_and_a_later_one_tell_the_same(self, caller: Caller) -> None:
        order = self._fresh()
        run = await caller.trigger("conformance-wait", order)
        live = asyncio.ensure_future(_read(caller, run.id))
        await _until_waiting(caller, run.id)
        await caller.notify(f"answer-{order}", "now")
        assert _rows(await live) == _rows(await _read(caller, run.id))

    async def test_a_stream_goes_on_after_any_of_its_events(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-count", {"id": self._fresh(), "count": 3})
        whole = _rows(await _read(caller, run.id))
        for place, (event_id, _, _) in enumerate(whole):
            rest = _rows(await _read(caller, run.id, event_id))
            assert rest == whole[place + 1 :], f"after event {event_id}"

    async def test_a_stream_after_an_id_not_reached_yet_begins_with_the_run_itself(
        self, caller: Caller
    ) -> None:
        order = self._fresh()
        run = await caller.trigger("conformance-wait", order)
        await _until_waiting(caller, run.id)
        async with aclosing(caller.stream(run.id, 1_000_000)) as stream:
            first = await anext(stream)
            assert first.event == "resync"
            assert first.json()["id"] == run.id
            await caller.notify(f"answer-{order}", 1)
            rest = [event.event async for event in stream]
        assert rest[-1] == "complete"

    async def test_a_failed_runs_stream_ends_with_the_error(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-fail")
        events = await _read(caller, run.id)
        step = next(event for event in events if event.event == "step")
        assert step.json()["status"] == "failed"
        assert events[-1].event == "error"
        view = await caller.get_run(run.id)
        assert events[-1].json() == {"status": "failed", "error": _json(view.error)}
