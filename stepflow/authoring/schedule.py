"""When runs start by themselves: cron lines in a time zone, and intervals.

::

    schedule="0 2 * * *"                                         at two, UTC
    schedule=Schedule("0 2 * * mon-fri", tz="Europe/Berlin")     at two of that place's clock
    schedule=Schedule(every="15m", overlap="allow", catch_up="skip")
    schedule=[Schedule("0 2 * * *"), Schedule("0 3 * * *", id="late", input={"late": True})]

A cron line has five fields. A time of day that the clock passes twice, in autumn, is met once, the
first time; one that it leaps over, in spring, is met when the clock goes on. What runs every so
many minutes or hours (`*/15`, `0 * * * *`) goes on through both. An interval counts from 1970 in
UTC, so that a restart does not shift it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final, Literal, Protocol, cast
from zoneinfo import ZoneInfo

from stepflow.errors import AuthoringError
from stepflow.model.durations import Duration, format_duration, parse_duration_ms

__all__ = ["CatchUp", "Overlap", "Planned", "Schedule", "Times", "schedules_of", "times_of"]

CatchUp = Literal["skip", "one", "all"]
Overlap = Literal["allow", "skip", "queue", "cancel"]

_FIELDS: Final = 5
_SHORTHANDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY_MS_MIN: Final = 1000
_CATCH_UP_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a workflow's runs start, and with what.

    `catch_up`, for times that passed while nothing ran: `"one"` starts a run for the last of them,
    `"all"` for each, at most the last `catch_up_max`, `"skip"` for none that is over a minute old.
    `overlap`, when a run of the schedule is still under way: `"skip"` starts none, `"allow"` starts
    it beside, `"queue"` after it, `"cancel"` cancels what is under way first. `id` defaults to the
    workflow's.
    """

    cron: str | None = None
    every: Duration | None = None
    tz: str = "UTC"
    input: object = None
    id: str | None = None
    catch_up: CatchUp = "one"
    catch_up_max: int = 100
    overlap: Overlap = "skip"

    def __post_init__(self) -> None:
        if self.catch_up not in {"skip", "one", "all"}:
            raise AuthoringError(f'catch_up={self.catch_up!r} is none of "skip", "one", "all"')
        if self.overlap not in {"allow", "skip", "queue", "cancel"}:
            raise AuthoringError(
                f'overlap={self.overlap!r} is none of "allow", "skip", "queue", "cancel"'
            )
        if not 1 <= self.catch_up_max <= _CATCH_UP_MAX:
            raise AuthoringError(
                f"catch_up_max={self.catch_up_max!r} is not a number from 1 to {_CATCH_UP_MAX}"
            )
        times_of(self)


class Times(Protocol):
    """The times of a schedule, in milliseconds since 1970."""

    @property
    def spec(self) -> str:
        """Say them in one line: another line is another schedule."""
        ...

    def after(self, ms: int) -> int | None:
        """Return the first time behind `ms`, None when there is none any more."""
        ...

    def latest(self, after: int, until: int, count: int) -> list[int]:
        """Return the last `count` times behind `after` up to `until`, in order."""
        ...


@dataclass(frozen=True, slots=True)
class _Every:
    period_ms: int

    @property
    def spec(self) -> str:
        return f"every {format_duration(self.period_ms)}"

    def after(self, ms: int) -> int | None:
        return (ms // self.period_ms + 1) * self.period_ms

    def latest(self, after: int, until: int, count: int) -> list[int]:
        period = self.period_ms
        last = until // period * period
        first = max((after // period + 1) * period, last - (count - 1) * period)
        return list(range(first, last + 1, period))


@dataclass(frozen=True, slots=True)
class _Cron:
    line: str
    tz: str

    @property
    def spec(self) -> str:
        return f"{self.line} {self.tz}"

    def _times(self, ms: int, *, reverse: bool = False) -> Iterator[datetime]:
        # Imported here: most services have no schedule.
        from cronsim import CronSim  # noqa: PLC0415

        start = datetime.fromtimestamp(ms // 1000, UTC).astimezone(_zone(self.tz))
        return CronSim(self.line, start + timedelta(seconds=reverse), reverse=reverse)

    def after(self, ms: int) -> int | None:
        for when in self._times(ms):
            found = _ms(when)
            # In the hour that comes again, the first pass of it is behind us.
            if found > ms:
                return found
        return None

    def latest(self, after: int, until: int, count: int) -> list[int]:
        # Walking back tells where to begin; only walking forward is asked which times there are.
        first = until
        back = self._times(until, reverse=True)
        for when in islice(back, count + 1):
            first = min(first, _ms(when))
            if first <= after:
                break
        times: list[int] = []
        time = self.after(max(after, first - 1))
        while time is not None and time <= until:
            times.append(time)
            time = self.after(time)
        return times[-count:]


def _ms(when: datetime) -> int:
    return int(when.timestamp()) * 1000


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@lru_cache(maxsize=1024)
def _cron(line: str, tz: str) -> Times:
    line = _SHORTHANDS.get(line.strip().lower(), " ".join(line.split()))
    if len(line.split()) != _FIELDS:
        raise AuthoringError(
            f'schedule={line!r} is not a cron line of five fields such as "0 9 * * mon-fri"'
        )
    try:
        _zone(tz)
    except (KeyError, ValueError, OSError):
        raise AuthoringError(
            f'tz={tz!r} is no time zone that this machine knows; write it like "Europe/Berlin", '
            "and install the package tzdata where the system has none"
        ) from None
    from cronsim import CronSimError  # noqa: PLC0415

    times = _Cron(line, tz)
    try:
        found = times.after(0)
    except CronSimError as error:
        raise AuthoringError(f"schedule={line!r} is not a cron line: {error}") from None
    if found is None:
        raise AuthoringError(f"schedule={line!r} has no time in the next fifty years")
    return times


def times_of(schedule: Schedule) -> Times:
    """Return the schedule's times. Raises `AuthoringError` for a line that is none."""
    if (schedule.cron is None) == (schedule.every is None):
        raise AuthoringError("a Schedule has either a cron line or every=…")
    if schedule.cron is not None:
        return _cron(schedule.cron, schedule.tz)
    try:
        period_ms = parse_duration_ms(cast("Duration", schedule.every))
    except ValueError as error:
        raise AuthoringError(f"every: {error}") from None
    if period_ms < _EVERY_MS_MIN:
        raise AuthoringError(f"every={schedule.every!r} is shorter than a second")
    return _Every(period_ms)


@dataclass(frozen=True, slots=True)
class Planned:
    """One schedule of one workflow, ready to be started."""

    id: str
    workflow: str
    schedule: Schedule
    times: Times
    body: bytes = b"null"
    """The input as JSON."""


def schedules_of(workflow_id: str, value: object) -> tuple[Planned, ...]:
    """Return what the author wrote as schedules. Raises `AuthoringError`."""
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = list(cast("Sequence[object]", value))
    else:
        items = [value]
    found: list[Planned] = []
    for item in items:
        if not isinstance(item, str | Schedule) or item == "":
            raise AuthoringError(
                f'schedule={item!r} is not a cron line such as "0 9 * * mon-fri", nor a Schedule'
            )
        schedule = Schedule(item) if isinstance(item, str) else item
        found.append(Planned(schedule.id or workflow_id, workflow_id, schedule, times_of(schedule)))
    ids = [planned.id for planned in found]
    if len(set(ids)) < len(ids):
        raise AuthoringError(f"{workflow_id!r} has two schedules of one id; give each its id=…")
    return tuple(found)
