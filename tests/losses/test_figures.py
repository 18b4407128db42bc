"""The figures of the report: silences and take-overs as they are read from outside."""

from __future__ import annotations

import pytest

from tests.losses.losses import Kill, Seen, longest_step, silence


def test_a_silence_is_the_longest_time_without_a_word_to_anyone():
    told = [0.5, 9.0, 10.1, 10.2, 12.0, 13.5, 14.9, 30.0]
    assert silence(told, 10.0, 15.0) == pytest.approx(1.8)
    assert silence([9.0, 11.0, 12.0], 10.0, 15.0) == pytest.approx(1.0), "the load was over"
    assert silence([20.0], 10.0, 15.0) == pytest.approx(5.0), "nothing was told at all"


def test_a_take_over_is_that_of_the_run_that_waited_longest():
    steps = {
        "run_a": [9.5, 10.1, 10.2],
        "run_b": [9.9, 13.0],
        "run_c": [1.0, 20.0],  # it did nothing before: it waits for something else
        "run_d": [9.9],  # it has ended
    }
    assert longest_step(steps, 10.0) == pytest.approx(3.0)
    assert longest_step({}, 10.0) is None


def test_the_report_says_what_was_lost():
    counts = dict.fromkeys(["runs", "letters", "cancels", "ends", "steps", "events"], 1000)
    good = Seen({**counts, "faults": []}, [Kill("worker-1", 0.0, 2.0, 0.5, 3.25)])
    told, kill = good.lines()
    assert told == (
        "told to clients: 1,000 runs, 1,000 events, 1,000 cancels, 1,000 ends, 1,000 results, "
        "1,000 events of streams: zero losses"
    )
    assert kill == (
        "kill -9 of worker-1  the longest silence was 0.50 s; its runs went on within 3.25 s; "
        "away for 2.00 s"
    )
    bad = Seen({**counts, "faults": ["acknowledged run run_x is lost"]}).lines()
    assert bad[0].endswith(": 1 losses")
    assert bad[-1] == "acknowledged run run_x is lost"
