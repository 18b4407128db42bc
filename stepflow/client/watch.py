"""How a stream, of a run or of all, is followed across reconnects, without opening one. PURE.

::

              opened                 complete, error, 204
    closed ───────────► open ───────────────────────────────► over
      ▲                  │ the connection ends or breaks
      └──── pause ◄──────┘ goes on after the last event's id

- **Ids** go back to the server as they came. What it sends after one is precisely what was missed.
- **An answer that is not a stream** is raised, unless it says to come again (503, 429, a proxy).
- **`resync`** brings the whole run, because the history before it is not there. If that run has
  ended, the end of the connection is the end of the stream.
- **The stream of all runs** is never over: its connections end when the server says so, and are
  opened again.
- **`expired`**: the credential is over. It is raised: only the caller can get another one.
- **Pauses** double from the server's `retry:` up to `PAUSE_S_MAX`; an event sets them back. A
  server that says it is starting is there: it is asked again after its `retry:` each time.
  The first connection is given up like any other request. After that the stream is followed for
  ever, unless `tries_max` bounds the reconnects without an event between them. A comment counts as
  one: a connection that was up for so long did not fail.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

import msgspec

from stepflow.client.sse import ServerSentEvent, SseParser
from stepflow.client.wire import (
    Lost,
    Request,
    Response,
    RetryRule,
    RunsWanted,
    refusal,
    stream_all_request,
    stream_request,
)
from stepflow.errors import (
    ApiError,
    InternalError,
    OutcomeUnknownError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from stepflow.model.all_event import AllEvent
from stepflow.model.views import EventName, RunEvent

__all__ = ["PAUSE_S_MAX", "Following", "Watch", "WatchAll"]

E = TypeVar("E")

PAUSE_S_MAX: Final = 30.0
_PAUSE_MS: Final = 1000
_KNOWN: Final[dict[str, EventName]] = {
    "status": "status",
    "step": "step",
    "complete": "complete",
    "error": "error",
    "emit": "emit",
    "progress": "progress",
    "resync": "resync",
    "expired": "expired",
}
_ENDS: Final = frozenset({"complete", "error"})
_ENDED_STATUSES: Final = frozenset({"completed", "failed", "cancelled"})
_ID_DIGITS_MAX: Final = 19
_HEARTBEAT: Final = b": still here"
_STARTING: Final = b"\n: starting\n"


class _RunStatus(msgspec.Struct):
    status: str = ""


class Following(ABC, Generic[E]):
    """One stream. `over` is true once there is nothing to follow any more."""

    __slots__ = (
        "_ended_by_resync",
        "_expired",
        "_failures",
        "_last_event_id",
        "_opened",
        "_parser",
        "_retry_ms",
        "_rule",
        "_starting",
        "_tries_max",
        "_what",
        "over",
    )

    def __init__(self, what: str, after: str, rule: RetryRule, tries_max: int | None) -> None:
        self._what = what
        self._rule = rule
        self._tries_max = tries_max
        self._last_event_id = after
        self._parser = SseParser(self._last_event_id)
        self._retry_ms = _PAUSE_MS
        self._failures = 0
        self._opened = False
        self._starting = False
        self._ended_by_resync = False
        self._expired: ApiError | None = None
        self.over = False

    @property
    def last_event_id(self) -> str:
        """The id after which the stream would go on; empty: from the start."""
        return self._last_event_id

    @abstractmethod
    def request(self) -> Request:
        """Return the request that opens the stream where it stands."""

    @abstractmethod
    def _read(self, sent: ServerSentEvent, name: EventName, data: bytes) -> E:
        """Return the event, having taken note of what it means for the stream."""

    def opened(self, status: int) -> bool:
        """Take note of an answer's status; return whether its body is a stream to feed."""
        if status == 204:
            self.over = True
        if status != 200:
            return False
        self._opened = True
        self._parser = SseParser(self._last_event_id)
        return True

    def feed(self, chunk: bytes) -> list[E]:
        """Return the events that `chunk` completes."""
        events: list[E] = []
        if _HEARTBEAT in chunk:
            self._failures = 0
        if _STARTING in chunk:
            self._starting = True
        for sent in self._parser.feed(chunk):
            event = self._event(sent)
            if event is not None:
                events.append(event)
        self._last_event_id = self._parser.last_event_id
        if self._parser.retry_ms is not None:
            self._retry_ms = self._parser.retry_ms
        return events

    def _event(self, sent: ServerSentEvent) -> E | None:
        name = _KNOWN.get(sent.event)
        if name is None or self.over or self._expired is not None:
            # A later server may send more kinds; a client that does not know them skips them.
            return None
        if name == "expired":
            # Raised when the connection ends, so that the events before it are still read.
            self._expired = UnauthorizedError(
                f"The credential expired while {self._what} was streamed; get another one "
                f"and go on after event {self._parser.last_event_id or 0}"
            )
            return None
        self._failures = 0
        return self._read(sent, name, sent.data.encode())

    def closed(self, outcome: Response | Lost | None, jitter: float) -> float | None:
        """Return how long to pause before the next connection; `None` when the stream is over.

        `outcome` is the answer that was no stream, why the connection broke, or `None` when it
        ended. Raises the `ApiError` that ends the stream.
        """
        if self._ended_by_resync and outcome is None:
            self.over = True
        if self.over:
            return None
        if self._expired is not None:
            raise self._expired
        error = self._why(outcome)
        if not _comes_again(error):
            raise error
        self._failures += 1
        tries_max = self._tries_max if self._opened else self._tries_at_first()
        if tries_max is not None and self._failures >= tries_max:
            raise error
        return max(self._pause_s(jitter), error.retry_after_s or 0)

    def _tries_at_first(self) -> int:
        return self._rule.tries if self._tries_max is None else self._tries_max

    def _pause_s(self, jitter: float) -> float:
        if not self._opened:
            return self._rule.delay_s(self._failures, jitter)
        again = RetryRule(initial_s=self._retry_ms / 1000, max_s=PAUSE_S_MAX)
        starting, self._starting = self._starting, False
        return again.delay_s(1 if starting else self._failures, jitter)

    def _why(self, outcome: Response | Lost | None) -> ApiError:
        if outcome is None:
            return UnavailableError(f"The stream of {self._what} ended before it was over")
        if isinstance(outcome, Response) and outcome.status < 400:
            return InternalError(
                f"{self.request().name}: status {outcome.status}; is this a Stepflow API?"
            )
        return refusal(self.request(), outcome)


class Watch(Following[RunEvent]):
    """One run's stream."""

    __slots__ = ("_run_id",)

    def __init__(
        self, run_id: str, after: int | None, rule: RetryRule, tries_max: int | None = None
    ) -> None:
        super().__init__(f"run {run_id}", str(after) if after else "", rule, tries_max)
        self._run_id = run_id

    def request(self) -> Request:
        return stream_request(self._run_id, self._last_event_id)

    def _read(self, sent: ServerSentEvent, name: EventName, data: bytes) -> RunEvent:
        self._ended_by_resync = name == "resync" and _has_ended(data)
        self.over = name in _ENDS
        return RunEvent(_number(sent.id), name, data)


class WatchAll(Following[AllEvent]):
    """The stream of all runs, or of those that are wanted."""

    __slots__ = ("_wanted",)

    def __init__(
        self, wanted: RunsWanted, after: str | None, rule: RetryRule, tries_max: int | None = None
    ) -> None:
        super().__init__("many runs", after or "", rule, tries_max)
        self._wanted = wanted

    def request(self) -> Request:
        return stream_all_request(self._wanted, self._last_event_id)

    def _read(self, sent: ServerSentEvent, name: EventName, data: bytes) -> AllEvent:
        return AllEvent.of(sent.id or "", name, data)


def _comes_again(error: ApiError) -> bool:
    return isinstance(error, UnavailableError | OutcomeUnknownError | RateLimitedError)


def _has_ended(run: bytes) -> bool:
    try:
        return msgspec.json.decode(run, type=_RunStatus).status in _ENDED_STATUSES
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _number(id: str | None) -> int:
    """Return the id as a number; 0 where there is none, or where another engine writes text."""
    if id is None or not (id.isascii() and id.isdigit()) or len(id) > _ID_DIGITS_MAX:
        return 0
    return int(id)
