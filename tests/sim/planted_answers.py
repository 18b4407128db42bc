"""Planted bugs of what callers are told: answers, streams, lists, keys, time."""

from __future__ import annotations

from contextlib import ExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from stepflow.clock import HybridTime
from stepflow.engine.local import LocalEngine
from stepflow.journal.api import Journal
from stepflow.model.views import RunEvent
from stepflow.runtime import hub
from stepflow.runtime.hub import Hub
from stepflow.runtime.idempotency import IdempotencyKeys
from tests.sim.patching import definer, replaced
from tests.sim.planted import Ran, planted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_hasty: ContextVar[bool] = ContextVar("hasty", default=False)


def _answers_at_once(method: str, ran: Ran) -> AbstractContextManager[Any]:
    """Let a method of the engine answer without waiting for the disk."""
    durable: Any = vars(Journal)["durable"]
    room = definer(LocalEngine, method)
    real: Any = vars(room)[method]

    async def waits(self: Journal, lsn: int) -> None:
        if not _hasty.get():
            await durable(self, lsn)
        elif lsn > self.durable_lsn:
            ran()

    async def broken(self: LocalEngine, *args: Any, **options: Any) -> Any:
        token = _hasty.set(True)
        try:
            return await real(self, *args, **options)
        finally:
            _hasty.reset(token)

    stack = ExitStack()
    stack.enter_context(replaced(Journal, "durable", waits))
    stack.enter_context(replaced(room, method, broken))
    return stack


# ---------------------------------------------------------------- answers before their sync


@planted()
def trigger_answered_before_sync(ran: Ran) -> Any:
    """A run is acknowledged that is not on disk."""
    return _answers_at_once("trigger", ran)


@planted("keys")
def idempotency_answer_before_sync(ran: Ran) -> Any:
    """The second trigger under a key is told of a run that is not on disk."""
    return _answers_at_once("_same_run", ran)


@planted("events")
def notify_answered_before_sync(ran: Ran) -> Any:
    """An event is acknowledged that is not on disk."""
    return _answers_at_once("notify", ran)


@planted("keys")
def cancel_answered_before_sync(ran: Ran) -> Any:
    """A cancel is acknowledged that is not on disk."""
    return _answers_at_once("cancel", ran)


@planted("purge")
def purge_answered_before_sync(ran: Ran) -> Any:
    """A purge is acknowledged that is not on disk."""
    return _answers_at_once("purge", ran)


@planted("answers")
def read_before_sync(ran: Ran) -> Any:
    """A run is shown with what is not on disk."""
    return _answers_at_once("get_run", ran)


@planted("answers")
def list_before_sync(ran: Ran) -> Any:
    """A list shows what is not on disk."""
    return _answers_at_once("list_runs", ran)


# ---------------------------------------------------------------- streams


@planted("streams")
def result_published_before_sync(ran: Ran) -> Any:
    """A stream shows events whose records are not on disk."""

    def durable(self: Any) -> int:
        ran()
        return 1 << 60

    return replaced(Hub, "durable_lsn", property(durable))


@planted()
def event_id_given_twice(ran: Ran) -> Any:
    """Two events of a run get the same id."""
    real: Any = vars(hub)["event_of"]

    def broken(record: Any, payloads: Any) -> RunEvent | None:
        event: RunEvent | None = real(record, payloads)
        if event is None or event.id < 3:
            return event
        ran()
        return RunEvent(event.id & ~1, event.event, event.data, event.lsn)

    return replaced(hub, "event_of", broken)


def _joins_elsewhere(by: int, ran: Ran) -> Any:
    join = Hub.join

    def broken(self: Hub, actor: Any, position: int, extra: Any = None) -> Any:
        if position:
            ran()
            position = max(0, position + by)
        return join(self, actor, position, extra)

    return replaced(Hub, "join", broken)


@planted("streams")
def stream_resumes_too_late(ran: Ran) -> Any:
    """A stream that is resumed leaves the next events out."""
    return _joins_elsewhere(2, ran)


@planted("streams")
def stream_resumes_too_early(ran: Ran) -> Any:
    """A stream that is resumed shows the last event once more."""
    return _joins_elsewhere(-1, ran)


@planted()
def subscriber_not_woken(ran: Ran) -> Any:
    """Subscribers hear of nothing that comes after their first look."""

    def commit(self: Hub, durable_lsn: int) -> None:
        ran()

    return replaced(Hub, "commit", commit)


# ---------------------------------------------------------------- keys and time


@planted()
def idempotency_key_forgotten(ran: Ran) -> Any:
    """A key is not found again after a restart."""

    add = IdempotencyKeys.add

    def broken(self: IdempotencyKeys, summary: Any, run_id: str) -> None:
        if summary.idem and not len(self) % 2:
            ran()
            return
        add(self, summary, run_id)

    return replaced(IdempotencyKeys, "add", broken)


@planted()
def clock_taken_from_the_wall(ran: Ran) -> Any:
    """Records and timers go by a clock that jumps."""

    def now_ms(self: Any) -> int:
        ran()
        return int(self._wall_ms())

    return replaced(HybridTime, "now_ms", now_ms)


@planted()
def time_of_the_journal_forgotten(ran: Ran) -> Any:
    """After a restart time may go on before the last record."""

    def observe(self: Any, ts_ms: int) -> None:
        ran()

    return replaced(HybridTime, "observe", observe)
