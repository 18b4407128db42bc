"""What a body does beyond single steps: children, events to other runs, the first of several."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn, cast

from stepflow.authoring.context import First, Missing
from stepflow.authoring.options import check_event_id, default_id
from stepflow.errors import AuthoringError, WorkflowNotFoundError
from stepflow.model.codec import Converter, args_hash, encode
from stepflow.model.durations import parse_duration_ms
from stepflow.model.run import FN_CHILD, FN_EVENT, FN_NOTIFY
from stepflow.runtime import messages as msg
from stepflow.runtime.asking import Asking
from stepflow.runtime.calls import (
    ChildAsk,
    EventAsk,
    FirstWait,
    HeldWait,
    NotifyAsk,
    OneWait,
    RunAsk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from stepflow.authoring.registry import Workflow
    from stepflow.model.durations import Duration
    from stepflow.model.run import CallState

__all__ = ["Composing"]


class Composing(Asking):
    """The part of `Context` that reaches other runs, or waits for several things at once."""

    def notify(self, event_id: str, payload: object = None) -> Coroutine[Any, Any, int]:
        check_event_id(event_id)
        data = encode(payload, "payload")
        ask = self._ask(NotifyAsk, "notify", "notify", FN_NOTIFY, args_hash((event_id, payload)))
        ask.event = event_id
        ask.payload = data
        return self._one(ask)

    def call(
        self,
        workflow: str | Callable[..., Any],
        input: object = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        return self._child(workflow, input, name, awaited=True)

    def start(
        self,
        workflow: str | Callable[..., Any],
        input: object = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, str]:
        return self._child(workflow, input, name, awaited=False)

    def _child(
        self, workflow: str | Callable[..., Any], value: object, name: str | None, *, awaited: bool
    ) -> Coroutine[Any, Any, Any]:
        child = self._actor.sup.registry.lookup(workflow)
        if child is None:
            return self._missing_child(workflow, value, name, awaited=awaited)
        body = child.signature.input.encode(value, "input")
        # Refused here, where the body hears of it, and before anything is recorded.
        child.signature.arguments(body)
        child.event_ids(body)
        written = workflow if isinstance(workflow, str) else child.id
        name, known = self._named_before(child, name, written)
        fn = f"{FN_CHILD}:{child.id}" if known is None else known.fn
        ask = self._ask(ChildAsk, "child", name, fn, args_hash((value,)))
        ask.workflow = child.id
        ask.body = body
        ask.awaited = awaited
        ask.converter = child.signature.output if awaited else Converter.of(str)
        return self._one(ask)

    def _named_before(
        self, child: Workflow, name: str | None, written: str
    ) -> tuple[str, CallState | None]:
        """Return the call's name, and its record if that was made under an id of before.

        A workflow that was given another id keeps the old one as an alias; its parents go on.
        """
        ids = (child.id, *child.options.aliases)
        if len(ids) == 1:
            return name or written, None
        branch, calls = self._branch(), self._actor.state.calls
        fns = {f"{FN_CHILD}:{each}" for each in ids}
        for each in (name,) if name is not None else (written, *ids):
            known = calls.get(branch.next_key(each))
            if known is not None and known.fn in fns:
                return each, known
        return name or written, None

    def _missing_child(
        self, workflow: str | Callable[..., Any], value: object, name: str | None, *, awaited: bool
    ) -> Coroutine[Any, Any, Any]:
        """Ask for a child whose workflow is not registered: one that was begun is waited for."""
        child_id = workflow if isinstance(workflow, str) else default_id(workflow)
        fn = f"{FN_CHILD}:{child_id}"
        ask = self._ask(ChildAsk, "child", name or child_id, fn, args_hash((value,)))
        known = self._actor.state.calls.get(ask.key)
        if known is None or known.kind != "child":
            message = f"Workflow {child_id!r} is not registered"
            raise WorkflowNotFoundError(message)
        ask.workflow = child_id
        ask.body = b"null"
        ask.awaited = awaited
        ask.registry = self._actor.sup.registry if awaited else None
        return self._one(ask)

    # ------------------------------------------------------------ without an end

    def restart(self, input: object = None) -> Coroutine[Any, Any, NoReturn]:
        # Not a call with a key: nothing of this history will be replayed.
        signature, actor = self._workflow.signature, self._actor
        body = signature.input.encode(input, "input")
        signature.arguments(body)
        limit = actor.sup.settings.input_bytes_max
        if len(body) > limit:
            message = f"the input has {len(body)} bytes, at most {limit} are kept"
            raise AuthoringError(message)
        self._branch()
        return self._restart(msg.RestartAsked(self._session, body, self._workflow.event_ids(body)))

    async def _restart(self, message: msg.RestartAsked) -> NoReturn:
        session = self._session
        if session.fenced:
            await session.refuse()
        if session.held is not None:
            await self._wait(HeldWait(session, (), session.loop.create_future()))
        # Ended by the fence that the restart brings, or by a cancel.
        wait = OneWait(session, (), session.loop.create_future())
        session.waits.add(wait)
        try:
            self._actor.tell(message)
            await wait.future
        finally:
            session.waits.discard(wait)
        raise AssertionError

    # ------------------------------------------------------------ several at once

    def first(self, **calls: Any) -> Coroutine[Any, Any, First[Any]]:
        if not calls:
            message = "ctx.first() was given no calls; write ctx.first(paid=ctx.wait_for_event(…))"
            raise AuthoringError(message)
        asks = [self._taken_over(label, call) for label, call in calls.items()]
        return self._first(asks, tuple(calls), self._branch().key("@first"))

    def _taken_over(self, label: str, call: Any) -> RunAsk:
        """Return what a call of `ctx` asks for, and close its coroutine: the first awaits it."""
        if (
            inspect.iscoroutine(call)
            and call.cr_code is _ONE
            and inspect.getcoroutinestate(call) == inspect.CORO_CREATED
        ):
            given = inspect.getcoroutinelocals(call)
            ask = given["ask"]
            # This run's own, and one that has a result of its own to wait for.
            if given["self"] is self and not isinstance(ask, NotifyAsk) and _is_awaited(ask):
                call.close()
                return cast("RunAsk", ask)
        message = (
            f"ctx.first({label}=…) takes a call of ctx.step, sleep, sleep_until, wait_for_event or "
            "call that was not awaited; put more than one call into a child workflow"
        )
        raise AuthoringError(message)

    async def _first(self, asks: Sequence[RunAsk], labels: Sequence[str], group: str) -> First[Any]:
        session = self._session
        if session.fenced:
            await session.refuse()
        wait = FirstWait(session, asks, session.loop.create_future(), labels=labels)
        for ask in asks:
            ask.wait = wait
            ask.group = group
        name, value = await self._wait(wait)
        return First(name, value)

    def wait_for_any(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        type: Any = Any,
    ) -> Coroutine[Any, Any, First[Any]]:
        asks, group = self._events(name, event_ids, timeout, type, ())
        if not asks:
            message = f"wait {name!r} was given no events, so that none of them can come"
            raise AuthoringError(message)
        return self._first(asks, tuple(event_ids), group)

    def wait_for_all(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        type: Any = Any,
        default: Any = Missing,
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        given = () if default is Missing else (default,)
        asks, _ = self._events(name, event_ids, timeout, type, given)
        return self._all(asks)

    async def _all(self, asks: Sequence[EventAsk]) -> dict[str, Any]:
        payloads = await self._many(asks, None)
        return dict(zip((ask.event for ask in asks), payloads, strict=True))

    def _events(
        self,
        name: str,
        event_ids: Sequence[str],
        timeout: Duration | None,
        type_: Any,
        default: tuple[Any, ...],
    ) -> tuple[list[EventAsk], str]:
        """Return a wait for each of the events, keyed below the one name by position."""
        if isinstance(event_ids, str):
            message = f"wait {name!r} takes a list of events; write [{event_ids!r}]"
            raise AuthoringError(message)
        events = [check_event_id(event) for event in event_ids]
        if len(set(events)) < len(events):
            message = f"wait {name!r} names an event twice"
            raise AuthoringError(message)
        timeout_ms = 0 if timeout is None else max(1, parse_duration_ms(timeout))
        branch = self._branch()
        base = self._key(branch, name, None)
        asks: list[EventAsk] = []
        for place, event in enumerate(events):
            ask = EventAsk(f"{base}.{place}", name, "event", FN_EVENT, event, not branch.path)
            ask.event = event
            ask.converter = Converter.of(type_)
            ask.default = default
            ask.timeout_ms = timeout_ms
            asks.append(ask)
        return asks, base


def _is_awaited(ask: object) -> bool:
    return not isinstance(ask, ChildAsk) or ask.awaited


_ONE = Asking.__dict__["_one"].__code__
"""What every call of one thing runs in."""
