"""Durations: what authors write, in milliseconds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.model.durations import DURATION_MS_MAX, format_duration, parse_duration_ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("15m", 900_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1h30m", 5_400_000),
        ("1d12h", 129_600_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("1.5h", 5_400_000),
        ("0.25s", 250),
        ("0s", 0),
        (0, 0),
        (30, 30_000),
        (0.1 + 0.2, 300),
        (1.5, 1500),
        (timedelta(hours=1, milliseconds=7), 3_600_007),
        (timedelta(0), 0),
        ("36525d", DURATION_MS_MAX),
    ],
)
def test_each_form_is_read(value, ms):
    assert parse_duration_ms(value) == ms


@pytest.mark.parametrize("value", [0.0001, timedelta(microseconds=1), "0.2ms"])
def test_a_started_millisecond_counts_as_whole(value):
    assert parse_duration_ms(value) == 1


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "30", "s", "1y", "1M", "-5s", "5 s", "1h 30m", "30m1h", "1m1m", "1e3s", "1_0s",
        "٣s", ".5s", "5.s", "1s\n", "9" * 5000 + "s", True, False, None, b"1s", [], 1j,
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_and_the_forms_are_shown(value):
    with pytest.raises(ValueError, match=r'is not a duration; .*"1h30m"'):
        parse_duration_ms(value)


@pytest.mark.parametrize("value", [-1, -0.5, timedelta(seconds=-1)])
def test_a_negative_duration_is_refused(value):
    with pytest.raises(ValueError, match="is negative"):
        parse_duration_ms(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="is not a finite number of seconds"):
        parse_duration_ms(value)


@pytest.mark.parametrize(
    "value", ["36525d1ms", 1e300, pytest.param(1 << 20_000, id="huge"), timedelta.max, "9999999d"]
)
def test_over_100_years_is_refused(value):
    with pytest.raises(ValueError, match="is over 100 years"):
        parse_duration_ms(value)


def test_the_refusal_names_the_value():
    with pytest.raises(ValueError, match=r"^'5 minutes' is not"):
        parse_duration_ms("5 minutes")


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (500, "500ms"), (1500, "1s500ms"), (5_400_000, "1h30m"), (129_600_000, "1d12h")],
)
def test_a_duration_is_shown_short(ms, text):
    assert format_duration(ms) == text


@given(st.integers(0, DURATION_MS_MAX))
def test_what_is_shown_reads_back(ms):
    assert parse_duration_ms(format_duration(ms)) == ms
