"""Times of schedules: cron lines in zones with summer time, intervals, and what is refused."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepflow import AuthoringError, Context, Schedule, Stepflow
from stepflow.authoring.schedule import schedules_of, times_of
from stepflow.config import MEMORY

BERLIN = ZoneInfo("Europe/Berlin")


def ms(*parts: int, fold: int = 0) -> int:
    return int(datetime(*parts, fold=fold, tzinfo=BERLIN).timestamp() * 1000)  # type: ignore[misc, arg-type]


def test_the_autumn_hour_is_met_once_wherever_one_asks_from() -> None:
    times = times_of(Schedule("30 2 * * *", tz="Europe/Berlin"))
    first, second = ms(2026, 10, 25, 2, 30), ms(2026, 10, 26, 2, 30)
    assert times.after(ms(2026, 10, 25, 2, 10)) == first
    assert times.after(first) == second
    assert times.after(ms(2026, 10, 25, 2, 10, fold=1)) == second
    assert times.latest(0, ms(2026, 10, 25, 2, 10, fold=1), 1) == [first]
    assert times.latest(first, ms(2026, 10, 25, 2, 45, fold=1), 9) == []


def test_the_spring_gap_is_met_when_the_clock_goes_on() -> None:
    times = times_of(Schedule("30 2 * * *", tz="Europe/Berlin"))
    there = ms(2026, 3, 29, 3, 0)
    assert times.after(ms(2026, 3, 29, 1, 59)) == there
    assert times.after(there) == ms(2026, 3, 30, 2, 30)


def test_what_runs_every_half_hour_goes_on_through_both() -> None:
    times = times_of(Schedule("*/30 * * * *", tz="Europe/Berlin"))
    found = times.latest(ms(2026, 10, 25, 1, 30), ms(2026, 10, 25, 3, 0), 99)
    assert [b - a for a, b in itertools.pairwise(found)] == [1_800_000] * 4


@settings(max_examples=60, deadline=None)
@given(
    line=st.sampled_from(["30 2 * * *", "0 * * * *", "15 2,3 * * sun", "0 12 29 2 *", "@daily"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    hours=st.integers(0, 24 * 800),
    span=st.integers(1, 24 * 40),
    count=st.integers(1, 5),
)
def test_the_latest_times_are_those_that_walking_forward_meets(
    line: str, zone: str, hours: int, span: int, count: int
) -> None:
    times = times_of(Schedule(line, tz=zone))
    begin = int((datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=hours)).timestamp() * 1000)
    end = begin + span * 3_600_000
    walked: list[int] = []
    time = times.after(begin)
    while time is not None and time <= end:
        walked.append(time)
        time = times.after(time)
    assert walked == sorted(set(walked))
    assert times.latest(begin, end, count) == walked[-count:]


def test_an_interval_counts_from_1970() -> None:
    times = times_of(Schedule(every="15m"))
    assert times.after(0) == 900_000
    assert times.after(899_999) == 900_000
    assert times.latest(0, 3_600_000, 2) == [2_700_000, 3_600_000]
    assert times.latest(3_600_000, 3_600_001, 9) == []
    assert times.spec == "every 15m"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Schedule("0 9 * *"), "five fields"),
        (lambda: Schedule("0 0 9 * * *"), "five fields"),
        (lambda: Schedule("61 9 * * *"), "is not a cron line"),
        (lambda: Schedule("0 0 30 2 *"), "not a cron line|no time"),
        (lambda: Schedule("0 9 * * *", tz="Mars/Base"), "tz='Mars/Base'.*tzdata"),
        (Schedule, "either a cron line or every"),
        (lambda: Schedule("0 9 * * *", every="1h"), "either a cron line or every"),
        (lambda: Schedule(every="100ms"), "shorter than a second"),
        (lambda: Schedule(every="soon"), "every: 'soon'"),
        (lambda: Schedule(every="1h", catch_up="some"), "catch_up='some'"),  # type: ignore[arg-type]
        (lambda: Schedule(every="1h", overlap="no"), "overlap='no'"),  # type: ignore[arg-type]
        (lambda: Schedule(every="1h", catch_up_max=0), "catch_up_max=0"),
        (lambda: schedules_of("w", 3), "schedule=3"),
        (lambda: schedules_of("w", ["0 9 * * *", "0 8 * * *"]), "two schedules of one id"),
    ],
)
def test_a_schedule_that_is_none_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(AuthoringError, match=words):
        make()


def test_a_workflow_must_take_the_schedules_input() -> None:
    flow = Stepflow(MEMORY)
    with pytest.raises(AuthoringError, match="does not take its input"):

        @flow.workflow("typed", schedule="0 9 * * *")
        async def typed(ctx: Context, day: int) -> None: ...

    @flow.workflow("fits", schedule=Schedule("0 9 * * *", input=3, id="x"))
    async def fits(ctx: Context, day: int) -> None: ...

    assert flow.registry.schedules["x"].body == b"3"
    with pytest.raises(AuthoringError, match="schedule id 'x' is there twice"):

        @flow.workflow("other", schedule=Schedule("0 9 * * *", id="x"))
        async def other(ctx: Context) -> None: ...
