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
from stepflow.model.codec import decode_step_error
from stepflow.runtime.replay import Ask

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from stepflow.model.codec import Converter
    from stepflow.model.retry import RetryPolicy
    from stepflow.model.run import CallState
    from stepflow.runtime.session import Session

__all__ = [
    "ChildAsk",
    "EventAsk",
    "MapWait",
    "NotifyAsk",
    "OneWait",
    "RunAsk",
    "SleepAsk",
    "StepAsk",
    "Wait",
]

INTERRUPTED = "StepInterruptedError"


class RunAsk(Ask):
    """A call of a run: an ask with the wait it belongs to."""

    __slots__ = ("wait",)

    wait: Wait

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

    __slots__ = (
        "call_args",
        "converter",
        "decoded",
        "func",
        "once",
        "policy",
        "relaxed",
        "timeout_ms",
        "undo",
    )

    def prepare(
        self,
        func: Callable[..., Any],
        call_args: tuple[Any, ...],
        converter: Converter[Any],
        policy: RetryPolicy,
        timeout_ms: int,
        *,
        relaxed: bool = False,
        once: bool = False,
        undo: str = "",
    ) -> StepAsk:
        """Set what running the step needs."""
        self.func = func
        self.call_args = call_args
        self.converter = converter
        self.policy = policy
        self.timeout_ms = timeout_ms
        self.relaxed = relaxed
        self.once = once
        self.undo = undo
        self.decoded: list[Any] = []
        """The decoded copy made when the result was recorded, so that it is decoded once."""
        return self

    def read(self, outcome: CallState) -> Any:
        if outcome.status == "failed":
            error = decode_step_error(self.name, outcome.error or b"{}")
            if error.error_type == INTERRUPTED:
                raise StepInterruptedError(self.name)
            raise error
        if self.decoded:
            return self.decoded.pop()
        try:
            return self.converter.decode(outcome.result or b"null")
        except InvalidInputError as error:
            recorded = "a result that no longer fits its annotation"
            raise DivergenceError(self.key, recorded, f"{self.fn} ({error.message})") from error


class SleepAsk(RunAsk):
    """`ctx.sleep`, `ctx.sleep_until`: `due` is decided at the first asking."""

    __slots__ = ("delay_ms", "until_ms")

    delay_ms: int
    until_ms: int

    def read(self, outcome: CallState) -> Any:
        del outcome


class EventAsk(RunAsk):
    """`ctx.wait_for_event`."""

    __slots__ = ("converter", "default", "event", "timeout_ms")

    converter: Converter[Any]
    default: tuple[Any, ...]
    """The one default, or nothing."""
    event: str
    timeout_ms: int

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

    __slots__ = ("awaited", "body", "converter", "workflow")

    awaited: bool
    body: bytes
    converter: Converter[Any]
    workflow: str

    def read(self, outcome: CallState) -> Any:
        if outcome.status == "failed":
            error = decode_step_error(self.name, outcome.error or b"{}")
            if error.error_type == "RunCancelledError":
                raise RunCancelledError(outcome.child, error.message)
            raise RunFailedError(outcome.child, error.error_type, error.message, self.name)
        return self.converter.decode(outcome.result or b"null")


class NotifyAsk(RunAsk):
    """`ctx.notify`."""

    __slots__ = ("event", "payload")

    event: str
    payload: bytes

    def read(self, outcome: CallState) -> Any:
        return int(outcome.result or b"0")


class Wait:
    """One `await` of the body."""

    __slots__ = ("answered", "asks", "future", "session")

    def __init__(self, session: Session, asks: Sequence[RunAsk]) -> None:
        self.session = session
        self.asks = asks
        self.answered = False
        self.future: asyncio.Future[Any] = session.loop.create_future()
        for ask in asks:
            ask.wait = self

    @property
    def is_failed_map(self) -> bool:
        """Whether calls of it are left that nobody needs any more."""
        return False

    def take(self, ask: RunAsk, outcome: CallState) -> bool:
        """Take one call's outcome; say whether it woke the body."""
        raise NotImplementedError

    def begin(self, asks: list[RunAsk]) -> list[RunAsk]:
        """Return which of these new calls may start now."""
        return asks

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
            return None, error


class OneWait(Wait):
    """An await on one call."""

    __slots__ = ()

    def take(self, ask: RunAsk, outcome: CallState) -> bool:
        value, error = self._read(ask, outcome)
        if isinstance(error, DivergenceError):
            self.session.actor.diverged(error)
            return False
        return self._answer(value, error)


class MapWait(Wait):
    """An await on many calls: all results in order, or the first failure by LSN.

    The body sees nothing of the single results, so delivering one wakes nobody until the last.
    """

    __slots__ = ("_left", "_limit", "_queue", "_running", "_values")

    def __init__(self, session: Session, asks: Sequence[RunAsk], limit: int | None) -> None:
        super().__init__(session, asks)
        self._values: dict[RunAsk, Any] = {}
        self._left = len(asks)
        self._limit = limit or len(asks)
        self._running = 0
        self._queue: list[RunAsk] = []

    @property
    def is_failed_map(self) -> bool:
        return self.answered and self._left > 0

    def begin(self, asks: list[RunAsk]) -> list[RunAsk]:
        self._queue.extend(asks)
        return self._next()

    def _next(self) -> list[RunAsk]:
        free = self._limit - self._running
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
        self._left -= 1
        if not self._left:
            return self._answer([self._values[a] for a in self.asks])
        if ask.started:
            self._running -= 1
            self.session.actor.start_ready(self._next())
        return False
