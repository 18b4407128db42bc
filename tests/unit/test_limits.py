"""Limits as authors write them, and what a run's input makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from stepflow import AuthoringError, Concurrency, Context, RateLimit, Stepflow
from stepflow.authoring.limits import Limit, key_of, limits_of, member_path, priority_of
from stepflow.config import MEMORY


def test_short_forms_and_long_ones_are_the_same_limits() -> None:
    assert limits_of("w", 3, None) == limits_of("w", Concurrency(3), None)
    assert limits_of("w", None, "100/m") == limits_of("w", None, RateLimit(100, per="1m"))
    both = limits_of("w", [Concurrency(9), Concurrency(2, key="input.a.b")], "5/s")
    assert both == (
        Limit("concurrency", "w", 9, None),
        Limit("concurrency", "w input.a.b", 2, ("a", "b")),
        Limit("rate", "w 1s", 5, None, 1000),
    )
    assert [str(limit) for limit in both] == [
        "w: at most 9 at once",
        "w input.a.b: at most 2 at once for each input.a.b",
        "w 1s: at most 5 begin in 1s",
    ]
    named = limits_of("w", Concurrency(1, name="gpu"), RateLimit(2, name="api", key="input.k"))
    assert [limit.id for limit in named] == ["gpu", "api 1m"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Concurrency(0), "a concurrency of 0"),
        (lambda: Concurrency(True), "a concurrency of True"),
        (lambda: Concurrency(1, key="tenant"), "key='tenant' names no part of the input"),
        (lambda: Concurrency(1, name="a b"), "name='a b'"),
        (lambda: RateLimit(100_001), "a rate of 100001"),
        (lambda: RateLimit(1, per="soon"), "per: 'soon'"),
        (lambda: RateLimit(1, per=0), "per=0 is no time"),
        (lambda: RateLimit(1, key="input."), "key='input.'"),
        (lambda: limits_of("w", "3", None), "concurrency='3'"),
        (lambda: limits_of("w", [1, 2], None), "'w' is limited twice"),
        (lambda: member_path("priority", 3), "priority=3"),
    ],
)
def test_a_limit_that_is_none_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(AuthoringError, match=words):
        make()


def test_keys_are_json_and_a_missing_one_is_null() -> None:
    value = {"a": {"b": "x"}, "n": 1, "s": "1", "o": {"z": 1, "a": 2}, "long": "y" * 400}
    assert key_of(("a", "b"), value) == '"x"'
    assert (key_of(("n",), value), key_of(("s",), value)) == ("1", '"1"')
    assert key_of(("o",), value) == '{"a":2,"z":1}'
    assert key_of(("a", "c"), value) == key_of(("n", "x"), value) == key_of(("a",), 7) == "null"
    assert key_of((), "whole") == '"whole"'
    assert key_of(("long",), value).startswith('"sha256:')
    assert Limit("concurrency", "w", 1, None).key(value) == ""


def test_priorities_are_whole_numbers_within_bounds() -> None:
    given = {"a": 5, "b": 10**6, "c": True, "d": "7", "e": -(10**6)}
    assert [priority_of((name,), given) for name in "abcdef"] == [5, 1000, 0, 0, -1000, 0]


def test_workflows_that_share_a_name_share_its_numbers() -> None:
    flow = Stepflow(MEMORY)

    @flow.workflow("one", concurrency=Concurrency(2, name="gpu"))
    async def one(ctx: Context) -> None: ...

    with pytest.raises(AuthoringError, match="'one' and 'two' share the limit 'gpu'"):

        @flow.workflow("two", concurrency=Concurrency(3, name="gpu"))
        async def two(ctx: Context) -> None: ...
