"""What a workflow sees: the `Context`. Read this to write workflows.

Rules of thumb

- Whatever touches the world goes into a step: a step's result is recorded once and, after that, its
  function never runs again. The body around the steps may run many times.
- Steps are known by name. A name used again is counted within its asyncio task; a loop or fan-out
  over data that may change uses `key=` or `ctx.map`.
- Ordinary asyncio is safe: `gather`, `TaskGroup`, `wait`, `wait_for`. For durable waits use their
  own `timeout=`; `asyncio.timeout` counts this process's time.
- A `finally` block also runs when a run is put to sleep or the process stops: effects belong into
  steps.
"""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NoReturn,
    Protocol,
    TypeVar,
    TypeVarTuple,
    overload,
)

if TYPE_CHECKING:
    import logging
    import uuid
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from datetime import datetime

    from stepflow.model.durations import Duration
    from stepflow.model.retry import RetryPolicy

__all__ = ["Context", "Durability", "First", "Missing"]

T = TypeVar("T")
D = TypeVar("D")
I = TypeVar("I")  # noqa: E741  an item
Ts = TypeVarTuple("Ts")

Durability = Literal["strict", "relaxed"]


class Missing:
    """The type of a default that was not given."""


class First(NamedTuple, Generic[T]):
    """What `ctx.first` gives: which of the calls was first, by its keyword, and what it gave."""

    name: str
    value: T


class Context(Protocol):
    """One run, as its workflow sees it."""

    @property
    def run_id(self) -> str:
        """The run's id, `run_…`."""
        ...

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        ...

    @property
    def attempt(self) -> int:
        """How often the run was started, from 1: an operator's retry counts, a restart does not."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """The run's tags."""
        ...

    @property
    def scheduled_at(self) -> datetime | None:
        """The time for which a schedule started the run, in UTC; None for any other run."""
        ...

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries the run's id and is silent while recorded results are replayed."""
        ...

    # ------------------------------------------------------------ awaited

    # `step` and `map` are plain methods that allot the key when they are called and return a
    # coroutine; written as `async def`, mypy keeps their types through `asyncio.gather`.

    @overload
    async def step(
        self,
        name: str,
        fn: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        key: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[[*Ts], object] | None = None,
        durability: Durability = "strict",
        at_most_once: bool = False,
    ) -> T: ...

    @overload
    async def step(
        self,
        name: str,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        key: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[[*Ts], object] | None = None,
        durability: Durability = "strict",
        at_most_once: bool = False,
    ) -> T: ...

    async def step(
        self,
        name: str,
        fn: Callable[[*Ts], Any],
        *args: *Ts,
        key: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[[*Ts], object] | None = None,
        durability: Durability = "strict",
        at_most_once: bool = False,
    ) -> Any:
        """Run `fn(*args)` to one recorded result and return it; on replay, return the recorded one.

        An async `fn` runs in the loop, a sync one in a thread. It runs at least once: after a crash
        an attempt whose result was not recorded runs again, under the same idempotency key
        (`stepflow.current_step()`). The result is what JSON gives back by `fn`'s return annotation.

        `retry`: the workflow's policy unless given. `timeout`: of one attempt. `compensate`: called
        with the same arguments, last step first, when the run fails or is cancelled later.
        `durability="relaxed"`, for pure functions, lets the next step start before the result is on
        disk. `at_most_once` records the start first and never runs again after a crash, nor while
        an attempt that timed out goes on; an attempt that is known to have failed is retried.

        Raises `StepFailedError` after the last attempt, live and on replay alike;
        `StepInterruptedError` for an at-most-once step that a crash cut; `AuthoringError` for a bad
        name or a key that was used before.
        """
        ...

    @overload
    async def map(
        self,
        name: str,
        fn: Callable[[I], Awaitable[T]],
        items: Iterable[I],
        *,
        key: Callable[[I], str] | None = None,
        limit: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[[I], object] | None = None,
        at_most_once: bool = False,
    ) -> list[T]: ...

    @overload
    async def map(
        self,
        name: str,
        fn: Callable[[I], T],
        items: Iterable[I],
        *,
        key: Callable[[I], str] | None = None,
        limit: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[[I], object] | None = None,
        at_most_once: bool = False,
    ) -> list[T]: ...

    async def map(  # noqa: PLR0913  the options of `step` and its own
        self,
        name: str,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        key: Callable[[Any], str] | None = None,
        limit: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        compensate: Callable[[Any], object] | None = None,
        at_most_once: bool = False,
    ) -> list[Any]:
        """Run a step for each item, at most `limit` at once, and return the results in order.

        Each is keyed by its position, or by `key(item)` so that the list may change while the run
        is in flight. The first failure is raised, as `step` raises it; the others are given up.
        The options are those of `step`, for each item: `compensate(item)` is called for those that
        were completed, in the reverse order of their ends.
        """
        ...

    def sleep(self, name: str, duration: Duration) -> Coroutine[Any, Any, None]:
        """Sleep durably: a restart does not begin it anew."""
        ...

    def sleep_until(self, name: str, when: datetime) -> Coroutine[Any, Any, None]:
        """Sleep until an aware datetime; one in the past returns at once."""
        ...

    @overload
    def wait_for_event(
        self, name: str, event_id: str | None = None, *, timeout: Duration | None = "24h"
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def wait_for_event(
        self,
        name: str,
        event_id: str | None = None,
        *,
        timeout: Duration | None = "24h",
        type: type[T],
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def wait_for_event(
        self,
        name: str,
        event_id: str | None = None,
        *,
        timeout: Duration | None = "24h",
        type: type[T],
        default: D,
    ) -> Coroutine[Any, Any, T | D]: ...

    @overload
    def wait_for_event(
        self,
        name: str,
        event_id: str | None = None,
        *,
        timeout: Duration | None = "24h",
        default: D,
    ) -> Coroutine[Any, Any, Any | D]: ...

    def wait_for_event(
        self,
        name: str,
        event_id: str | None = None,
        *,
        timeout: Duration | None = "24h",
        type: Any = Any,
        default: Any = Missing,
    ) -> Coroutine[Any, Any, Any]:
        """Wait for an event and return its payload, as `type`. `event_id` defaults to `name`.

        Raises `EventTimeoutError` after `timeout`, or returns `default` where one is given;
        `timeout=None` waits for ever. An event that the workflow declared (`events=[…]`) or that
        was addressed to the run is kept until it is waited for.
        """
        ...

    @overload
    def wait_for_any(
        self, name: str, event_ids: Sequence[str], *, timeout: Duration | None = "24h"
    ) -> Coroutine[Any, Any, First[Any]]: ...

    @overload
    def wait_for_any(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        type: type[T],
    ) -> Coroutine[Any, Any, First[T]]: ...

    def wait_for_any(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        type: Any = Any,
    ) -> Coroutine[Any, Any, First[Any]]:
        """Wait for the first of several events: its id, as `.name`, and its payload, as `.value`.

        Only that one is taken: what is kept for the others, or comes later, waits for the next
        wait. Raises `EventTimeoutError` when none has come within `timeout`.
        """
        ...

    @overload
    def wait_for_all(
        self, name: str, event_ids: Sequence[str], *, timeout: Duration | None = "24h"
    ) -> Coroutine[Any, Any, dict[str, Any]]: ...

    @overload
    def wait_for_all(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        type: type[T],
    ) -> Coroutine[Any, Any, dict[str, T]]: ...

    @overload
    def wait_for_all(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        type: type[T],
        default: D,
    ) -> Coroutine[Any, Any, dict[str, T | D]]: ...

    @overload
    def wait_for_all(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        default: D,
    ) -> Coroutine[Any, Any, dict[str, Any | D]]: ...

    def wait_for_all(
        self,
        name: str,
        event_ids: Sequence[str],
        *,
        timeout: Duration | None = "24h",
        type: Any = Any,
        default: Any = Missing,
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Wait for each of several events, in any order: their payloads by id.

        When one has not come within `timeout`, raises `EventTimeoutError` naming it, or gives
        `default` for those that are missing: what has come is then not lost.
        """
        ...

    async def first(self, **calls: Awaitable[T]) -> First[T]:
        """Wait for the first of several calls of `ctx` to end, and give the others up.

        Takes steps, sleeps, waits and `ctx.call`s, each as it is called, not awaited before::

            name, value = await ctx.first(
                paid=ctx.wait_for_event("paid", f"paid-{order.id}", timeout=None),
                late=ctx.sleep("patience", "3d"),
            )

        Which one has won is recorded. What the others come to later is not: a step is cancelled, a
        child too, an event goes to the next wait for it. When the first to end has failed, its
        error is raised. The run can be put to sleep meanwhile, unlike under `asyncio.wait`.
        """
        ...

    def notify(self, event_id: str, payload: object = None) -> Coroutine[Any, Any, int]:
        """Send an event to other runs, once; return how many it reached. Nobody there: 0."""
        ...

    def call(
        self, workflow: str | Callable[..., Any], input: object = None, name: str | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Run another workflow as a child and return its result.

        A cancel of this run reaches the child; so does a cancel of the wait for it, and this run's
        end: a child whose end nobody would hear of is cancelled. `ctx.start` leaves it running.

        Raises `RunFailedError` or `RunCancelledError`, as the child ended. `name` defaults to the
        workflow's id. A child whose workflow is not registered any more is waited for until it is.
        """
        ...

    def start(
        self, workflow: str | Callable[..., Any], input: object = None, name: str | None = None
    ) -> Coroutine[Any, Any, str]:
        """Start another workflow's run, leave it running, and return its id."""
        ...

    async def restart(self, input: object = None) -> NoReturn:
        """End this run's history and go on with a fresh one: the same run, with another input.

        For loops without an end: what a run has recorded is replayed whenever it is woken, so it
        must not grow for ever. Steps, values and compensations of before are forgotten; what runs
        or is awaited is given up. The run's id, tags, idempotency key and parent stay, events that
        are kept for it too, and its stream goes on. Nothing after this call is reached.
        """
        ...

    def emit(
        self, name: str, data: object = None, *, durable: bool = True
    ) -> Coroutine[Any, Any, None]:
        """Put a live event on the run's stream.

        With `durable=False` it goes to those who read the stream now: it has no id, is not replayed
        and kept nowhere. While the body is replayed it is not told again.
        """
        ...

    # ------------------------------------------------------------ plain calls

    def now(self) -> datetime:
        """Return the time, aware, in UTC; on replay the same."""
        ...

    def random(self) -> float:
        """Return a random number in [0, 1); on replay the same."""
        ...

    def uuid(self) -> uuid.UUID:
        """Return a random UUID; on replay the same."""
        ...

    def version(self, name: str, n: int) -> int:
        """Choose between old and new code, once a run: `n`, or what the run chose before.

        For a change that names cannot carry. A run that begins with this code, or comes to this
        call for the first time, gets `n`; one that had passed this place before there was such a
        call gets 1::

            if ctx.version("tax", 2) >= 2:
                await ctx.step("tax", new_tax, order)
            else:
                await ctx.step("tax", old_tax, order)

        When the run has chosen more than `n`, the code is too old for it: `DivergenceError`.
        """
        ...

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the run is, on its stream."""
        ...
