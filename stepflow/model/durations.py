"""How long: whatever an author writes, as whole milliseconds.

A duration is a `timedelta`, seconds as a number, or text: `"500ms"`, `"30s"`, `"15m"`, `"2h"`,
`"7d"`, and these combined from the largest unit to the smallest, `"1d12h"`, `"1h30m"`.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal
from typing import Final, TypeAlias

__all__ = ["DURATION_MS_MAX", "Duration", "format_duration", "parse_duration_ms"]

Duration: TypeAlias = timedelta | float | int | str

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
DURATION_MS_MAX: Final = 36_525 * 86_400_000
"""100 years. A longer wait is a mistake in the unit."""

_TEXT_CHARS_MAX: Final = 64
_TEXT: Final = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _UNITS_MS))
_FORMS: Final = (
    'write seconds as a number, a timedelta, or "500ms", "30s", "15m", "2h", "7d", "1h30m"'
)


def parse_duration_ms(value: Duration) -> int:
    """Return the duration in milliseconds, a started one counting as whole.

    Raises `ValueError`, naming the value, for what is no duration, is negative or is over 100
    years.
    """
    if isinstance(value, str):
        return _within(value, _text_us(value))
    if isinstance(value, timedelta):
        return _within(value, value // timedelta(microseconds=1))
    return _within(value, _seconds_us(value))


def format_duration(ms: int) -> str:
    """Return the shortest text that `parse_duration_ms` reads back: `"1h30m"`, `"0s"`."""
    parts: list[str] = []
    rest = ms
    for unit, unit_ms in _UNITS_MS.items():
        count, rest = divmod(rest, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _seconds_us(value: object) -> int:
    # Called by users without a type checker too: a bool counts as a number nowhere here.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(value, "is not a duration")
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(value, "is not a finite number of seconds")
    # Rounded to microseconds first, so that 0.1 + 0.2 is 300 ms and not 301.
    return value * 1_000_000 if isinstance(value, int) else round(value * 1_000_000)


def _text_us(text: str) -> int:
    match = _TEXT.fullmatch(text) if 0 < len(text) <= _TEXT_CHARS_MAX else None
    if match is None:
        raise _refused(text, "is not a duration")
    amounts = zip(match.groups(), _UNITS_MS.values(), strict=True)
    return round(sum(Decimal(amount) * unit_ms * 1000 for amount, unit_ms in amounts if amount))


def _within(value: object, us: int) -> int:
    if us < 0:
        raise _refused(value, "is negative")
    ms = -(-us // 1000)
    if ms > DURATION_MS_MAX:
        raise _refused(value, "is over 100 years")
    return ms


def _refused(value: object, why: str) -> ValueError:
    text = f"{value!r:.80}" if not isinstance(value, int) else _short_int(value)
    return ValueError(f"{text} {why}; {_FORMS}")


def _short_int(value: int) -> str:
    # The text of an integer of thousands of digits is refused by Python itself.
    return repr(value) if value.bit_length() < 256 else f"an integer of {value.bit_length()} bits"
