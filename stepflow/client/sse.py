"""Server-sent events from bytes, in whatever pieces they come. PURE.

The rules of the HTML specification, section 9.2.6, and where they are kept:

=================================================== ============================
a line ends with CR LF, LF or CR                    `_lines`, across chunk borders
one byte order mark at the start is dropped         `_line`
text is UTF-8, what is not becomes U+FFFD           `_line`
a line that begins with a colon is a comment        `_line`
one space after the colon does not count            `_line`
several `data` lines are joined by a line feed      `_dispatch`
an event without data is none, its id counts still  `_dispatch`
an `id` with a NUL is ignored                       `_field`
a `retry` that is not all digits is ignored         `_field`
what no blank line has ended is no event            the end of the input
=================================================== ============================

A line is done at its CR: the LF that may follow in the next chunk is skipped there, so no event
waits for another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stepflow.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EVENT_BYTES_MAX", "ServerSentEvent", "SseParser"]

EVENT_BYTES_MAX: Final = 128 * 1024 * 1024
"""More than the largest run, which a `resync` brings whole. Beyond it: `InternalError`."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_RETRY_DIGITS_MAX: Final = 9


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. `id` is what this event itself said, `None` where it said nothing."""

    event: str
    data: str
    id: str | None = None


class SseParser:
    """Feed it one connection's bytes. `last_event_id` is what a reconnect has to send."""

    __slots__ = (
        "_data",
        "_event",
        "_first",
        "_id",
        "_id_buffer",
        "_data_size",
        "_rest",
        "_rest_size",
        "_skip_lf",
        "last_event_id",
        "retry_ms",
    )

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        """The last `retry` that the server sent."""
        self._id_buffer = last_event_id
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []
        self._data_size = 0
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._first = True
        self._skip_lf = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that `chunk` completes."""
        events: list[ServerSentEvent] = []
        for line in self._lines(chunk):
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        if not chunk:
            return
        self._skip_lf = chunk.endswith(b"\r")
        *whole, rest = _LINE_END.split(chunk)
        for line in whole:
            self._rest.append(line)
            joined = b"".join(self._rest)
            self._rest.clear()
            self._rest_size = 0
            yield joined
        if rest:
            self._rest.append(rest)
            self._rest_size += len(rest)
            self._check_size()

    def _check_size(self) -> None:
        """Hold what is kept of an event that is not whole: a sender must not fill the memory."""
        if self._data_size + self._rest_size > EVENT_BYTES_MAX:
            raise InternalError(f"The stream sent an event of more than {EVENT_BYTES_MAX} bytes")

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if name or not colon:
            self._field(name, value.removeprefix(" "))
        return None

    def _field(self, name: str, value: str) -> None:
        match name:
            case "data":
                self._data.append(value)
                self._data_size += len(value)
                self._check_size()
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = self._id_buffer = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value[:_RETRY_DIGITS_MAX])
            case _:
                pass

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_event_id = self._id_buffer
        event = None
        if self._data:
            event = ServerSentEvent(self._event or "message", "\n".join(self._data), self._id)
        self._event = ""
        self._data = []
        self._id = None
        self._data_size = 0
        return event
