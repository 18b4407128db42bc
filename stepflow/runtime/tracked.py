"""A coroutine whose every step is told to the run's gate, and marked while it holds the loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator

    from stepflow.journal.marker import NoMarker
    from stepflow.runtime.replay import Gate
    from stepflow.runtime.session import Session

__all__ = ["Tracked", "TrackedRoot"]


class Tracked(Coroutine[Any, Any, Any]):
    """A coroutine whose every step tells the gate."""

    __slots__ = ("_gate", "_marker", "_run", "_send", "bare")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        gate: Gate,
        marker: NoMarker,
        run: bytes,
    ) -> None:
        self.bare = coro
        self._send = coro.send
        self._gate = gate
        self._marker = marker
        self._run = run

    def send(self, value: Any) -> Any:
        self._gate.stepped()
        self._marker.enter(self._run)
        return self._send(value)

    def throw(self, *args: Any) -> Any:
        self._gate.stepped()
        self._marker.enter(self._run)
        return self.bare.throw(*args)

    def close(self) -> None:
        self.bare.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.bare.__await__()

    def __getattr__(self, name: str) -> Any:
        # cr_await, cr_frame, __qualname__ …: debuggers and asyncio's own messages read them.
        return getattr(self.bare, name)


class TrackedRoot(Tracked):
    """A run's root, which says itself that it ends: a done callback would take a pass of its own.

    The session is told once, in the task's last step.
    """

    __slots__ = ("_session", "task")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        gate: Gate,
        marker: NoMarker,
        run: bytes,
        session: Session,
    ) -> None:
        super().__init__(coro, gate, marker, run)
        self._session = session
        self.task: asyncio.Task[Any] | None = None

    def send(self, value: Any) -> Any:
        self._gate.stepped()
        self._marker.enter(self._run)
        try:
            return self._send(value)
        except BaseException:
            self._over()
            raise

    def throw(self, *args: Any) -> Any:
        try:
            return super().throw(*args)
        except BaseException:
            self._over()
            raise

    def _over(self) -> None:
        task, self.task = self.task, None
        if task is not None:
            self._session.root_ended(task)
