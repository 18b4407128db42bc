"""The gate where calls have died, results come early, or the run is over."""

from __future__ import annotations

import pytest

from stepflow.runtime.replay import Ask
from tests.unit.test_replay import Host, call, called


def test_an_ask_that_nobody_gave_a_meaning_to_says_so() -> None:
    ask = Ask("a#1", "a", "step", "f", "1", True)
    with pytest.raises(NotImplementedError):
        _ = ask.alive
    with pytest.raises(NotImplementedError):
        ask.deliver(call("a#1", 5))


def test_a_call_that_was_given_up_in_an_earlier_activation_is_not_one_that_was_begun() -> None:
    given_up = call("a#1", 0)
    given_up.status = "pending"
    given_up.cancelled = True
    assert not Host(given_up).gate.replaying


def test_the_only_call_of_the_only_task_gets_its_result_at_once() -> None:
    host = Host()
    host.gate.tasks = 1
    (a,) = host.ask("a#1")
    assert host.gate.solo
    host.gate.recorded(call("a#1", 7))
    assert a.got == 7
    host.gate.answered()
    assert host.gate.outstanding == 0


def test_a_result_for_a_wait_that_died_wakes_nobody() -> None:
    host = Host()
    host.gate.tasks = 1
    (a,) = host.ask("a#1")
    a.dead = True
    host.gate.recorded(call("a#1", 7))
    assert a.got is None
    assert not host.ready


def test_a_result_that_comes_while_its_call_is_undecided_is_the_calls() -> None:
    host = Host(call("a#1", 5))
    a, b = host.ask("a#1", "b#1")
    host.gate.recorded(call("b#1", 8))
    host.go_round(9)
    assert (a.got, b.got) == (5, None)
    host.go_round(9)
    assert b.got == 8
    assert not host.started


def test_a_call_is_started_from_its_start_to_its_result() -> None:
    host = Host()
    (a,) = host.ask("a#1")
    assert host.gate.is_started("a#1")
    assert host.gate.started_ask("a#1") is a
    host.gate.recorded(call("a#1", 5))
    assert not host.gate.is_started("a#1")
    assert host.gate.started_ask("a#1") is None


def test_a_call_that_died_before_it_was_decided_about_is_not_started() -> None:
    host = Host(call("a#1", 5))
    _, b = host.ask("a#1", "b#1")
    b.dead = True
    host.go_round(30)
    assert not host.started


def test_a_cancel_after_the_end_is_not_heard() -> None:
    host = Host()
    host.gate.tasks = 1
    host.gate.ask([called("a#1")])
    host.gate.closed = True
    host.gate.cancel(9)
    assert host.cancelled == 0


def test_a_result_of_another_activation_waits_until_it_is_asked_for() -> None:
    host = Host(call("a#1", 5))
    host.ask("a#1", "b#1")
    host.gate.recorded(call("z#1", 8))
    assert host.gate.unused == ["z#1"]
    host.go_round(30)
    (z,) = host.ask("z#1")
    host.go_round(30)
    assert z.got == 8
    assert host.started == ["b#1"]


def test_the_gate_is_deciding_until_it_has_delivered_and_started_all() -> None:
    host = Host(call("a#1", 5))
    assert not host.gate.is_deciding
    a, _ = host.ask("a#1", "b#1")
    assert host.gate.is_deciding
    host.go_round(30)
    assert a.got == 5
    assert host.started == ["b#1"]
    assert not host.gate.is_deciding


def test_a_gate_that_is_closed_decides_nothing_any_more() -> None:
    host = Host(call("a#1", 5))
    host.ask("a#1", "b#1")
    host.gate.closed = True
    assert not host.gate.is_deciding


def test_a_result_waits_again_for_quiet_once_a_task_has_run() -> None:
    quiet, stepped = Host(call("a#1", 5)), Host(call("a#1", 5))
    for host in (quiet, stepped):
        host.ask("a#1")
        (b,) = host.ask("b#1")
        host.go_round(30)
        assert host.started == ["b#1"]
        if host is stepped:
            host.gate.stepped()
        host.gate.recorded(call("b#1", 8))
        assert b.got == (8 if host is quiet else None)
    stepped.go_round(9)
    assert b.got == 8


def test_a_result_after_the_end_is_given_to_nobody() -> None:
    host = Host()
    host.gate.tasks = 1
    (a,) = host.ask("a#1")
    host.gate.closed = True
    host.gate.completed(a, call("a#1", 7))
    host.gate.recorded(call("a#1", 7))
    assert a.got is None
    assert not host.ready
