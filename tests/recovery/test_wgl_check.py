"""The search for an order of raced calls: it finds one where there is one, and only there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepflow import Stepflow, api_key_auth
from tests.recovery.crash_workflows import register_race
from tests.recovery.wgl_check import Call, check, linearizable
from tests.served import KEY, served


def calls(*rows: tuple[Any, ...]) -> list[Call]:
    return [Call(*row) for row in rows]


TRIGGERED = ("trigger", "k", (200, "r"), 0, 1)
RUNNING, CANCELLED = (200, "running", None), (200, "cancelled", None)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([("notify", 5, (200,), 2, 3)], id="one after the other"),
        pytest.param([("notify", 5, (404,), 0, 3)], id="a notify before the trigger"),
        pytest.param(
            [("notify", 5, (200,), 2, 9), ("get", None, (200, "completed", 5), 3, 4)],
            id="seen before it is answered",
        ),
        pytest.param(
            [("notify", 5, (200,), 2, 3), ("get", None, RUNNING, 4, 5)], id="not ended yet"
        ),
        pytest.param(
            [
                ("notify", 5, (200,), 2, 9),
                ("notify", 6, (200,), 2, 9),
                ("get", None, (200, "completed", 6), 10, 11),
            ],
            id="either of two came first",
        ),
        pytest.param(
            [("cancel", None, (200,), 2, 3), ("get", None, CANCELLED, 4, 5)], id="cancelled"
        ),
        pytest.param(
            [("cancel", None, None, 2), ("get", None, CANCELLED, 8, 9)],
            id="a cancel whose answer was lost",
        ),
        pytest.param(
            [("cancel", None, None, 2), ("get", None, RUNNING, 8, 9)], id="and may not have come"
        ),
        pytest.param([("trigger", "k", (200, "r"), 2, 3)], id="the key again"),
    ],
)
def test_an_order_is_found(rows: list[tuple[Any, ...]]) -> None:
    assert linearizable(calls(TRIGGERED, *rows))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([("notify", 5, (404,), 2, 3)], id="a waiter that was lost"),
        pytest.param([("trigger", "k", (200, "other"), 2, 3)], id="a key that gave two runs"),
        pytest.param([("get", None, (200, "completed", 5), 2, 3)], id="a result from nowhere"),
        pytest.param(
            [
                ("notify", 5, (200,), 2, 3),
                ("get", None, (200, "completed", 5), 4, 5),
                ("get", None, RUNNING, 6, 7),
            ],
            id="an end that was undone",
        ),
        pytest.param(
            [
                ("notify", 5, (200,), 2, 3),
                ("notify", 6, (200,), 4, 5),
                ("get", None, (200, "completed", 6), 6, 7),
            ],
            id="the second event before the first",
        ),
        pytest.param(
            [("cancel", None, (200,), 2, 3), ("get", None, (200, "completed", 5), 4, 5)],
            id="a cancel that was forgotten",
        ),
        pytest.param(
            [("get", None, CANCELLED, 2, 3), ("cancel", None, None, 4)],
            id="an effect before its cause",
        ),
    ],
)
def test_no_order_is_found_where_there_is_none(rows: list[tuple[Any, ...]]) -> None:
    assert not linearizable(calls(TRIGGERED, *rows))


def test_two_triggers_of_which_the_first_answer_was_lost_give_one_run() -> None:
    lost = ("trigger", "k", None, 0)
    later = ("trigger", "k", (200, "r"), 2, 3)
    assert linearizable(calls(lost, later, ("trigger", "k", (200, "r"), 4, 5)))
    assert not linearizable(calls(lost, later, ("trigger", "k", (200, "s"), 4, 5)))


@pytest.mark.timeout(240)
def test_raced_calls_on_a_real_server_have_an_order() -> None:
    flow = Stepflow(":memory:")
    register_race(flow)
    with served(flow, auth=api_key_auth(KEY)) as url:
        report = asyncio.run(check(url, KEY, rounds=40, seed=7, limit_s=200))
    assert report["faults"] == []
    assert report["calls"] > 200
