"""Retry policies: whether there is another attempt, and when."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.errors import (
    AuthoringError,
    EncodingError,
    InvalidInputError,
    NonRetryableError,
    RetryAfterError,
    UnavailableError,
)
from stepflow.model.retry import DEFAULT_RETRY, RetryPolicy


def test_the_default_is_four_attempts_over_at_most_a_minute():
    assert RetryPolicy() == DEFAULT_RETRY
    assert (DEFAULT_RETRY.max_attempts, DEFAULT_RETRY.factor, DEFAULT_RETRY.jitter) == (
        4,
        2.0,
        True,
    )
    assert (DEFAULT_RETRY.initial_ms, DEFAULT_RETRY.max_delay_ms) == (1000, 60_000)


def test_without_jitter_the_wait_grows_to_its_bound():
    policy = RetryPolicy(jitter=False)
    waits = [policy.delay_ms(attempt, 0.5) for attempt in range(1, 9)]
    assert waits == [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]


def test_full_jitter_draws_between_nothing_and_the_wait():
    policy = RetryPolicy(initial="2s")
    assert [policy.delay_ms(2, rnd) for rnd in (0.0, 0.25, 0.5)] == [0, 1000, 2000]
    assert policy.delay_ms(2, 0.999) < 4000


@pytest.mark.parametrize("attempt", [1000, 10_000, 10**9])
def test_the_wait_never_overflows(attempt):
    assert RetryPolicy(jitter=False).delay_ms(attempt, 0.0) == 60_000
    assert RetryPolicy(jitter=False, factor=1e300).delay_ms(attempt, 0.0) == 60_000
    assert RetryPolicy(initial=0).delay_ms(attempt, 0.9) == 0


@given(
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(1, 1e6),
)
def test_the_wait_is_never_negative_nor_beyond_its_bound(attempt, rnd, initial, longest, factor):
    policy = RetryPolicy(initial=initial, max_delay=longest, factor=factor)
    assert 0 <= policy.delay_ms(attempt, rnd) <= policy.max_delay_ms


def test_a_factor_of_one_keeps_the_wait():
    policy = RetryPolicy(initial=timedelta(seconds=3), factor=1, jitter=False)
    assert {policy.delay_ms(attempt, 0) for attempt in range(1, 100)} == {3000}


@pytest.mark.parametrize(
    "exc",
    [ValueError("x"), OSError(), TimeoutError(), RetryAfterError("1s"), UnavailableError()],
)
def test_an_ordinary_failure_is_tried_again(exc):
    assert DEFAULT_RETRY.is_retryable(exc)


@pytest.mark.parametrize(
    "exc",
    [
        NonRetryableError("stop"),
        AuthoringError("x"),
        EncodingError("result", "x"),
        InvalidInputError("x"),
        NameError("x"),
        UnboundLocalError("x"),
        ImportError("x"),
        ModuleNotFoundError("x"),
        NotImplementedError(),
        asyncio.CancelledError(),
        SystemExit(1),
        KeyboardInterrupt(),
    ],
)
def test_what_another_attempt_cannot_mend_is_not_tried_again(exc):
    assert not DEFAULT_RETRY.is_retryable(exc)


def test_an_author_names_further_classes():
    policy = RetryPolicy(non_retryable=(LookupError,))
    assert not policy.is_retryable(KeyError("x"))
    assert policy.is_retryable(ValueError("x"))
    assert RetryPolicy(non_retryable=LookupError) == policy


def test_a_group_is_tried_again_only_if_all_in_it_can_be():
    good, bad = ValueError("x"), NonRetryableError("y")
    assert DEFAULT_RETRY.is_retryable(ExceptionGroup("g", [good, good]))
    assert not DEFAULT_RETRY.is_retryable(ExceptionGroup("g", [good, ExceptionGroup("h", [bad])]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_attempts": 0}, "max_attempts=0 is below 1"),
        ({"factor": 0.5}, "factor=0.5"),
        ({"factor": float("nan")}, "factor=nan"),
        ({"factor": float("inf")}, "factor=inf"),
        ({"initial": "soon"}, "initial: 'soon' is not a duration"),
        ({"max_delay": -1}, "max_delay: -1 is negative"),
    ],
)
def test_a_wrong_value_is_refused_at_once(wrong, words):
    with pytest.raises(ValueError, match=words):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 2.0},
        {"max_attempts": True},
        {"factor": "2"},
        {"factor": True},
        {"non_retryable": ("ValueError",)},
        {"non_retryable": int},
        {"non_retryable": None},
    ],
)
def test_a_wrong_type_is_refused_at_once(wrong):
    with pytest.raises(TypeError):
        RetryPolicy(**wrong)


def test_a_policy_cannot_be_changed_but_can_be_a_key():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT_RETRY.max_attempts = 5
    assert {RetryPolicy(): 1}[RetryPolicy()] == 1
