"""How long the finished runs of one workflow are kept.

::

    retention="7d"                                       seven days, however they ended
    retention=Retention(age="1d", failed_age="90d")      the failed ones for longer
    retention=Retention(count=1000, bytes=50_000_000)    the last thousand, of 50 MB at most

What is not given is as the settings say. They hold for all workflows together, also for one with
limits of its own; only the ages that a workflow gives take the place of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from stepflow.errors import AuthoringError
from stepflow.model.durations import Duration, parse_duration_ms

__all__ = ["Kept", "Retention", "kept_of"]

_RUNS_MAX: Final = 10**9
_BYTES_MAX: Final = 2**53


def _age_ms(what: str, value: Duration) -> int:
    try:
        ms = parse_duration_ms(value)
    except ValueError as error:
        raise AuthoringError(f"{what}: {error}") from None
    if ms == 0:
        raise AuthoringError(f"{what}={value!r} is no time at all; None is as the settings say")
    return ms


def _number(what: str, value: object, most: int) -> None:
    # None at all would take a run from whoever waits for its end.
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise AuthoringError(f"retention: {what}={value!r:.40} is not a number from 1 to {most}")


@dataclass(frozen=True, slots=True)
class Retention:
    """Which finished runs of a workflow are kept; each limit by itself, whichever comes first.

    `age` is for how long after its end; `failed_age` the same for one that failed or was cancelled,
    `age` unless given. At most `count` runs and `bytes` of them are kept, those that ended last.
    """

    age: Duration | None = None
    failed_age: Duration | None = None
    count: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if (self.age, self.failed_age, self.count, self.bytes) == (None, None, None, None):
            raise AuthoringError("Retention() limits nothing; give it age=, count= or bytes=")
        kept_of(self)
        if self.count is not None:
            _number("count", self.count, _RUNS_MAX)
        if self.bytes is not None:
            _number("bytes", self.bytes, _BYTES_MAX)


class Kept(NamedTuple):
    """A workflow's own limits, as the engine counts them. None is as the settings say."""

    completed_ms: int | None
    failed_ms: int | None
    runs_max: int | None
    bytes_max: int | None


def kept_of(value: Retention | Duration | None) -> Kept | None:
    """Return what `retention=` comes to. Raises `AuthoringError`."""
    if value is None:
        return None
    if not isinstance(value, Retention):
        ms = _age_ms("retention", value)
        return Kept(ms, ms, None, None)
    age = None if value.age is None else _age_ms("retention: age", value.age)
    failed = value.failed_age
    failed_ms = age if failed is None else _age_ms("retention: failed_age", failed)
    return Kept(age, failed_ms, value.count, value.bytes)
