"""What a run and its steps emit: within the run's bounds, no faster than the disk takes it.

An emit is recorded in the turn that asks for it, and an async caller goes on in the next pass of
the loop. Only when more than `AHEAD` events, or `AHEAD_BYTES` of them, of one run are not on disk
does the caller wait until its own is. A caller in a thread waits for the loop in any case: so it
hears of what is refused, and cannot fill the loop's queue.

What is not durable is no record: it goes to those who read the run's stream now, and when nobody
does, nothing at all is done.
"""

from __future__ import annotations

from concurrent import futures
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from stepflow.errors import StepInterruptedError
from stepflow.model import records as rec
from stepflow.model.views import passing_emit
from stepflow.runtime.ending import check_emitted, check_event_size

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

    from stepflow.runtime.session import Session

__all__ = ["AHEAD", "AHEAD_BYTES", "Told", "is_ahead", "pass_on", "record_emit"]
__all__ += ["tell_thread", "wait_for_disk"]

AHEAD = 256
AHEAD_BYTES = 256 * 1024
_LOOK_S = 1.0
"""So often a thread that waits for the loop looks whether there still is one."""


def record_emit(session: Session, key: str, name: str, data: bytes, *, lazy: bool) -> None:
    """Record the event. Raises what `check_emitted` does, with nothing recorded."""
    actor = session.actor
    check_emitted(actor, data)
    sup = actor.sup
    if session.ahead and sup.journal.durable_lsn >= session.ahead_lsn:
        session.ahead = session.ahead_bytes = 0
    sup.recorder.write(actor, rec.Emitted, lazy=lazy, key=key, name=name, data=Raw(data))
    session.ahead += 1
    session.ahead_bytes += len(data)
    session.ahead_lsn = sup.journal.last_lsn


def pass_on(session: Session, name: str, data: bytes, step: str = "", attempt: int = 0) -> None:
    """Tell whoever reads the run's stream now, and keep nothing. Raises for what is too large."""
    actor = session.actor
    check_event_size(actor, data)
    hub = actor.sup.hub
    if hub.is_heard(actor):
        hub.tell(actor, passing_emit(name, data, step, attempt))


def is_ahead(session: Session) -> bool:
    """Whether the run emits faster than the disk takes it."""
    if session.ahead <= AHEAD and session.ahead_bytes <= AHEAD_BYTES:
        return False
    return session.ahead_lsn > session.actor.sup.journal.durable_lsn


async def wait_for_disk(session: Session) -> None:
    """Return when what the run has emitted so far is on disk."""
    done = session.loop.create_future()
    _when_on_disk(session, partial(_settle, done))
    await done


def _when_on_disk(session: Session, told: Callable[[BaseException | None], None]) -> None:
    journal = session.actor.sup.journal
    journal.hurry(session.ahead_lsn)
    journal.when_durable(session.ahead_lsn, told)


def _settle(done: asyncio.Future[None] | futures.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Told:
    """What has been emitted already: to be awaited, so that the loop goes on, or not."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __await__(self) -> Generator[Any, Any, None]:
        # One pass of the loop: a body that emits without end must not hold it.
        yield
        if is_ahead(self._session):
            yield from wait_for_disk(self._session).__await__()


def tell_thread(session: Session, name: str, emit: Callable[[], None]) -> None:
    """Call `emit` on the loop and wait, in a thread, until it is done and the disk keeps up.

    Raises what `emit` raises; `StepInterruptedError` when the loop is no more.
    """
    done: futures.Future[None] = futures.Future()

    def on_loop() -> None:
        try:
            emit()
        except BaseException as error:  # noqa: BLE001  a border: it belongs to the thread
            done.set_exception(error)
            return
        if is_ahead(session):
            _when_on_disk(session, partial(_settle, done))
        else:
            done.set_result(None)

    loop = session.loop
    try:
        loop.call_soon_threadsafe(on_loop)
    except RuntimeError:
        raise StepInterruptedError(name, late=True) from None
    while not futures.wait((done,), _LOOK_S).done:
        if loop.is_closed():
            raise StepInterruptedError(name, late=True)
    done.result()
