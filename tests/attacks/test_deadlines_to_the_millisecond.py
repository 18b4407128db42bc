"""The guard's deadlines on a clock that a test moves: open a millisecond before, closed then."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any, Final

import pytest
import uvicorn
from uvicorn.server import ServerState

from stepflow.config import Settings
from stepflow.web.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

HEADER_S: Final = Settings().header_deadline_s
BODY_S: Final = Settings().body_deadline_s
HALF_HEAD: Final = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b"
HALF_BODY: Final = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
HALF_CHUNK: Final = (
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nab"
)


class Timer:
    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self._at_s = at_s
        self.callback: Callable[[], None] | None = callback

    def when(self) -> float:
        return self._at_s

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Time and timers of an event loop, and tasks that never run."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Timer]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> Timer:
        timer = Timer(self.now_s + delay_s, lambda: callback(*args))
        heapq.heappush(self._timers, (timer.when(), next(self._order), timer))
        return timer

    def create_task(self, work: Coroutine[Any, Any, None], **_more: Any) -> Task:
        work.close()
        return Task()

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._timers and self._timers[0][0] <= end_s + 1e-9:
            self.now_s, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()
        self.now_s = end_s


class Task:
    def add_done_callback(self, _callback: Callable[[Any], None]) -> None:
        return


class Transport:
    """A connection that remembers what was written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.7", 5000), "sockname": ("192.0.2.1", 80)}.get(name, default)

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


class Connection:
    def __init__(self) -> None:
        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            """Never run."""

        self.loop = Loop()
        self.transport = Transport()
        config = uvicorn.Config(app, log_config=None)
        config.load()
        loop: Any = self.loop
        self.guard = guarded(Settings())(config, ServerState(), {}, loop)
        transport: Any = self.transport
        self.guard.connection_made(transport)

    def status_after(self, seconds: float) -> int | str:
        """Return the status that was answered by then; `open` or `closed` where none was."""
        self.loop.advance(seconds)
        if self.transport.written:
            return int(self.transport.written.split(b" ", 2)[1])
        return "closed" if self.transport.closed else "open"


@pytest.mark.parametrize(
    ("sent", "deadline_s", "then"),
    [
        (b"", HEADER_S, "closed"),
        (b"\r\n", HEADER_S, "closed"),
        (HALF_HEAD, HEADER_S, 408),
        (HALF_BODY, BODY_S, 408),
        (HALF_CHUNK, BODY_S, 408),
    ],
)
def test_a_deadline_is_met_to_the_millisecond(
    sent: bytes, deadline_s: float, then: int | str
) -> None:
    early, late = Connection(), Connection()
    for connection in (early, late):
        connection.guard.data_received(sent)
    assert early.status_after(deadline_s - 0.001) == "open"
    assert late.status_after(deadline_s) == then


def test_what_comes_in_drops_does_not_move_the_deadline() -> None:
    connection = Connection()
    connection.guard.data_received(HALF_HEAD)
    for _ in range(9):
        assert connection.status_after(1.0) == "open"
        connection.guard.data_received(b"c")
    assert connection.status_after(0.999) == "open"
    assert connection.status_after(0.001) == 408


def test_a_whole_request_has_no_deadline() -> None:
    connection = Connection()
    connection.guard.data_received(HALF_HEAD + b"\r\n\r\n")
    assert connection.status_after(100 * HEADER_S) == "open"


def test_a_defect_behind_the_parser_is_500_and_logged_and_no_fault_of_the_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection()
    monkeypatch.delattr(Transport, "abort")
    connection.guard.data_received(HALF_HEAD + b"\r\n\r\n")
    assert connection.status_after(0) == 500
    assert connection.transport.written.endswith(b'{"error":"Internal error","code":"INTERNAL"}')
    assert "AttributeError" in caplog.text
