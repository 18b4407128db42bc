"""The only reader of time. Everything else asks a `Clock`.

Two times exist. **Monotonic** seconds measure durations inside this process and are never stored.
**Hybrid** milliseconds since 1970 (UTC) go into records and timers: they are the wall clock, but
never run backwards and never slower than the monotonic clock, so that

- a backward jump of the wall clock delays no timer, and
- a forward jump fires what is due by the new time.
"""

from __future__ import annotations

import asyncio
import time
import types
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Clock", "HybridTime", "SystemClock", "TimerHandle", "epoch_ns", "next_pass", "rfc3339"]


class TimerHandle(Protocol):
    """What `Clock.call_later` returns."""

    def cancel(self) -> None:
        """Do not call; harmless when it was called already."""


class Clock(Protocol):
    """Wall time, monotonic time and a way to be called later. Tests replace it."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as the machine believes; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some moment; never jumps, never stored."""
        ...

    def call_later(
        self, delay_s: float, callback: Callable[[], None], *, coarse: bool = False
    ) -> TimerHandle:
        """Call on the running loop after `delay_s` monotonic seconds.

        `coarse`: only housekeeping; a clock that jumps may be late with it.
        """
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic_s = staticmethod(time.monotonic)

    def call_later(
        self,
        delay_s: float,
        callback: Callable[[], None],
        *,
        coarse: bool = False,  # noqa: ARG002  this clock does not jump
    ) -> TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)


class HybridTime:
    """max(wall, last + monotonic time gone by): the time that records and timers carry."""

    __slots__ = ("_last_mono_s", "_last_ms", "_monotonic_s", "_wall_ms")

    def __init__(self, clock: Clock, last_ms: int = 0) -> None:
        self._monotonic_s = clock.monotonic_s
        self._wall_ms = clock.wall_ms
        self._last_ms = last_ms
        self._last_mono_s = clock.monotonic_s()

    def now_ms(self) -> int:
        """Return hybrid milliseconds; never less than what was returned before."""
        mono = self._monotonic_s()
        gone = (mono - self._last_mono_s) * 1000
        wall = self._wall_ms()
        # wall >= last + int(gone), without the call.
        if wall - self._last_ms + 1 > gone:
            self._last_ms = wall
            self._last_mono_s = mono
            return wall
        gone_ms = int(gone)
        behind = self._last_ms + gone_ms
        # Advance only by whole milliseconds, so that no fraction is ever lost.
        if gone_ms:
            self._last_ms = behind
            self._last_mono_s += gone_ms / 1000
        return behind

    def observe(self, ts_ms: int) -> None:
        """Never return less than `ts_ms` from now on: recovery tells the journal's last time."""
        if ts_ms > self.now_ms():
            self._last_ms = ts_ms
            self._last_mono_s = self._monotonic_s()


def epoch_ns() -> int:
    """Nanoseconds since 1970 as the machine believes: for spans, which lie beside those of others.

    No run ever sees them.
    """
    return time.time_ns()


@lru_cache(maxsize=4096)
def rfc3339(ms: int) -> str:
    """Return milliseconds since 1970 as RFC 3339 in UTC with a `Z`: `2024-01-15T10:30:00.123Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Return the text up to the second: a run's times are mostly of the same few."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


@types.coroutine
def next_pass() -> Generator[None, None, None]:
    """Let the loop go round once."""
    yield
