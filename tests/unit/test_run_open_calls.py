"""What a run waits for is found at the same cost, however long its history is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.run import ApplyError, CallState, RunState
from tests.unit.run_writer import Writer

MANY = 70


class Untouched(dict[str, CallState]):
    """Calls that nobody may walk through."""

    def values(self) -> Any:
        message = "all calls were looked at"
        raise AssertionError(message)


def long_run() -> Writer:
    w = Writer().start()
    for number in range(MANY):
        w.step(f"s#{number}")
    return w


def wait(w: Writer, key: str, group: str = "") -> None:
    w.write(rec.WaitStarted, key=key, name="e", event="go", due=0, group=group)


def scanned(state: RunState) -> list[CallState]:
    return [c for c in state.calls.values() if c.status == "pending" and not c.cancelled]


def test_a_wake_up_of_a_long_run_looks_at_no_call_but_its_own() -> None:
    w = long_run()
    wait(w, "e#1")
    assert [call.key for call in w.state.pending_calls()] == ["e#1"]
    w.state.calls = Untouched(w.state.calls)
    for number in range(1, 10):
        assert [call.key for call in w.state.pending_calls()] == [f"e#{number}"]
        w.write(rec.WaitResolved, b"1", key=f"e#{number}", payload=1000 + number)
        assert w.state.pending_calls() == []
        wait(w, f"e#{number + 1}")


def test_the_first_of_a_group_in_a_long_run_gives_the_others_up_without_looking_at_all() -> None:
    w = long_run()
    w.state.pending_calls()
    w.state.calls = Untouched(w.state.calls)
    for number in range(0, 20, 2):
        wait(w, f"e#{number}", group=f"g{number}")
        wait(w, f"e#{number + 1}", group=f"g{number}")
        w.write(rec.WaitResolved, b"1", key=f"e#{number + 1}", payload=1000 + number)
        won = w.state.calls[f"e#{number + 1}"]
        assert [call.key for call in w.state.losers(won)] == [f"e#{number}"]
        assert w.state.pending_calls() == []


KEYS = st.sampled_from(["a#1", "b#1", "c#1", "d#1"])
ACTS = st.one_of(
    st.tuples(st.just(rec.StepStarted), KEYS, st.sampled_from(["x", "y"]), st.just("")),
    st.tuples(st.just(rec.WaitStarted), KEYS, st.just(""), st.sampled_from(["", "g", "h"])),
    st.tuples(st.just(rec.StepCompleted), KEYS, st.just(""), st.just("")),
    st.tuples(st.just(rec.StepFailed), KEYS, st.just(""), st.just("")),
    st.tuples(st.just(rec.WaitTimedOut), KEYS, st.just(""), st.just("")),
    st.tuples(st.just(rec.CallCancelled), KEYS, st.just(""), st.just("")),
    st.tuples(st.just(rec.CallAdopted), KEYS, st.just(""), st.just("")),
    st.tuples(st.just(rec.RunFailed), KEYS, st.just(""), st.just("")),
    st.tuples(st.just(rec.RunRetried), KEYS, st.just(""), st.just("")),
)


def fields_of(kind: type[Any], key: str, args: str, group: str, state: RunState) -> dict[str, Any]:
    error = Raw(b'{"type":"E","message":"m"}')
    name = key.partition("#")[0]
    if kind is rec.StepStarted:
        return {"key": key, "name": name, "fn": "f", "args": args, "group": group}
    if kind is rec.WaitStarted:
        return {"key": key, "name": name, "event": "go", "due": 0, "group": group}
    if kind is rec.StepCompleted:
        return {"key": key, "result": Raw(b"1")}
    if kind is rec.StepFailed:
        return {"key": key, "error": error}
    if kind is rec.CallAdopted:
        ended = [call.lsn for call in state.calls.values() if call.lsn]
        return {
            "key": key,
            "name": name,
            "kind": "step",
            "fn": "f",
            "args": args,
            "of": ended[-1] if ended else 0,
        }
    if kind is rec.RunFailed:
        return {"error": error}
    if kind is rec.RunRetried:
        pending = [call.key for call in state.calls.values() if call.status == "failed"]
        return {"crit": True, "forget": tuple(pending[:1]), "again": tuple(pending[1:])}
    return {"key": key}


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTS, max_size=40))
def test_what_is_kept_apart_is_what_a_look_at_all_finds(
    acts: list[tuple[type[Any], str, str, str]],
) -> None:
    w = long_run()
    for kind, key, args, group in acts:
        with suppress(ApplyError):
            w.write(kind, **fields_of(kind, key, args, group, w.state))
        assert w.state.pending_calls() == scanned(w.state)
