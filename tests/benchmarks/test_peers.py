"""Ours and the ceilings must run; another engine may be missing, and is named.

The other engines themselves are in an environment of their own (`make peers-env`).
"""

from __future__ import annotations

import pytest

from benchmarks.peers import __main__ as peers

HERE = {peers.OURS, peers.OURS_HTTP, "bare loop", "bare Starlette echo"}


def figures(rate):
    return {"runs": rate, "seconds": 1.0, "p50_ms": 1.0, "p99_ms": 2.0}


@pytest.fixture
def pretend(monkeypatch):
    """Let each contestant give what the test says, or raise it."""

    def so(**outcomes):
        def measured(who, seconds):
            outcome = outcomes.get(who.name.replace(" ", "_"), 10)
            if isinstance(outcome, Exception):
                raise outcome
            return {n: figures(outcome) for n in who.in_flight}

        monkeypatch.setattr(peers, "measured", measured)

    return so


def test_who_cannot_be_started_is_left_out_and_named(pretend):
    pretend(Restate_over_HTTP=FileNotFoundError(2, "No such file", "restate-server"))
    seen, left_out = peers.measure(2, 1.0)
    assert "restate-server" in left_out.pop("Restate over HTTP")
    assert left_out == {}
    assert "Restate over HTTP" not in seen
    assert len(seen["DBOS, SQLite"][64]) == 2


def test_ours_is_never_left_out(pretend):
    pretend(stepflow=RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        peers.measure(1, 1.0)


def test_what_takes_calls_over_http_is_beside_ours_over_http_too(pretend):
    pretend(stepflow=4000, stepflow_over_HTTP=1000, Restate_over_HTTP=100)
    seen, _ = peers.measure(3, 1.0)
    who = next(who for who in peers.CONTESTANTS if who.name == "Restate over HTTP")
    shown = peers._shown(who, seen)
    assert shown["64"]["ours_to_it"]["values"] == [40.0, 40.0, 40.0]
    assert shown["64"]["ours_over_http_to_it"]["median"] == 10.0


def test_each_contestant_says_what_makes_it_durable():
    assert all(who.durability for who in peers.CONTESTANTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "who", [who for who in peers.CONTESTANTS if who.name in HERE], ids=lambda who: who.name
)
def test_ours_and_the_ceilings_run_and_give_the_workflows_result(who):
    seen = peers.measured(who, 0.2)
    assert set(seen) == set(who.in_flight)
    assert all(figure["runs"] >= n for n, figure in seen.items())
