"""Options: what an author sets, checked where it is written."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from stepflow.authoring.options import (
    DEFAULT_STEP,
    StepOptions,
    WorkflowOptions,
    check_key,
    check_name,
    check_tags,
    step_options,
    workflow_options,
)
from stepflow.authoring.retention import Kept, Retention
from stepflow.errors import AuthoringError
from stepflow.model.retry import RetryPolicy


async def welcome_user(ctx):
    """Greet somebody
    by mail.

    And more.
    """


@pytest.mark.parametrize("name", ["a", "send-email", "A.b_c:1-2", "x" * 64])
def test_a_name_is_1_to_64_plain_characters(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a#1", "é", "x" * 65, "a\n", 3, None, b"a"])
def test_another_name_is_refused(name):
    with pytest.raises(AuthoringError, match=r"^step .* is not 1 to 64 letters, digits or"):
        check_name(name, "step")


@pytest.mark.parametrize("key", ["a", "a b/c#1", "é" * 128, "\0"])
def test_a_key_is_any_text_up_to_256_bytes(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "é" * 129, "x" * 257, 7, None, "\ud800"])
def test_another_key_is_refused(key):
    with pytest.raises(AuthoringError, match="key="):
        check_key(key)


def test_tags_are_at_most_16_each_once():
    assert check_tags(["b", "a", "b"]) == ("b", "a")
    assert len(check_tags([str(n) for n in range(16)])) == 16
    with pytest.raises(AuthoringError, match="17 tags; at most 16"):
        check_tags([str(n) for n in range(17)])
    with pytest.raises(AuthoringError, match="tags='abc' is not a list"):
        check_tags("abc")
    with pytest.raises(AuthoringError, match="tag "):
        check_tags([1])


def test_a_step_without_options_costs_no_object():
    assert step_options() is DEFAULT_STEP == StepOptions()


def test_a_steps_options_are_in_the_engines_units():
    policy = RetryPolicy(max_attempts=2)
    options = step_options(
        key="a",
        retry=policy,
        timeout="1m",
        compensate=print,
        durability="relaxed",
        at_most_once=True,
    )
    assert options == StepOptions(policy, 60_000, print, "relaxed", True, "a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.key = "b"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"key": 1}, "key=1 is not a str"),
        ({"retry": 3}, "retry=3 is not a RetryPolicy"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a duration"),
        ({"timeout": 0}, "timeout=0 is no time at all"),
        ({"compensate": "refund"}, "compensate='refund' is not a function"),
        ({"durability": "lazy"}, "durability='lazy' is neither"),
    ],
)
def test_a_wrong_step_option_is_named(wrong, words):
    with pytest.raises(AuthoringError, match=words):
        step_options(**wrong)


def test_a_workflows_id_and_description_default_to_the_functions_own():
    options = workflow_options(welcome_user)
    assert options == WorkflowOptions("welcome-user", description="Greet somebody by mail.")
    assert workflow_options(welcome_user, "hello", description="").description == ""


def test_a_workflows_options_are_in_the_engines_units():
    options = workflow_options(
        welcome_user,
        "hello",
        retry=RetryPolicy(),
        timeout="1h",
        events=["paid-{id}"],
        on="order.created",
        schedule="0 9 * * *",
        concurrency=2,
        rate_limit="100/m",
        retention="7d",
        tags=["a"],
        aliases=["old"],
        renamed={"charge": "pay"},
        on_divergence="fail",
    )
    assert options.timeout_ms == 3_600_000
    assert options.retention == Kept(7 * 86_400_000, 7 * 86_400_000, None, None)
    assert (options.events, options.tags, options.aliases) == (("paid-{id}",), ("a",), ("old",))
    assert (options.renamed, options.on_divergence) == ({"charge": "pay"}, "fail")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"id": "a b"}, "workflow id 'a b'"),
        ({"events": "paid"}, "events='paid' is not a list; write \\['paid'\\]"),
        ({"events": ["{"]}, "events: '{'"),
        ({"on": ""}, "events: ''"),
        ({"on": "paid-{id}"}, "on='paid-{id}': a run that is not there yet"),
        ({"schedule": " "}, "schedule='' is not a cron line"),
        ({"concurrency": 0}, "a concurrency of 0"),
        ({"concurrency": True}, "concurrency=True"),
        ({"rate_limit": "10"}, "rate_limit='10' is not written like"),
        ({"rate_limit": "0/s"}, "rate_limit='0/s'"),
        ({"retention": "-1d"}, "retention: '-1d'"),
        ({"retention": 0}, "retention=0 is no time at all"),
        ({"retention": {"count": 5}}, "retention: {'count': 5} is not a duration"),
        ({"tags": "a"}, "tags='a' is not a list"),
        ({"aliases": ["a b"]}, "alias 'a b'"),
        ({"renamed": ["a"]}, "renamed=\\['a'\\] is not a dict"),
        ({"renamed": {"a": 1}}, "names as text"),
        ({"on_divergence": "ignore"}, "on_divergence='ignore' is neither"),
        ({"retry": "1s"}, "retry='1s' is not a RetryPolicy"),
    ],
)
def test_a_wrong_workflow_option_is_named(wrong, words):
    with pytest.raises(AuthoringError, match=words):
        workflow_options(welcome_user, **wrong)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (Retention(age="1d"), Kept(86_400_000, 86_400_000, None, None)),
        (Retention(age=1, failed_age="2s"), Kept(1000, 2000, None, None)),
        (Retention(failed_age=timedelta(seconds=2)), Kept(None, 2000, None, None)),
        (Retention(count=1), Kept(None, None, 1, None)),
        (Retention(bytes=4096, count=10**9), Kept(None, None, 10**9, 4096)),
        (0.25, Kept(250, 250, None, None)),
    ],
)
def test_a_retention_is_in_the_engines_units(given, kept):
    assert workflow_options(welcome_user, retention=given).retention == kept


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "limits nothing; give it age=, count= or bytes="),
        ({"age": "0s"}, "retention: age='0s' is no time at all"),
        ({"failed_age": "soon"}, "retention: failed_age: 'soon'"),
        ({"age": True}, "retention: age: True"),
        ({"count": 0}, "retention: count=0 is not a number from 1"),
        ({"count": 1.5}, "count=1.5"),
        ({"count": True}, "count=True"),
        ({"count": 10**9 + 1}, "count=1000000001"),
        ({"bytes": -1}, "bytes=-1"),
        ({"bytes": "1MB"}, "bytes='1MB'"),
    ],
)
def test_a_wrong_retention_is_refused_where_it_is_written(wrong, words):
    with pytest.raises(AuthoringError, match=words):
        Retention(**wrong)
