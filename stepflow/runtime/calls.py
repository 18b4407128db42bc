"""The calls a body makes, and the waits in which it makes them.

An `Ask` knows what its recorded outcome means to the body: a value or an error, the same live and
on replay, because both are read from the recorded bytes. A `Wait` is one `await` of the body: on
one call, or on the many of a map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepflow.errors import (
    DivergenceError,
    EventTimeoutError,
    InvalidInputError,
    RunCancelledError,
    RunFailedError,
    RunSuspended,
    StepInterruptedError,
)
from stepflow.model.codec import PLAIN, decode_step_error
from stepflow.model.retry import RetryPolicy
from stepflow.runtime.blame import blame
from stepflow.runtime.plain import FRESH_DICT, FRESH_LIST, Plain
from stepflow.runtime.replay import Ask

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from stepflow.authoring.registry import Registry
    from stepflow.model.codec import Converter
    from stepflow.model.run import CallState
    from stepflow.runtime.session import Session

__all__ = [
    "DEFAULT_POLICY",
    "ChildAsk",
    "EventAsk",
    "FirstWait",
    "HeldWait",
    "MapWait",
    "NotifyAsk",
    "OneWait",
    "RunAsk",
    "SleepAsk",
    "StepAsk",
    "Wait",
]

INTERRUPTED = "StepInterruptedError"
DEFAULT_POLICY = RetryPolicy()
_UNREAD: Any = object()
_NO_WAIT: Any = None
_NO_FUNCTION: Any = None
"""Until the ask is awaited."""


class RunAsk(Ask):
    """A call of a run: an ask with the wait it belongs to."""

    wait: Wait = _NO_WAIT
    group: str = ""
    """Key of the `ctx.first` it is part of."""

    @property
    def alive(self) -> bool:
        return not self.wait.future.done()

    def deliver(self, outcome: CallState) -> bool:
        return self.wait.take(self, outcome)

    def read(self, outcome: CallState) -> Any:
        """Return the body's value, or raise its error. `DivergenceError`: it cannot be read."""
        raise NotImplementedError


class StepAsk(RunAsk):
    """`ctx.step`: a function to run to one recorded result."""

    func: Callable[..., Any] = _NO_FUNCTION
    call_args: tuple[Any, ...] = ()
    converter: Converter[Any] = PLAIN
    policy: RetryPolicy = DEFAULT_POLICY
    is_async: bool = True
    timeout_ms: int = 0
    relaxed: bool = False
    once: bool = False
    undo: str = ""
    decoded: Any = _UNREAD
    """The decoded copy made when the result was recorded, so that it is decoded once."""

    def deliver(self, outcome: CallState) -> bool:
        wait, decoded = self.wait, self.decoded
        if decoded is _UNREAD or type(wait) is not OneWait or outcome.status == "failed":
            return wait.take(self, outcome)
        # What `OneWait.take` does, for the result that has just been recorded.
        self.decoded = _UNREAD
        wait.answered = True
        wait.session.gate.outstanding -= 1
        wait.future.set_result(decoded)
        return True

    def read(self, outcome: CallState) -> Any:
        if outcome.status == "failed":
            error = decode_step_error(self.name, outcome.error or b"{}")
            if error.error_type == INTERRUPTED:
                raise StepInterruptedError(self.name)
            raise error
        decoded = self.decoded
        if decoded is not _UNREAD:
            self.decoded = _UNREAD
            return decoded
        try:
            return self.converter.decode(outcome.result or b"null")
        except InvalidInputError as error:
            recorded = "a result that no longer fits its annotation"
            raise DivergenceError(self.key, recorded, f"{self.fn} ({error.message})") from error


class SleepAsk(RunAsk):
    """`ctx.sleep`, `ctx.sleep_until`: `due` is decided at the first asking."""

    delay_ms: int = 0
    until_ms: int = 0

    def read(self, outcome: CallState) -> Any:
        del outcome


class EventAsk(RunAsk):
    """`ctx.wait_for_event`."""

    event: str = ""
    converter: Converter[Any] = PLAIN
    default: tuple[Any, ...] = ()
    """The one default, or nothing."""
    timeout_ms: int = 0

    def read(self, outcome: CallState) -> Any:
        if outcome.status == "failed":
            if self.default:
                return self.default[0]
            raise EventTimeoutError(self.name, self.event)
        return self.converter.decode(outcome.result or b"null")

    def accepts(self, payload: bytes) -> InvalidInputError | None:
        """Return why the wait's declared type refuses the payload, or `None`."""
        return refusal_of(self.converter, payload)


def refusal_of(converter: Converter[Any], payload: bytes) -> InvalidInputError | None:
    """Return why the converter refuses the payload, or `None`."""
    try:
        converter.decode(payload)
    except InvalidInputError as error:
        return error
    return None


class ChildAsk(RunAsk):
    """`ctx.call`, `ctx.start`."""

    workflow: str = ""
    body: bytes = b"null"
    awaited: bool = True
    converter: Converter[Any] = PLAIN
    registry: Registry | None = None
    """Where its workflow may be found by the time it ends, if it was not when it was asked for."""

    def read(self, outcome: CallState) -> Any:
        if outcome.status == "failed":
            error = decode_step_error(self.name, outcome.error or b"{}")
            if error.error_type == "RunCancelledError":
                raise RunCancelledError(outcome.child, error.message)
            raise RunFailedError(outcome.child, error.error_type, error.message, self.name)
        if self.registry is not None and (found := self.registry.get(self.workflow)) is not None:
            return found.signature.output.decode(outcome.result or b"null")
        return self.converter.decode(outcome.result or b"null")


class NotifyAsk(RunAsk):
    """`ctx.notify`."""

    event: str = ""
    payload: bytes = b"null"

    def read(self, outcome: CallState) -> Any:
        return int(outcome.result or b"0")


class Wait(Plain):
    """One `await` of the body."""

    session: Session
    asks: Sequence[RunAsk]
    future: asyncio.Future[Any]
    answered: bool = False

    @property
    def is_failed_map(self) -> bool:
        """Whether calls of it are left that nobody needs any more."""
        return False

    @property
    def may_begin(self) -> bool:
        """Whether a call of it may begin now."""
        return True

    def take(self, ask: RunAsk, outcome: CallState) -> bool:
        """Take one call's outcome; say whether it woke the body."""
        raise NotImplementedError

    def begin(self, asks: list[RunAsk]) -> list[RunAsk]:
        """Return which of these new calls may start now."""
        return asks

    def let_go(self) -> None:
        """It is over: forget its calls, which know it, so that all are free without a collector."""
        self.asks = ()

    def suspend(self) -> None:
        """The run is put to sleep: end the wait without a result."""
        if not self.future.done():
            self.future.set_exception(RunSuspended(self.session.run_id))

    def _answer(self, value: Any = None, error: BaseException | None = None) -> bool:
        self.answered = True
        self.session.gate.answered()
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)
        return True

    def _read(self, ask: RunAsk, outcome: CallState) -> tuple[Any, BaseException | None]:
        try:
            return ask.read(outcome), None
        except (Exception, DivergenceError) as error:  # noqa: BLE001  told to the body
            blame(error, ask.key)
            return None, error.with_traceback(None)


class HeldWait(Wait):
    """An await of something that is no call, while the run is paused."""

    def let_go_on(self) -> None:
        """The run goes on."""
        if not self.future.done():
            self.future.set_result(None)


class OneWait(Wait):
    """An await on one call."""

    def take(self, ask: RunAsk, outcome: CallState) -> bool:
        try:
            value = ask.read(outcome)
        except DivergenceError as error:
            self.session.actor.diverged(error)
            return False
        except Exception as error:  # noqa: BLE001  told to the body
            blame(error, ask.key)
            # Raised again in the body; where it came from here concerns nobody, and would be held.
            return self._answer(None, error.with_traceback(None))
        self.answered = True
        self.session.gate.outstanding -= 1
        self.future.set_result(value)
        return True


class MapWait(Wait):
    """An await on many calls: all results in order, or the first failure by LSN.

    The body sees nothing of the single results, so delivering one wakes nobody until the last.
    """

    limit: int = 0
    """How many may run at once; 0: all."""
    _values: dict[RunAsk, Any] = FRESH_DICT
    _running: int = 0
    _queue: list[RunAsk] = FRESH_LIST

    @property
    def is_failed_map(self) -> bool:
        return self.answered and len(self._values) < len(self.asks)

    def let_go(self) -> None:
        self.asks = ()
        self._values = {}
        self._queue = []

    def begin(self, asks: list[RunAsk]) -> list[RunAsk]:
        self._queue.extend(asks)
        return self._next()

    def _next(self) -> list[RunAsk]:
        free = (self.limit or len(self.asks)) - self._running
        ready, self._queue = self._queue[:free], self._queue[free:]
        self._running += len(ready)
        return ready

    def take(self, ask: RunAsk, outcome: CallState) -> bool:
        value, error = self._read(ask, outcome)
        if isinstance(error, DivergenceError):
            self.session.actor.diverged(error)
            return False
        if error is not None:
            return self._answer(None, error)
        self._values[ask] = value
        if len(self._values) == len(self.asks):
            return self._answer([self._values[a] for a in self.asks])
        if ask.started:
            self._running -= 1
            self.session.actor.start_ready(self._next())
        return False


class FirstWait(Wait):
    """An await on the first of several calls: which one, and its result or its error."""

    labels: Sequence[str] = ()
    """What the author calls each of them."""
    decided: bool = False
    """One has its result, recorded if not delivered yet: no other may begin."""

    @property
    def may_begin(self) -> bool:
        # One of them may end as it begins: an event was kept for it.
        return not self.decided

    def take(self, ask: RunAsk, outcome: CallState) -> bool:
        value, error = self._read(ask, outcome)
        if isinstance(error, DivergenceError):
            self.session.actor.diverged(error)
            return False
        if error is not None:
            return self._answer(None, error)
        return self._answer((self.labels[self.asks.index(ask)], value))
