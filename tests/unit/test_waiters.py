"""Who waits for which event: bookkeeping that comes out even."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stepflow.runtime.events import Waiters

_moves = st.lists(
    st.tuples(
        st.sampled_from(["wait", "unwait", "declare", "undeclare"]),
        st.sampled_from(["e1", "e2"]),
        st.sampled_from(["r1", "r2", "r3"]),
    ),
    max_size=80,
)


@given(_moves)
def test_takers_are_those_that_wait_then_those_that_declared_each_once(
    moves: list[tuple[str, str, str]],
) -> None:
    waiters = Waiters()
    waits: Counter[tuple[str, str]] = Counter()
    declared: set[tuple[str, str]] = set()
    for move, event, run in moves:
        if move == "wait":
            waiters.wait(event, run)
            waits[event, run] += 1
        elif move == "unwait":
            waiters.unwait(event, run)
            waits[event, run] = max(0, waits[event, run] - 1)
        elif move == "declare":
            waiters.declare([event], run)
            declared.add((event, run))
        else:
            waiters.undeclare([event], run)
            declared.discard((event, run))
        for name in ("e1", "e2"):
            takers = waiters.takers(name)
            waiting = {r for (e, r), n in waits.items() if e == name and n}
            keeping = {r for e, r in declared if e == name} - waiting
            assert len(takers) == len(set(takers))
            assert set(takers[: len(waiting)]) == waiting
            assert set(takers[len(waiting) :]) == keeping
            declaring = {r for e, r in declared if e == name}
            assert waiters.count(name) == len(waiting) + len(declaring)
            shown, first = waiters.waiting_for(name, 2)
            assert (shown, list(first)) == (len(waiting), takers[: min(2, len(waiting))])
            for taker in ("r1", "r2", "r3"):
                assert waiters.takes(name, taker) == (taker in takers)
        assert len(waiters) == len([1 for n in waits.values() if n])
        assert set(waiters.events()) == {e for (e, _), n in waits.items() if n}


def test_runs_are_named_in_the_order_in_which_they_began_to_wait() -> None:
    waiters = Waiters()
    for run in ("c", "a", "b"):
        waiters.wait("ev", run)
    waiters.declare(["ev"], "d")
    waiters.wait("ev", "a")
    assert waiters.takers("ev") == ["c", "a", "b", "d"]
    assert waiters.events() == ["ev"]
    assert waiters.waiting_for("ev", 9) == (3, ("c", "a", "b"))
    assert waiters.waiting_for("ev", 2) == (3, ("c", "a"))
    assert waiters.waiting_for("other", 2) == (0, ())
    waiters.wait("alone", "d")
    assert waiters.waiting_for("alone", 2) == (1, ("d",))
    assert waiters.takers("nobody") == []


def test_a_run_that_waits_for_an_event_of_its_own_is_one_row() -> None:
    waiters = Waiters()
    parts = waiters._parts
    tables = [getattr(part, name) for part in parts for name in type(part).__slots__]
    for number in range(100):
        waiters.declare([f"own-{number}"], f"run-{number}")
        waiters.wait(f"own-{number}", f"run-{number}")
        waiters.wait(f"undeclared-{number}", f"run-{number}")
    assert sum(map(len, tables)) == 200
    assert not any(part.shared for part in parts)
    for number in range(100):
        waiters.unwait(f"own-{number}", f"run-{number}")
        assert waiters.takers(f"own-{number}") == [f"run-{number}"]
        waiters.unwait(f"undeclared-{number}", f"run-{number}")
        waiters.undeclare([f"own-{number}"], f"run-{number}")
    assert sum(map(len, tables)) == len(waiters) == 0
