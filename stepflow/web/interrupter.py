"""Cuts the task of a stream short where it waits, for what cannot wait.

================ ==========================================================
interruption     what the stream does
================ ==========================================================
the client goes  closes; noticed although nothing is sent, because
                 `receive()` is watched beside it
15 s of silence  sends a comment line, which keeps proxies awake
token expired,   sends `event: expired` with the reason and ends, however
key revoked      busy it is; a client that does not read is cut off
send blocked 30 s closes the connection; the client resumes by id
an hour is over  ends cleanly: a client that is still there resumes by id,
                 and a proxy that has forgotten its client lets go
================ ==========================================================
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message, Send

    from stepflow.clock import Clock, TimerHandle
    from stepflow.config import Settings

__all__ = ["Interrupted", "Interrupter", "Reason"]

Reason = Literal["gone", "silence", "expired", "revoked", "blocked", "aged"]
_LOOK_MIN_S: Final = 0.05
_LOOK_AGAIN_S: Final = 1.0
"""A stream that is due to end and is just sending is looked at again after this."""


class Interrupted(Exception):  # noqa: N818  says what happened
    """What the stream's task was doing has been cut short, and why."""

    def __init__(self, reason: Reason) -> None:
        self.reason: Reason = reason
        super().__init__(reason)


class Interrupter:
    """Cuts the stream's task short where it waits, as `asyncio.timeout` does: by a cancellation.

    One timer serves a whole stream, so that an event costs none.
    """

    __slots__ = (
        "_base",
        "_clock",
        "_doing",
        "_ends_s",
        "_expires_ms",
        "_reason",
        "_send",
        "_settings",
        "_since_s",
        "_task",
        "_timer",
    )

    def __init__(
        self,
        send: Send,
        clock: Clock,
        settings: Settings,
        expires_ms: int | None,
        age_s: float | None = None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._base = task.cancelling()
        self._send = send
        self._clock = clock
        self._settings = settings
        self._expires_ms = expires_ms
        self._doing: Literal["sending", "waiting"] | None = None
        self._reason: Reason | None = None
        self._since_s = clock.monotonic_s()
        self._ends_s = None if age_s is None else self._since_s + age_s
        self._timer: TimerHandle = clock.call_later(self._next_look_s(self._since_s), self._look)

    async def send(self, message: Message) -> None:
        """Send. Raises `Interrupted` when the client goes, or reads nothing for too long."""
        self._begin("sending")
        self._since_s = self._clock.monotonic_s()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            self._explain()
            raise
        finally:
            self._doing = None
        self._since_s = self._clock.monotonic_s()

    def sent(self) -> None:
        """Take note that something was sent just now."""
        self._since_s = self._clock.monotonic_s()

    async def wait(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Wait until the stream has changed. Raises `Interrupted` for what happens before."""
        self._begin("waiting")
        try:
            await changed()
        except asyncio.CancelledError:
            self._explain()
            raise
        finally:
            self._doing = None

    def client_gone(self) -> None:
        """Interrupt for good."""
        self._interrupt("gone")

    def credential_ended(self, why: Literal["expired", "revoked"] = "revoked") -> None:
        """Interrupt for a last word; what a client has not read by now it does not get."""
        self._interrupt("blocked" if self._doing == "sending" else why)

    def close(self) -> None:
        """Interrupt nothing from now on."""
        self._timer.cancel()

    def _begin(self, what: Literal["sending", "waiting"]) -> None:
        if self._reason is not None:
            raise Interrupted(self._taken(self._reason))
        self._doing = what

    def _explain(self) -> None:
        """Raise `Interrupted` if the cancellation was ours, and ours alone."""
        reason = self._reason
        if reason is None or self._task.uncancel() > self._base:
            return
        raise Interrupted(self._taken(reason)) from None

    def _taken(self, reason: Reason) -> Reason:
        """Return the reason; those after which there is still something to send are then over."""
        if reason in {"silence", "expired", "revoked", "aged"}:
            self._reason = None
        if reason == "aged":
            self._ends_s = None
        return reason

    def _interrupt(self, reason: Reason) -> None:
        if self._reason is None:
            self._reason = reason
            if self._doing is not None:
                self._task.cancel()

    def _look(self) -> None:
        now_s = self._clock.monotonic_s()
        still_s = now_s - self._since_s
        if self._doing == "sending" and still_s >= self._settings.stream_blocked_s:
            self._interrupt("blocked")
        elif self._expires_ms is not None and self._clock.wall_ms() >= self._expires_ms:
            self.credential_ended("expired")
        elif self._ends_s is not None and now_s >= self._ends_s and self._doing != "sending":
            self._interrupt("aged")
        elif self._doing == "waiting" and still_s >= self._settings.stream_comment_s:
            self._interrupt("silence")
        self._timer = self._clock.call_later(self._next_look_s(now_s), self._look)

    def _next_look_s(self, now_s: float) -> float:
        """Return in how many seconds something may be due: silence, a blocked send, an end."""
        still_s = now_s - self._since_s
        comment_s, blocked_s = self._settings.stream_comment_s, self._settings.stream_blocked_s
        # A send may begin at any time after this.
        delay_s = min(comment_s, blocked_s)
        if self._doing == "sending":
            delay_s = min(delay_s, blocked_s - still_s)
        elif self._doing == "waiting":
            delay_s = min(delay_s, comment_s - still_s)
        if self._expires_ms is not None:
            delay_s = min(delay_s, (self._expires_ms - self._clock.wall_ms()) / 1000)
        if self._ends_s is not None:
            left_s = self._ends_s - now_s
            delay_s = min(delay_s, left_s if left_s > 0 else _LOOK_AGAIN_S)
        return max(delay_s, _LOOK_MIN_S)
