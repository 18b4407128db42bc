"""From an error to its answer: one table for every route, so that every refusal has one shape.

`{"error":"Workflow not found","code":"WORKFLOW_NOT_FOUND"}` with the status of the error's class:

====== =========================================== ==========================
status codes                                       headers beside the usual
====== =========================================== ==========================
400    INVALID_INPUT
401    UNAUTHORIZED                                WWW-Authenticate: Bearer
403    FORBIDDEN
404    NOT_FOUND, WORKFLOW_, RUN_, EVENT_NOT_FOUND
405    METHOD_NOT_ALLOWED                          Allow
409    CONFLICT
413    PAYLOAD_TOO_LARGE
429    RATE_LIMITED                                Retry-After
500    INTERNAL                                    no detail; the log has it
503    UNAVAILABLE, OUTCOME_UNKNOWN                Retry-After
====== =========================================== ==========================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from stepflow.errors import ApiError, InternalError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JSON_HEADERS", "SAFE_HEADERS", "Answer", "Header", "json_answer", "problem"]
__all__ += ["text_answer"]

Header = tuple[bytes, bytes]

SAFE_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
JSON_HEADERS: Final[tuple[Header, ...]] = ((b"content-type", b"application/json"), *SAFE_HEADERS)

_RETRY_AFTER_S: Final = 1
_encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """A whole response."""

    status: int
    headers: Sequence[Header]
    body: bytes


def json_answer(body: bytes) -> Answer:
    """Return 200 with that JSON text."""
    return Answer(200, (*JSON_HEADERS, (b"content-length", b"%d" % len(body))), body)


def text_answer(content_type: bytes, body: bytes, *more: Header) -> Answer:
    """Return 200 with a text of another kind."""
    length = (b"content-length", b"%d" % len(body))
    return Answer(200, ((b"content-type", content_type), length, *SAFE_HEADERS, *more), body)


def problem(error: ApiError, *, allow: bytes = b"") -> Answer:
    """Return the answer to `error`. A 405 names the methods that are allowed."""
    # What went wrong inside is for the log; the caller could do nothing with it.
    message = InternalError.default if error.status == 500 else error.message
    body = _encode({"error": message, "code": error.code})
    headers = [*JSON_HEADERS, (b"content-length", b"%d" % len(body))]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    elif error.status in {429, 503}:
        seconds = max(error.retry_after_s or _RETRY_AFTER_S, 1)
        headers.append((b"retry-after", b"%d" % seconds))
    elif error.status == 405:
        headers.append((b"allow", allow))
    return Answer(error.status, headers, body)
