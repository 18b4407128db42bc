"""Logging as `serve` sets it up: one line an entry, for people or as JSON, with secrets taken out.

========= ================================================================
format    a line
========= ================================================================
console   `10:30:00.123 WARNING stepflow.journal  slow disk: a sync …`
json      `{"time":"…Z","level":"warning","logger":"…","message":"…"}`
========= ================================================================

What a record carries beside its message (`run_id`, `step`, …) follows it. A text from outside can
neither begin a line of its own nor command the operator's terminal: control characters, 8-bit ones
and those that turn the direction of writing included, are escaped, and the lines of a traceback are
indented. Embedded, the host sets up its own logging, and may add `Redact` to its handlers.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, Final, TextIO

from stepflow.clock import rfc3339
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMATS", "Redact", "configure_logging", "escaped", "escaped_json", "redacted"]

FORMATS: Final = ("console", "json")
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")

# Whatever a library or a workflow logs by mistake: our keys and tokens, JWTs, `token=` of a URL.
_SECRETS: Final = re.compile(
    r"(?P<name>[?&]token=)[^&\s\"']+"
    r"|(?P<ours>\b(?:pat_|ses_|sf_[0-9A-Za-z]{8}_))[\w-]{20,}"
    r"|(?P<jwt>\beyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
)
_CONTROLS: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS: Final[Mapping[int, str]] = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}


def configure_logging(format_: str, level: str, stream: TextIO) -> None:
    """Log everything from `level` up to `stream`. Raises `ConfigurationError` for a bad name."""
    if format_ not in FORMATS:
        raise ConfigurationError(f"STEPFLOW_LOG_FORMAT={format_!r} is none of {', '.join(FORMATS)}")
    if level.lower() not in _LEVELS:
        raise ConfigurationError(f"STEPFLOW_LOG_LEVEL={level!r} is none of {', '.join(_LEVELS)}")
    handler = logging.StreamHandler(stream)
    handler.addFilter(Redact())
    handler.setFormatter(_Json() if format_ == "json" else _Console(colour=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Each request of the client would be an entry of httpx, each selector one of asyncio.
    for noisy in ("httpx", "httpcore", "asyncio", "watchfiles"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def redacted(text: str) -> str:
    """Return the text with secrets replaced by `***`."""
    return _SECRETS.sub(lambda match: f"{match['name'] or match['ours'] or match['jwt']}***", text)


def escaped(text: str) -> str:
    r"""Return the text with control characters as Python writes them: `\x1b`, `\u2028`."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escaped_json(text: str) -> str:
    """Return JSON in which what JSON leaves as it is is escaped too; it means the same.

    Within a string each may be escaped, and outside there is none.
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Redact(logging.Filter):
    """Takes secrets out of a record's message."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            # Kept apart: uvicorn's access format takes its arguments one by one.
            record.args = tuple(
                redacted(arg) if isinstance(arg, str) else arg for arg in record.args
            )
        message = record.getMessage()
        clean = redacted(message)
        if clean != message:
            record.msg, record.args = clean, None
        return True


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


class _Console(logging.Formatter):
    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = rfc3339(int(record.created * 1000))[11:23]
        start, end = (_COLOURS.get(record.levelno, ""), "\x1b[0m") if self._colour else ("", "")
        extras = "".join(f" {key}={value}" for key, value in _extras(record).items())
        line = f"{clock} {start}{record.levelname:<8} {end if start else ''}{record.name}  "
        line += escaped(redacted(record.getMessage() + extras))
        if record.exc_info:
            text = redacted(self.formatException(record.exc_info))
            line += "".join(f"\n    {escaped(each)}" for each in text.split("\n"))
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": rfc3339(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return escaped_json(redacted(json.dumps(entry, default=str, ensure_ascii=False)))
