r"""Streams of our own making, and the events that every reader has to find in them.

The kinds of case are those that browsers' suites look at: line ends, comments, fields that are
none, ids, what is cut off. Each row: the bytes, and `(event, data, id)` of each event, where the id
is what the event itself said.

Not here, because readers differ and the server never sends it: an `id` with a NUL, and a CR as the
last byte of all.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STREAMS", "Event"]

Event = tuple[str, str, str | None]

STREAMS: Final[dict[str, tuple[bytes, list[Event]]]] = {
    "one event": (b"data: a\n\n", [("message", "a", None)]),
    "CR": (b"data: a\r\rdata: b\r\r:\n", [("message", "a", None), ("message", "b", None)]),
    "CR LF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", "a", None), ("message", "b", None)]),
    "line ends mixed": (b"data: a\r\ndata: b\rdata: c\n\n", [("message", "a\nb\nc", None)]),
    "no space": (b"data:a\n\n", [("message", "a", None)]),
    "two spaces": (b"data:  a\n\n", [("message", " a", None)]),
    "a tab": (b"data:\ta\n\n", [("message", "\ta", None)]),
    "a space before the colon": (b"data : a\ndata: b\n\n", [("message", "b", None)]),
    "a space before the field": (b" data: a\ndata: b\n\n", [("message", "b", None)]),
    "a field without a colon": (b"data\n\n", [("message", "", None)]),
    "two empty fields": (b"data\ndata\n\n", [("message", "\n", None)]),
    "an empty field": (b"data:\n\n", [("message", "", None)]),
    "colons in the text": (b"data: a: b:c\n\n", [("message", "a: b:c", None)]),
    "a comment": (b": data: a\n\ndata: b\n\n", [("message", "b", None)]),
    "a comment within": (b"data: a\n:x\ndata: b\n\n", [("message", "a\nb", None)]),
    "a colon alone": (b":\ndata: a\n\n", [("message", "a", None)]),
    "an unknown field": (b"date: x\ndata: a\n\n", [("message", "a", None)]),
    "a field in capitals": (b"DATA: x\nData: y\ndata: a\n\n", [("message", "a", None)]),
    "an event's name": (b"event: step\ndata: a\n\n", [("step", "a", None)]),
    "an event's name twice": (b"event: a\nevent: b\ndata: c\n\n", [("b", "c", None)]),
    "an event's empty name": (b"event: a\nevent:\ndata: c\n\n", [("message", "c", None)]),
    "a name does not last": (
        b"event: a\ndata: 1\n\ndata: 2\n\n",
        [("a", "1", None), ("message", "2", None)],
    ),
    "a name without data": (b"event: a\n\ndata: 2\n\n", [("message", "2", None)]),
    "an id": (b"id: 7\ndata: a\n\n", [("message", "a", "7")]),
    "an id behind the data": (b"data: a\nid: 7\n\n", [("message", "a", "7")]),
    "an id of text": (b"id: a b\ndata: a\n\n", [("message", "a", "a b")]),
    "a retry": (b"retry: 1000\ndata: a\n\n", [("message", "a", None)]),
    "a retry that is none": (b"retry: 1000x\ndata: a\n\n", [("message", "a", None)]),
    "blank lines": (b"\n\n\ndata: a\n\n\n\n", [("message", "a", None)]),
    "no end": (b"data: a\n\ndata: b\n", [("message", "a", None)]),
    "no line end": (b"data: a\n\ndata: b", [("message", "a", None)]),
    "nothing": (b"", []),
    "comments alone": (b": still here\n\n: still here\n\n", []),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", None)]),
    "line separators": (
        "data: a\u2028b\u2029c\u0085d\n\n".encode(),
        [("message", "a\u2028b\u2029c\u0085d", None)],
    ),
    "VT and FF": (b"data: a\vb\fc\n\n", [("message", "a\vb\fc", None)]),
    "a NUL in the data": (b"data: a\0b\n\n", [("message", "a\0b", None)]),
    "four-byte letters": ("data: 😀\n\n".encode(), [("message", "😀", None)]),
    "a long line": (b"data: " + b"a" * 300_000 + b"\n\n", [("message", "a" * 300_000, None)]),
    "many lines": (b"data: a\n" * 1000 + b"\n", [("message", "\n".join("a" * 1000), None)]),
}
