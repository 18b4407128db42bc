"""A schedule is text that can be read back, and the search meets each one once, shortest first."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.testing.schedule import Move, following, parse, text_of

EVENTS = ["paid-1", "paid-1#2", "order.created"]
PLACES = st.integers(1, 10**9 - 1)
MOVES = st.one_of(
    st.builds(Move, st.sampled_from(["kill-before", "kill-after", "cancel"]), PLACES),
    st.builds(Move, st.just("send"), PLACES, st.sampled_from(EVENTS)),
    st.builds(Move, st.just("hold"), st.just(0), st.sampled_from(EVENTS)),
    st.just(Move("replay")),
)


@given(st.lists(MOVES, max_size=5).map(tuple))
def test_what_is_said_can_be_read_back(schedule) -> None:
    assert parse(text_of(schedule), EVENTS) == schedule


def test_nothing_is_the_empty_schedule() -> None:
    assert parse("", []) == parse(" ; ", []) == ()
    assert text_of(()) == ""


@pytest.mark.parametrize("text", ["kill record 5", "kill after record 0", "sleep", "send x"])
def test_what_is_no_move_is_said_with_the_moves_there_are(text) -> None:
    with pytest.raises(ValueError, match="moves are: kill before record N, kill after record N"):
        parse(f"kill after record 2; {text}", EVENTS)


def test_an_event_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no event 'paid-2' in events=; there are: paid-1, "):
        parse("send paid-2 last", EVENTS)


def grown(depth: int, groups: list[int], events: list[str], *, cancel: bool = True) -> list[tuple]:
    level: list[tuple] = [()]
    found = [()]
    for _ in range(depth):
        level = [n for s in level for n in following(s, groups, events, cancel=cancel)]
        found += level
    return found


def test_no_schedule_comes_twice_and_shorter_ones_come_first() -> None:
    found = grown(3, [1, 3, 4], EVENTS[:2])
    assert len(found) == len(set(found))
    lengths = [len(schedule) for schedule in found]
    assert lengths == sorted(lengths)


def test_each_record_has_a_kill_on_both_its_sides() -> None:
    singles = {text_of(s) for s in grown(1, [1, 2, 4], [])}
    assert singles == {
        "",
        "replay after every result",
        "kill after record 1",
        "kill before record 2",
        "kill after record 2",
        "kill before record 3",
        "kill after record 4",
        *(f"cancel after record {n}" for n in (1, 2, 4)),
    }, "a group is on disk whole or not at all; without record 1 there is no run"


def test_each_order_of_two_events_and_a_cancel_is_there() -> None:
    found = grown(3, [1, 2, 3], ["a", "b"])
    three = {"a", "b", "cancel"}
    orders = {
        tuple(move.event or move.kind for move in schedule)
        for schedule in found
        if {move.event or move.kind for move in schedule} == three
        and all(move.at for move in schedule)
    }
    assert orders == set(itertools.permutations(three))


def test_an_event_comes_once_and_is_held_back_or_placed() -> None:
    for schedule in grown(3, [1, 2], ["a"], cancel=False):
        assert [move.event for move in schedule].count("a") <= 1


def test_an_event_may_come_where_the_process_has_just_been_killed() -> None:
    assert parse("kill after record 2; send a after record 2", ["a"]) in grown(2, [1, 2], ["a"])
