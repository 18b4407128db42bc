from __future__ import annotations

import random

import pytest

from benchmarks.histogram import Histogram


def test_a_percentile_is_within_two_percent_of_the_exact_one():
    dice = random.Random(7)
    values = sorted(dice.lognormvariate(0, 2) for _ in range(20_000))
    kept = Histogram()
    for value in values:
        kept.add(value)
    for part in (0.5, 0.99, 0.999):
        assert kept.percentile(part) == pytest.approx(values[int(len(values) * part) - 1], rel=0.02)
    assert kept.count == 20_000
    assert kept.longest_ms == values[-1]


def test_no_percentile_lies_above_the_longest():
    kept = Histogram()
    kept.add(5.0)
    assert kept.percentile(0.999) <= 5.0


def test_what_is_empty_has_percentiles_of_nought():
    assert Histogram().percentile(0.5) == 0.0


def test_the_shortest_and_the_longest_have_a_bucket():
    kept = Histogram()
    kept.add(0.0)
    kept.add(1e9)
    assert kept.count == 2
    assert kept.percentile(0.1) <= 1e-3 * 1.02


def test_coarse_edges_take_every_value_once():
    kept = Histogram()
    for value in (0.05, 0.5, 0.6, 5.0, 50.0):
        kept.add(value)
    assert kept.coarse((0.1, 1.0, 10.0)) == [1, 2, 1, 1]
