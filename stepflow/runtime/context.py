"""The `Context` of one activation: it names calls and awaits them; what they do is the actor's."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepflow.authoring.context import Missing
from stepflow.authoring.options import DEFAULT_STEP, StepOptions, check_event_id, step_options
from stepflow.authoring.signature import function_name, step_function
from stepflow.errors import AuthoringError
from stepflow.model.codec import Converter, args_hash
from stepflow.model.durations import parse_duration_ms
from stepflow.model.run import FN_EVENT, FN_SLEEP
from stepflow.runtime.branches import current_branch
from stepflow.runtime.calls import EventAsk, SleepAsk, StepAsk
from stepflow.runtime.composing import Composing
from stepflow.runtime.plain_calls import PlainCalls
from stepflow.runtime.undoing import UNDO

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from stepflow.model.durations import Duration
    from stepflow.model.retry import RetryPolicy

__all__ = ["RunContext"]


class RunContext(PlainCalls, Composing):
    """Satisfies `authoring.context.Context`; its typed face is there."""

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

    @property
    def scheduled_at(self) -> datetime | None:
        start = self._actor.state.started
        if start is None or not start.schedule:
            return None
        return datetime.fromtimestamp(start.scheduled / 1000, UTC)

    # ------------------------------------------------------------ steps and waits

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
        options = DEFAULT_STEP
        if (
            retry is not None
            or timeout is not None
            or compensate is not None
            or at_most_once
            or durability != "strict"
        ):
            options = step_options(
                retry=retry,
                timeout=timeout,
                compensate=compensate,
                durability=durability,
                at_most_once=at_most_once,
            )
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
            policy=self._policy,
            is_async=known.is_async,
        )
        if options is not DEFAULT_STEP:
            self._set(ask, options)
        return self._one(ask)

    def _set(self, ask: StepAsk, options: StepOptions) -> None:
        """Set what was chosen for the step."""
        if options.retry is not None:
            ask.policy = options.retry
        ask.timeout_ms = options.timeout_ms or 0
        ask.relaxed = options.durability == "relaxed"
        ask.once = options.at_most_once
        if options.compensate is not None:
            ask.undo = function_name(options.compensate) or "?"
            if self.undo is None:
                self.undo = []
            self.undo.append((ask, options.compensate))

    def map(  # noqa: PLR0913  as many as the protocol has
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        key: Callable[[Any], str] | None = None,
        limit: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[..., object] | None = None,
        at_most_once: bool = False,
    ) -> Coroutine[Any, Any, list[Any]]:
        if limit is not None and limit < 1:
            message = f"limit is at least 1, not {limit}"
            raise AuthoringError(message)
        options = step_options(
            retry=retry, timeout=timeout, compensate=compensate, at_most_once=at_most_once
        )
        branch = self._branch()
        known = step_function(fn)
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
                policy=self._policy,
                is_async=known.is_async,
            )
            if options is not DEFAULT_STEP:
                self._set(ask, options)
            asks.append(ask)
        return self._many(asks, limit)

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
            for ask, undo in self.undo or ()
            if ask.key in calls
            and calls[ask.key].status == "completed"
            and calls[ask.key].lsn < until
        ]
        done.sort(key=lambda row: -row[0])
        self.undo = None
        return [(ask.name, undo, ask.call_args) for _, ask, undo in done]
