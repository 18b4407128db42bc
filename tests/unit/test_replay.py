"""The gate, alone: no loop, no actor, no journal."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.model.run import CallState
from stepflow.runtime.replay import Ask, Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.errors import DivergenceError


def call(key: str, lsn: int, *, fn: str = "f", args: str = "1", kind: Any = "step") -> CallState:
    """A recorded result."""
    state = CallState(key, key.rpartition("/")[2].partition("#")[0], kind, fn, args)
    state.status = "completed"
    state.lsn = lsn
    return state


class Call(Ask):
    """A call that notes what it got."""

    got: int | None = None
    dead: bool = False
    wakes: bool = True

    @property
    def alive(self) -> bool:
        return not self.dead and self.got is None

    def deliver(self, outcome: CallState) -> bool:
        self.got = outcome.lsn
        return self.wakes


def called(key: str, *, fn: str = "f", args: str = "1", rooted: bool = True) -> Call:
    name = key.rpartition("/")[2].partition("#")[0]
    return Call(key, name, "step", fn, args, rooted)


class Host:
    """A loop of passes, and what the gate asked of its actor."""

    def __init__(self, *recorded: CallState, begun: tuple[str, ...] = (), **options: Any) -> None:
        self.ready: deque[Callable[[], None]] = deque()
        self.started: list[str] = []
        self.adopted: list[tuple[str, int]] = []
        self.cancelled = 0
        self.divergence: DivergenceError | None = None
        self.warnings: list[str] = []
        self.next_lsn = 100
        pending = [CallState(key, key, "step", "f", "1") for key in begun]
        self.gate = Gate.of(self, [*recorded, *pending], self.ready.append, **options)
        self.gate.tasks = 2

    def start_calls(self, asks: list[Ask]) -> None:
        self.started += [ask.key for ask in asks]

    def adopt(self, ask: Ask, outcome: CallState) -> None:
        self.adopted.append((ask.key, outcome.lsn))
        outcome.key, outcome.lsn = ask.key, self.next_lsn
        self.next_lsn += 1

    def deliver_cancel(self) -> None:
        self.cancelled += 1

    def diverged(self, error: DivergenceError) -> None:
        self.divergence = error

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def go_round(self, passes: int = 1) -> None:
        for _ in range(passes):
            turn, self.ready = self.ready, deque()
            self.gate._call_soon = self.ready.append  # the loop's new list
            for each in turn:
                each()

    def ask(self, *keys: str, **options: Any) -> list[Call]:
        calls = [called(key, **options) for key in keys]
        for each in calls:
            self.gate.ask([each])
        return calls


def test_a_call_without_any_record_starts_at_once() -> None:
    host = Host()
    host.ask("a#1")
    assert host.started == ["a#1"]


def test_a_recorded_result_is_given_when_the_run_has_been_quiet_for_eight_passes() -> None:
    host = Host(call("a#1", 5))
    (a,) = host.ask("a#1")
    host.go_round(8)
    assert a.got is None
    host.go_round(1)
    assert a.got == 5
    assert not host.started


def test_a_task_that_is_stepped_begins_the_count_anew() -> None:
    host = Host(call("a#1", 5))
    (a,) = host.ask("a#1")
    host.go_round(7)
    host.gate.stepped()
    host.go_round(8)
    assert a.got is None
    host.go_round(1)
    assert a.got == 5


def test_one_task_with_one_call_need_not_count() -> None:
    host = Host(call("a#1", 5))
    host.gate.tasks = 1
    (a,) = host.ask("a#1")
    assert a.got == 5


def test_results_come_one_at_a_time_lowest_lsn_first() -> None:
    host = Host(call("a#1", 9), call("b#1", 7))
    a, b = host.ask("a#1", "b#1")
    host.go_round(9)
    assert (a.got, b.got) == (None, 7)
    host.go_round(9)
    assert a.got == 9


def test_a_result_that_wakes_nobody_is_followed_by_the_next() -> None:
    host = Host(call("a#1", 7), call("b#1", 9))
    a, b = called("a#1"), called("b#1")
    a.wakes = False
    host.gate.ask([a, b])
    host.go_round(9)
    assert (a.got, b.got) == (7, 9)


def test_live_results_go_through_the_same_gate() -> None:
    host = Host()
    a, b = host.ask("a#1", "b#1")
    host.gate.recorded(call("b#1", 8))
    host.gate.recorded(call("a#1", 9))
    assert a.got is b.got is None
    host.go_round(9)
    assert (a.got, b.got) == (None, 8)
    host.go_round(9)
    assert a.got == 9


def test_a_run_known_to_be_quiet_gets_a_live_result_at_once() -> None:
    host = Host(call("z#1", 1))
    (z,) = host.ask("z#1")
    host.go_round(9)
    (a,) = host.ask("a#1")
    host.go_round(20)
    assert z.got == 1
    assert host.started == ["a#1"]
    host.gate.recorded(call("a#1", 9))
    assert a.got is None
    host.go_round(9)
    assert a.got == 9


def test_no_new_call_starts_while_an_asked_for_result_is_outstanding() -> None:
    host = Host(call("a#1", 5))
    host.ask("a#1", "new#1")
    host.go_round(9)
    assert not host.started
    host.go_round(9)
    assert host.started == ["new#1"]


def test_a_result_nobody_asks_for_is_never_waited_for() -> None:
    host = Host(call("gone#1", 5))
    host.ask("new#1")
    host.go_round(9)
    assert host.started == ["new#1"]
    assert host.gate.unused == ["gone#1"]


def test_a_call_in_flight_does_not_take_the_result_of_an_equal_one() -> None:
    # A was in flight, B was recorded, and their calls are equal but for the branch.
    host = Host(call("b/s#1", 5))
    a, b = host.ask("a/s#1", "b/s#1", rooted=False)
    host.go_round(30)
    assert b.got == 5
    assert a.got is None
    assert host.started == ["a/s#1"]
    assert not host.adopted


def test_the_same_call_under_another_key_is_adopted_by_a_record() -> None:
    host = Host(call("old/s#1", 5), call("older/s#1", 4))
    (a,) = host.ask("new/s#1", rooted=False)
    host.go_round(9)
    assert host.adopted == [("new/s#1", 4)]
    assert a.got is None or a.got == 100
    host.go_round(9)
    assert a.got == 100
    assert not host.started


def test_adoptions_are_decided_in_the_order_of_asking() -> None:
    host = Host(call("x/s#1", 5), call("y/s#1", 4))
    host.ask("n1/s#1", "n2/s#1", rooted=False)
    host.go_round(9)
    assert host.adopted == [("n1/s#1", 4), ("n2/s#1", 5)]


def test_other_arguments_in_the_root_warn_and_take_the_result() -> None:
    host = Host(call("s#1", 5))
    (a,) = host.ask("s#1", args="2")
    host.go_round(18)
    assert a.got == 100
    assert "arguments have changed" in host.warnings[0]


@pytest.mark.parametrize("options", [{"strict": True}, {}])
def test_other_arguments_diverge_in_a_branch_and_when_strict(options: Any) -> None:
    host = Host(call("b/s#1", 5), **options)
    host.ask("b/s#1", args="2", rooted=bool(options))
    host.go_round(9)
    assert host.divergence is not None
    assert host.gate.closed


def test_another_function_diverges_and_names_both() -> None:
    host = Host(call("s#1", 5))
    host.ask("s#1", fn="g")
    host.go_round(9)
    assert host.divergence is not None
    assert (host.divergence.recorded, host.divergence.asked) == ("f", "g")


def test_a_declared_renaming_is_no_divergence() -> None:
    host = Host(call("s#1", 5), renamed={"f": "g"})
    (a,) = host.ask("s#1", fn="g")
    host.go_round(18)
    assert host.divergence is None
    assert a.got == 100


def test_a_call_whose_wait_is_dead_is_passed_over() -> None:
    host = Host(call("a#1", 5), call("b#1", 6))
    a, b = host.ask("a#1", "b#1")
    a.dead = True
    host.go_round(9)
    assert (a.got, b.got) == (None, 6)


def test_a_forgotten_call_is_not_started() -> None:
    host = Host(call("a#1", 5))
    _, b = host.ask("a#1", "b#1")
    host.gate.forget([b])
    host.go_round(30)
    assert not host.started


def test_the_cancel_is_heard_in_the_order_of_its_lsn() -> None:
    host = Host(call("a#1", 5), call("b#1", 9))
    host.gate.cancel(7)
    a, b = host.ask("a#1", "b#1")
    host.go_round(9)
    assert (a.got, host.cancelled) == (5, 0)
    host.go_round(9)
    assert (b.got, host.cancelled) == (None, 1)
    host.go_round(9)
    assert b.got == 9


def test_a_closed_gate_gives_nothing_more() -> None:
    host = Host(call("a#1", 5))
    (a,) = host.ask("a#1")
    host.gate.closed = True
    host.go_round(30)
    host.gate.recorded(call("b#1", 6))
    assert a.got is None
    assert not host.ready


def test_a_result_that_came_before_its_call_was_asked_for_is_kept_for_it() -> None:
    host = Host(call("a#1", 5))
    host.ask("a#1")
    host.gate.recorded(call("timer#1", 8))
    (timer,) = host.ask("timer#1")
    host.go_round(18)
    assert timer.got == 8
    assert not host.started


def test_replaying_ends_with_the_first_call_that_was_not_begun_before() -> None:
    host = Host(call("a#1", 5), begun=["b#1"])
    assert host.gate.replaying
    host.ask("a#1")
    host.go_round(9)
    assert host.gate.replaying
    host.ask("b#1")
    host.go_round(9)
    assert not host.gate.replaying


def test_a_run_without_records_is_not_replaying() -> None:
    assert not Host().gate.replaying
