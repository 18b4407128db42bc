"""The `Context` of one activation: it names calls and awaits them; what they do is the actor's."""

from __future__ import annotations

import logging
import math
import uuid as _uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Raw

from stepflow.authoring.context import Missing
from stepflow.authoring.options import check_event_id, check_key, check_name
from stepflow.authoring.signature import function_name, step_function
from stepflow.errors import AuthoringError, WorkflowNotFoundError
from stepflow.model import records as rec
from stepflow.model.codec import Converter, args_hash, encode
from stepflow.model.durations import parse_duration_ms
from stepflow.model.run import FN_CHILD, FN_EVENT, FN_NOTIFY, FN_SLEEP
from stepflow.runtime.branches import Branch, current_branch
from stepflow.runtime.calls import (
    DEFAULT_POLICY,
    ChildAsk,
    EventAsk,
    MapWait,
    NotifyAsk,
    OneWait,
    RunAsk,
    SleepAsk,
    StepAsk,
    Wait,
)
from stepflow.runtime.ending import check_emitted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from stepflow.authoring.registry import Workflow
    from stepflow.model.durations import Duration
    from stepflow.model.records import Kind
    from stepflow.model.retry import RetryPolicy
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.session import Session

__all__ = ["UNDO", "RunContext"]

_A = TypeVar("_A", bound=RunAsk)

UNDO = "undo:"
"""What the names of the steps begin with that undo others."""
_base_log = logging.getLogger("stepflow.workflow")


class _RunLog(logging.LoggerAdapter[logging.Logger]):
    """Silent while recorded results are replayed."""

    def __init__(self, session: Session, workflow_id: str) -> None:
        super().__init__(_base_log, {"run_id": session.run_id, "workflow_id": workflow_id})
        self._session = session

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  logging's name
        return not self._session.gate.replaying and super().isEnabledFor(level)


class RunContext:
    """Satisfies `authoring.context.Context`; its typed face is there."""

    def __init__(self, actor: RunActor, session: Session, workflow: Workflow) -> None:
        self._actor = actor
        self._session = session
        self._workflow = workflow
        self._policy = workflow.options.retry or DEFAULT_POLICY
        self._keys: set[str] = set()
        self.undo: list[tuple[StepAsk, Callable[..., Any]]] = []
        """Steps of this activation that have a compensation."""
        self._log: _RunLog | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        if self._log is None:
            self._log = _RunLog(self._session, self._workflow.id)
        return self._log

    # ------------------------------------------------------------ who

    @property
    def run_id(self) -> str:
        return self._actor.id

    @property
    def workflow_id(self) -> str:
        return self._workflow.id

    @property
    def attempt(self) -> int:
        return 1

    @property
    def tags(self) -> tuple[str, ...]:
        start = self._actor.state.started
        return start.tags if start is not None else ()

    # ------------------------------------------------------------ naming

    def _branch(self) -> Branch:
        return current_branch(self._session)

    def _key(self, branch: Branch, name: str, key: str | None) -> str:
        """Allot the step key of a call: counted in its branch, or the author's own."""
        check_name(name)
        if key is None:
            return branch.key(name)
        check_key(key)
        own = f"{name}[{key}]"
        if own in self._keys:
            message = f"key {key!r} was used before for {name!r} in this run; a key names one call"
            raise AuthoringError(message)
        self._keys.add(own)
        return own

    def _ask(
        self,
        cls: type[_A],
        kind: Kind,
        name: str,
        fn: str,
        args: str,
        key: str | None = None,
    ) -> _A:
        branch = self._branch()
        step_key = self._key(branch, name, key)
        return cls(step_key, name, kind, fn, args, key is not None or not branch.path)

    # ------------------------------------------------------------ awaiting

    async def _one(self, ask: RunAsk) -> Any:
        session = self._session
        if session.fenced:
            await session.refuse()
        asks = [ask]
        ask.wait = wait = OneWait(session, asks, session.loop.create_future())
        session.plain_calls = 0
        session.waits.add(wait)
        try:
            session.gate.ask(asks)
            return await wait.future
        finally:
            session.waits.discard(wait)
            if not wait.answered:
                session.gate.forget(asks)
                self._actor.give_up(asks)
            # The call knows its wait, and an error's frames know both: cut, so that all are free
            # without the collector, which counts objects and not how large they are.
            wait.asks = ()
            del ask, asks, wait

    async def _wait(self, wait: Wait) -> Any:
        session = self._session
        session.plain_calls = 0
        session.waits.add(wait)
        try:
            session.gate.ask(wait.asks)
            return await wait.future
        finally:
            session.waits.discard(wait)
            if not wait.answered:
                session.gate.forget(wait.asks)
                self._actor.give_up(wait.asks)
            elif wait.is_failed_map:
                session.gate.drop(wait.asks)
                self._actor.give_up(wait.asks)
            wait.let_go()
            del wait

    def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        key: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[..., object] | None = None,
        durability: str = "strict",
        at_most_once: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        if durability not in {"strict", "relaxed"}:
            message = f"durability is 'strict' or 'relaxed', not {durability!r}"
            raise AuthoringError(message)
        known = step_function(fn)
        branch = current_branch(self._session)
        ask = StepAsk(
            self._key(branch, name, key),
            name,
            "step",
            known.name,
            args_hash(args),
            key is not None or not branch.path,
            func=fn,
            call_args=args,
            converter=known.converter,
            policy=retry or self._policy,
            is_async=known.is_async,
        )
        if timeout is not None:
            ask.timeout_ms = parse_duration_ms(timeout)
        if durability == "relaxed":
            ask.relaxed = True
        if at_most_once:
            ask.once = True
        if compensate is not None:
            ask.undo = function_name(compensate) or "?"
            self.undo.append((ask, compensate))
        return self._one(ask)

    def map(
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        key: Callable[[Any], str] | None = None,
        limit: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:
        if limit is not None and limit < 1:
            message = f"limit is at least 1, not {limit}"
            raise AuthoringError(message)
        branch = self._branch()
        timeout_ms = 0 if timeout is None else parse_duration_ms(timeout)
        known = step_function(fn)
        policy = retry or self._policy
        asks: list[StepAsk] = []
        # One map is one name: its items are keyed below it, by position or by the author.
        base = None if key is not None else self._key(branch, name, None)
        for position, item in enumerate(items):
            step_key = f"{base}.{position}" if key is None else self._key(branch, name, key(item))
            args = (item,)
            ask = StepAsk(
                step_key,
                name,
                "step",
                known.name,
                args_hash(args),
                key is not None or not branch.path,
                func=fn,
                call_args=args,
                converter=known.converter,
                policy=policy,
                is_async=known.is_async,
                timeout_ms=timeout_ms,
            )
            asks.append(ask)
        return self._map(asks, limit)

    async def _map(self, asks: Sequence[StepAsk], limit: int | None) -> list[Any]:
        if not asks:
            return []
        session = self._session
        if session.fenced:
            await session.refuse()
        wait = MapWait(session, asks, session.loop.create_future(), limit=limit or 0)
        for ask in asks:
            ask.wait = wait
        results: list[Any] = await self._wait(wait)
        return results

    def sleep(self, name: str, duration: Duration) -> Coroutine[Any, Any, None]:
        ask = self._ask(SleepAsk, "sleep", name, FN_SLEEP, "")
        ask.delay_ms = parse_duration_ms(duration)
        ask.until_ms = 0
        return self._one(ask)

    def sleep_until(self, name: str, when: datetime) -> Coroutine[Any, Any, None]:
        if when.tzinfo is None:
            message = "sleep_until takes an aware datetime; give it a time zone"
            raise AuthoringError(message)
        ask = self._ask(SleepAsk, "sleep", name, FN_SLEEP, "")
        ask.delay_ms = 0
        # Rounded up: a timer never fires early.
        ask.until_ms = max(1, -int(-when.timestamp() * 1000 // 1))
        return self._one(ask)

    def wait_for_event(
        self,
        name: str,
        event_id: str | None = None,
        *,
        timeout: Duration | None = "24h",
        type: Any = Any,
        default: Any = Missing,
    ) -> Coroutine[Any, Any, Any]:
        event = name if event_id is None else event_id
        check_event_id(event)
        ask = self._ask(EventAsk, "event", name, FN_EVENT, event)
        ask.event = event
        ask.converter = Converter.of(type)
        ask.default = () if default is Missing else (default,)
        ask.timeout_ms = 0 if timeout is None else max(1, parse_duration_ms(timeout))
        return self._one(ask)

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
        if isinstance(workflow, str) and self._was_called(workflow):
            return self._known_child(workflow, value, name, awaited=awaited)
        child = self._actor.sup.registry.find(workflow)
        body = child.signature.input.encode(value, "input")
        # Refused here, where the body hears of it, and before anything is recorded.
        child.signature.arguments(body)
        child.event_ids(body)
        fn = f"{FN_CHILD}:{child.id}"
        ask = self._ask(ChildAsk, "child", name or child.id, fn, args_hash((value,)))
        ask.workflow = child.id
        ask.body = body
        ask.awaited = awaited
        ask.converter = child.signature.output if awaited else Converter.of(str)
        return self._one(ask)

    def _was_called(self, workflow: str) -> bool:
        """Whether children of a workflow that is not registered any more are recorded as ended."""
        if self._actor.sup.workflow(workflow) is not None:
            return False
        fn = f"{FN_CHILD}:{workflow}"
        calls = self._actor.state.calls.values()
        return any(call.fn == fn and call.status != "pending" for call in calls)

    def _known_child(
        self, workflow: str, value: object, name: str | None, *, awaited: bool
    ) -> Coroutine[Any, Any, Any]:
        """Ask for a child whose workflow has gone: only what is recorded of it can be had."""
        fn = f"{FN_CHILD}:{workflow}"
        ask = self._ask(ChildAsk, "child", name or workflow, fn, args_hash((value,)))
        known = self._actor.state.calls.get(ask.key)
        if known is None or known.status == "pending":
            message = f"Workflow {workflow!r} is not registered"
            raise WorkflowNotFoundError(message)
        ask.workflow = workflow
        ask.body = b"null"
        ask.awaited = awaited
        ask.converter = Converter.of(Any)
        return self._one(ask)

    def emit(self, name: str, data: object = None) -> Coroutine[Any, Any, None]:
        check_name(name)
        key = self._branch().key(f"@emit:{name}")
        return self._emit(key, name, encode(data, "data"))

    async def _emit(self, key: str, name: str, data: bytes) -> None:
        if self._session.fenced:
            await self._session.refuse()
        if key not in self._actor.state.marks:
            check_emitted(self._actor, data)
            self._actor.sup.recorder.write(
                self._actor, rec.Emitted, key=key, name=name, data=Raw(data)
            )

    # ------------------------------------------------------------ plain calls

    def _plain(self, name: str) -> str:
        session = self._session
        key = self._branch().key(name)
        session.plain_calls += 1
        bound = self._actor.sup.settings.plain_calls_max
        if session.plain_calls > bound:
            message = (
                f"more than {bound} calls of now, random, uuid or progress between two awaits; "
                "put the loop into a step"
            )
            raise AuthoringError(message)
        return key

    def _value(self, name: str, make: Callable[[], bytes]) -> bytes:
        key = self._plain(name)
        known = self._actor.state.values.get(key)
        if known is not None:
            return known
        data = make()
        if not self._session.fenced:
            self._actor.sup.recorder.write(self._actor, rec.ValueRecorded, key=key, value=Raw(data))
        return data

    def now(self) -> datetime:
        time = self._actor.sup.time
        milliseconds = int(self._value("@now", lambda: b"%d" % time.now_ms()))
        return datetime.fromtimestamp(milliseconds / 1000, UTC)

    def random(self) -> float:
        entropy = self._actor.sup.entropy
        return float(
            msgspec.json.decode(
                self._value("@random", lambda: msgspec.json.encode(entropy.random())), type=float
            )
        )

    def uuid(self) -> _uuid.UUID:
        entropy = self._actor.sup.entropy

        def make() -> bytes:
            return msgspec.json.encode(_uuid.UUID(int=entropy.getrandbits(128), version=4))

        return msgspec.json.decode(self._value("@uuid", make), type=_uuid.UUID)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        key = self._plain("@progress")
        if key not in self._actor.state.marks and not self._session.fenced:
            self._actor.sup.recorder.write(
                self._actor,
                rec.Progressed,
                key=key,
                done=done,
                total=total,
                message=message,
            )

    # ------------------------------------------------------------ compensation

    def undo_order(self) -> list[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
        """Return what undoes the completed steps, last completed first.

        On replay those alone that were completed when the first of them was undone: what the
        records hold from later on was not to be seen then.
        """
        calls = self._actor.state.calls
        until = min((c.begun for c in calls.values() if c.name.startswith(UNDO)), default=math.inf)
        done = [
            (calls[ask.key].lsn, ask, undo)
            for ask, undo in self.undo
            if ask.key in calls
            and calls[ask.key].status == "completed"
            and calls[ask.key].lsn < until
        ]
        done.sort(key=lambda row: -row[0])
        self.undo.clear()
        return [(ask.name, undo, ask.call_args) for _, ask, undo in done]
